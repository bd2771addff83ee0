"""Attention over many positions has a graph of its own on ONNX Runtime's CPU: when, and that it computes the same."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from models.runners.encoder import (
    TOLERANCE,
    EncoderSource,
    Lengths,
    OnnxEncoder,
    TorchEncoder,
    export_encoder,
    largest_error,
)
from models.runners.long_attention import LONG, cpu_graph

WIDTH, HEADS = 24, 2


class Attention(nn.Module):
    """One layer of attention; ``turned`` scales queries and keys head by head as rotary positions do."""

    def __init__(self, *, turned: bool, masked: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.joined, self.turned, self.masked = nn.Linear(WIDTH, 3 * WIDTH), turned, masked

    def forward(self, states: Tensor) -> tuple[Tensor]:
        if self.turned:
            parts = self.joined(states).unflatten(-1, (3, HEADS, -1)).unbind(2)
            parts = (parts[0].cos(), parts[1].sin(), parts[2])
        else:
            parts = tuple(part.unflatten(-1, (HEADS, -1)) for part in self.joined(states).chunk(3, -1))
        query, key, value = (part.transpose(1, 2) for part in parts)
        mask = states[:, None, :, :1] * 0 - states[:, None, None, :, 0] if self.masked else None
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return (seen.transpose(1, 2).flatten(2),)


def source(positions: int, network: Attention, lengths: Lengths | None = None) -> EncoderSource:
    states = np.random.default_rng(0).standard_normal((3, positions, WIDTH), np.float32) * 3
    return EncoderSource(network.eval(), {"states": states}, ("seen",), lengths)


def operators(graph: Path) -> list[str]:
    return [node.op_type for node in onnx.load(str(graph)).graph.node]


@pytest.mark.parametrize(
    ("positions", "lengths", "turned"),
    [
        (LONG, None, False),
        (LONG + 77, None, True),
        (76, Lengths("positions", 4, 16, 64, 2048), True),  # of any number, so perhaps of many
    ],
)
def test_many_positions_have_a_graph_of_their_own(
    tmp_path: Path, positions: int, lengths: Lengths | None, turned: bool
) -> None:
    graph, made = tmp_path / "encoder.onnx", source(positions, Attention(turned=turned), lengths)
    assert export_encoder(made, graph) <= TOLERANCE
    assert "MultiHeadAttention" in operators(cpu_graph(graph))
    assert "MultiHeadAttention" not in operators(graph), "this one every runner reads"
    assert "Transpose" not in operators(graph), "heads are split and joined by the operator"
    with OnnxEncoder(graph, threads=2) as encoder, TorchEncoder(made) as network:
        together = encoder.encode(made.inputs)
        assert largest_error(together, network.encode(made.inputs)) <= TOLERANCE
        for row in range(3):
            alone = encoder.encode({"states": made.inputs["states"][row : row + 1]})
            assert np.array_equal(alone["seen"][0], together["seen"][row])
        if lengths is not None:
            long = source(3 * LONG, Attention(turned=turned))
            assert largest_error(encoder.encode(long.inputs), network.encode(long.inputs)) <= TOLERANCE


def test_few_positions_and_masks_have_one_graph(tmp_path: Path) -> None:
    for name, made in {
        "few": source(LONG - 1, Attention(turned=False)),
        "masked": source(LONG, Attention(turned=True, masked=True)),
    }.items():
        graph = tmp_path / f"{name}.onnx"
        export_encoder(made, graph)
        assert not cpu_graph(graph).exists()


def test_it_is_the_second_graph_that_runs_on_the_cpu(tmp_path: Path) -> None:
    graph = tmp_path / "encoder.onnx"
    export_encoder(source(LONG, Attention(turned=False)), graph)
    graph.write_bytes(b"read by the other runners alone")
    with OnnxEncoder(graph, threads=1) as encoder:
        assert encoder.runner == "onnxruntime-cpu"
