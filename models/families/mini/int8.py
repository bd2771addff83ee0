"""firstread-mini's encoder in 8 bits, for a site that chose it: ``model.precision = "int8"``.

Its convolutions are measured on simulated films, which the package draws itself: no films of a site go into a graph.
What it does to the drafts is in the model card.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from models.runners.encoder import OnnxEncoder
from models.runners.quantize import INT8_FILE, behind_another, quantised_graph
from models.weight_loading.verified import file_digest
from pipeline.errors import ConfigurationError

FINEST, SMALL = 5, 65_536
"""Convolutions on the finest grids, behind the one that reads the film, and the weights below which a product is
small: both stay in float32, as do convolutions of one pixel. They take little time, and places are read from them."""
LABELS = "labels."
"""How the names of the label networks' weights begin."""
EXAMPLES, BATCH = 64, 8
"""Films that the convolutions are measured on, and how many at a time."""
PRECISIONS = ("auto", "fp32", "int8")
"""What ``model.precision`` may be for this model; "auto" is fp32."""
RUNNER = "onnxruntime-cpu"


def check_precision(precision: str, require_runner: str) -> None:
    """Raises ConfigurationError for a precision that this model does not run in, or not on the runner demanded."""
    if precision not in PRECISIONS:
        message = (
            f"firstread-mini runs in {', '.join(PRECISIONS)}: model.precision {precision!r} is not among them"
        )
        raise ConfigurationError("precision", message)
    if precision == "int8" and require_runner not in ("", RUNNER):
        message = (
            f"firstread-mini runs in int8 on {RUNNER} alone, not on {require_runner}: change model.precision"
        )
        raise ConfigurationError("precision", message)


def open_small_encoder(graph: Path, size: int, threads: int) -> tuple[OnnxEncoder, dict[str, str]]:
    """The 8-bit encoder made of ``graph``, for films of ``size`` pixels a side, and its part of the recipe.

    Raises StopRun as ``quantised_graph``.
    """
    made = quantised_graph(graph, lambda: example_films(size), exact_nodes)
    return OnnxEncoder(made, threads=threads), {f"graph/{INT8_FILE}": file_digest(made), "precision": "int8"}


def exact_nodes(graph: onnx.GraphProto) -> frozenset[str]:
    """The nodes of the encoder that stay in float32: the label networks' too, which are small."""
    weights = {constant.name: list(constant.dims) for constant in graph.initializer}
    shapes = {node.name: weights.get(node.input[1], []) for node in graph.node if len(node.input) > 1}
    pixels = {name for name, shape in shapes.items() if len(shape) == 4 and shape[2:] == [1, 1]}
    small = {name for name, shape in shapes.items() if len(shape) == 2 and math.prod(shape) < SMALL}
    labels = {node.name for node in graph.node if any(name.startswith(LABELS) for name in node.input)}
    return frozenset(behind_another(graph.node)[:FINEST]) | pixels | small | labels


def example_films(size: int) -> Iterator[dict[str, NDArray[Any]]]:
    """Simulated films [BATCH, 1, size, size], 0..1, the same on every machine."""
    from models.simulation.film import MAX_VALUE, render  # needs torch, and only a first start needs that

    for first in range(0, EXAMPLES, BATCH):
        films = [render(seed, size=size).pixels for seed in range(first, first + BATCH)]
        yield {"pixels": np.stack(films)[:, None].astype(np.float32) / MAX_VALUE}
