"""OpenVINO as a runner: as exact as torch, proved before it is used, and silent. Towers: test_compile_contract.py."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.families.towers import Tower, open_tower
from models.runners import openvino_encoder
from models.runners.encoder import EncoderSource, OnnxEncoder, export_encoder
from models.runners.openvino_encoder import (
    PROOF_FILE,
    RUNNER,
    OpenVinoEncoder,
    demand_openvino,
    open_openvino,
)
from pipeline.errors import StopRun

SIDE = 48


class Network(nn.Module):
    """A convolution, a normalisation over a whole window, and a rectifier, with random weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4, affine=True), nn.LeakyReLU(0.01)
        )

    def forward(self, patch: Tensor) -> tuple[Tensor]:
        return (self.layers(patch),)


def network() -> nn.Module:
    return Network().eval()


def window() -> np.ndarray:
    """One bright window: its values lie far from zero, as those of a CT do."""
    values = np.random.default_rng(0).normal(3, 1, (2, 1, SIDE, SIDE, SIDE))
    return values.astype(np.float32)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "encoder.onnx"
    export_encoder(EncoderSource(network(), {"patch": window()}, ("logits",)), path)
    return path


@pytest.fixture(scope="module")
def opened(graph: Path) -> Iterator[OpenVinoEncoder]:
    encoder = open_openvino(graph, threads=2)
    assert encoder is not None
    with encoder:
        yield encoder


def test_means_over_a_window_keep_their_digits(opened: OpenVinoEncoder) -> None:
    given = window()
    with torch.inference_mode():
        exact = network().double()(torch.from_numpy(given).double())[0].numpy()
    found = opened.encode({"patch": given})["logits"]
    assert found.dtype == np.float32
    assert np.abs(found - exact).max() / np.abs(exact).max() < 3e-6


def test_rows_do_not_depend_on_those_beside_them(opened: OpenVinoEncoder) -> None:
    given = window()
    both = opened.encode({"patch": given})["logits"]
    assert np.array_equal(both[1:], opened.encode({"patch": given[1:]})["logits"])
    five = opened.encode({"patch": np.concatenate([given, given, given[:1]])})["logits"]
    assert np.array_equal(five, np.concatenate([both, both, both[:1]]))


def test_a_proof_is_kept_for_this_graph_alone(graph: Path, opened: OpenVinoEncoder) -> None:
    proof = graph.with_name(PROOF_FILE)
    told = json.loads(proof.read_text())
    assert 0 <= told["error"] < 1e-4
    proof.write_text(json.dumps({"of": told["of"], "error": 0.5}))
    assert (
        open_openvino(graph, threads=1) is None
    )  # what is kept is believed: this graph was found to be wrong
    proof.write_text(json.dumps({"of": [*told["of"][:2], "another graph"], "error": 0.5}))
    again = open_openvino(graph, threads=1)
    assert again is not None
    again.__exit__(None, None, None)
    assert json.loads(proof.read_text())["of"] == told["of"]


def test_what_is_named_runs(tmp_path: Path) -> None:
    source = EncoderSource(network(), {"patch": window()}, ("logits",))
    tower = Tower("made", {"made": "0"}, (), lambda: source, lambda: source, 1000, convolving=True)
    plain = Tower("made", {"made": "0"}, (), lambda: source, lambda: source, 1000)
    for one, wanted, runner in (
        (tower, "", RUNNER),
        (tower, "onnxruntime-cpu", "onnxruntime-cpu"),
        (plain, "", "onnxruntime-cpu"),
        (plain, RUNNER, RUNNER),
    ):
        encoder, parts = open_tower(one, tmp_path, wanted, 1)
        with encoder:
            assert (encoder.runner, "openvino" in parts) == (runner, runner == RUNNER)


def test_what_is_named_and_cannot_run_stops_the_run(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = Path(shutil.copy(graph, tmp_path))
    demand_openvino(copied, lambda: {"patch": window()}, threads=1).__exit__(None, None, None)
    proof = copied.with_name(PROOF_FILE)
    proof.write_text(json.dumps(json.loads(proof.read_text()) | {"error": 0.5}))
    with pytest.raises(StopRun, match=r"5\.0e-01 away .* change model\.require_runner"):
        demand_openvino(copied, dict, threads=1)
    copied.write_bytes(b"no graph")
    with pytest.raises(StopRun, match="does not run this network"):
        demand_openvino(copied, dict, threads=1)

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(openvino_encoder, "version", absent)
    with pytest.raises(StopRun, match=r"pip install 'firstread\[openvino\]'"):
        demand_openvino(graph, dict, threads=1)


def test_what_it_does_not_read_is_left_to_onnx_runtime(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no graph")
    assert open_openvino(path) is None
    assert "ONNX Runtime does, slower" in caplog.text


def test_nothing_is_sent_when_it_is_imported(graph: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from models.runners.openvino_encoder import OpenVinoEncoder\n"
        "OpenVinoEncoder(Path(sys.argv[1]), threads=1).__exit__(None, None, None)\n"
        "from openvino.tools import ovc\n"
        "print(type(ovc.telemetry).__module__, 'openvino_telemetry' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(graph)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "False"]


def test_onnx_runtime_gives_the_same(graph: Path, opened: OpenVinoEncoder) -> None:
    given = {"patch": window()}
    with OnnxEncoder(graph, threads=1) as other:
        assert np.allclose(opened.encode(given)["logits"], other.encode(given)["logits"], atol=1e-4)
