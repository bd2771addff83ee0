"""Rewriting an exported graph: what is put together, what is left alone, and that results stay."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from models.runners.encoder import EncoderSource, export_encoder

WIDTH, HEADS, LONG = 12, 3, 5
EXACT = 1e-6


class _Block(torch.nn.Module):
    """Attention over [n, s, WIDTH], written as towers of transformers write it."""

    def __init__(self, *, flat: bool = False, hides: bool | None = None) -> None:
        """``flat``: the heads are joined to [n * s, WIDTH]. ``hides``: whether its mask hides something."""
        super().__init__()
        torch.manual_seed(1)
        self.query, self.key, self.value, self.out = (torch.nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.flat, self.hides = flat, hides

    def heads(self, states: torch.Tensor) -> torch.Tensor:
        return states.view(states.shape[0], -1, HEADS, WIDTH // HEADS).transpose(1, 2)

    def forward(self, states: torch.Tensor) -> tuple[torch.Tensor]:
        mask = None
        if self.hides is not None:
            mask = torch.ones(LONG, LONG, dtype=torch.bool)
            if self.hides:
                mask = mask.tril()
            mask = mask[None, None].expand(states.shape[0], 1, -1, -1)
        query, key, value = (self.heads(part(states)) for part in (self.query, self.key, self.value))
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(
            1, 2
        )
        shape = (-1, WIDTH) if self.flat else (states.shape[0], -1, WIDTH)
        return (self.out(mixed.reshape(shape)).reshape(states.shape),)


def export(module: torch.nn.Module, path: Path, *shape: int) -> Counter[str]:
    """How often each operator is in the graph, whose results are those of torch."""
    states = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    error = export_encoder(EncoderSource(module.eval(), {"states": states}, ("features",)), path)
    assert error <= EXACT
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("hides", [None, False])
def test_attention_splits_its_heads_itself(tmp_path: Path, hides: bool | None) -> None:
    found = export(_Block(hides=hides), tmp_path / "encoder.onnx", 2, LONG, WIDTH)
    assert found["Attention"] == 1
    assert found["Gemm"] == 4
    assert not found.keys() & {"Transpose", "MatMul", "Add", "Expand", "Softmax"}


def test_a_mask_that_hides_something_stays(tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    assert export(_Block(hides=True), path, 2, LONG, WIDTH)["Attention"] == 1
    (attention,) = [node for node in onnx.load(path).graph.node if node.op_type == "Attention"]
    assert len(attention.input) == 4


def test_heads_that_are_joined_otherwise_are_not_turned(tmp_path: Path) -> None:
    found = export(_Block(flat=True), tmp_path / "encoder.onnx", 2, LONG, WIDTH)
    assert found["Attention"] == 1
    assert "Transpose" not in found


class _Layer(torch.nn.Module):
    """A product and what is added to it."""

    def __init__(self, bias: tuple[int, ...]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.matrix = torch.nn.Parameter(torch.randn(WIDTH, WIDTH + 1))
        self.bias = torch.nn.Parameter(torch.randn(bias))

    def forward(self, states: torch.Tensor) -> tuple[torch.Tensor]:
        return (states @ self.matrix + self.bias,)


@pytest.mark.parametrize("shape", [(2, WIDTH), (2, LONG, WIDTH), (2, 3, LONG, WIDTH)])
def test_a_product_and_its_bias_are_one(tmp_path: Path, shape: tuple[int, ...]) -> None:
    found = export(_Layer((WIDTH + 1,)), tmp_path / "encoder.onnx", *shape)
    assert found["Gemm"] == 1
    assert not found.keys() & {"MatMul", "Add"}


def test_what_is_added_by_position_is_no_bias(tmp_path: Path) -> None:
    found = export(_Layer((LONG, WIDTH + 1)), tmp_path / "encoder.onnx", 2, LONG, WIDTH)
    assert (found["Gemm"], found["MatMul"], found["Add"]) == (0, 1, 1)
