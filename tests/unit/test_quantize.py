"""The 8-bit encoder: near the exact one, made once, and honest about the CPU."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from models.runners.encoder import EncoderSource, OnnxEncoder, export_encoder
from models.runners.quantize import INT8_TOLERANCE, has_vnni, quantised_graph
from pipeline.errors import StopRun


class _Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Linear(32, 64), torch.nn.Linear(64, 16)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.second(torch.nn.functional.gelu(self.first(tokens))),)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "encoder.onnx"
    tokens = np.random.default_rng(0).standard_normal((2, 5, 32)).astype(np.float32)
    export_encoder(EncoderSource(_Block(), {"tokens": tokens}, ("features",)), path)
    return path


def test_the_quantised_encoder_is_near_the_exact_one_and_not_the_same(graph: Path) -> None:
    inputs = {"tokens": np.random.default_rng(1).standard_normal((6, 5, 32)).astype(np.float32)}
    with OnnxEncoder(graph, threads=1) as exact, OnnxEncoder(quantised_graph(graph), threads=1) as small:
        wanted, got = (encoder.encode(inputs)["features"] for encoder in (exact, small))
    error = np.abs(got - wanted).max() / np.abs(wanted).max()
    assert 0 < error < INT8_TOLERANCE


def test_it_is_made_once(graph: Path) -> None:
    made = quantised_graph(graph)
    stamp = made.stat().st_mtime_ns
    assert quantised_graph(graph) == made
    assert made.stat().st_mtime_ns == stamp
    assert not list(graph.parent.glob(".making-*"))


def test_what_is_no_graph_stops_the_run(tmp_path: Path) -> None:
    broken = tmp_path / "encoder.onnx"
    broken.write_bytes(b"not a graph")
    with pytest.raises(StopRun, match="fp32"):
        quantised_graph(broken)
    assert list(tmp_path.iterdir()) == [broken]


@pytest.mark.parametrize(
    ("flags", "known"), [("fpu avx2 avx512_vnni", True), ("avx2 avx_vnni", True), ("fpu avx2", False)]
)
def test_the_cpu_is_asked_for_vnni(flags: str, known: bool) -> None:
    assert has_vnni(flags) is known


def test_what_a_family_names_stays_as_it_is(graph: Path) -> None:
    inputs = {"tokens": np.random.default_rng(1).standard_normal((6, 5, 32)).astype(np.float32)}
    products = [node.name for node in onnx.load(graph).graph.node if node.op_type in ("MatMul", "Gemm")]
    assert len(products) == 2
    errors = []
    for kept in (products[:0], products[:1], products):
        made = quantised_graph(graph, exact=lambda _, kept=kept: frozenset(kept))  # type: ignore[misc]
        with OnnxEncoder(graph, threads=1) as exact, OnnxEncoder(made, threads=1) as small:
            wanted, got = (encoder.encode(inputs)["features"] for encoder in (exact, small))
        errors.append(np.abs(got - wanted).max())
    assert errors[0] > errors[1] > errors[2] == 0
