"""Uni-Med's encoder (tower, aggregation and connector, the task as an input) as a graph; needs torch."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from models.encoder import TOLERANCE, EncoderSource, export_encoder
from models.graph_cache import ENCODER_FILE, Exported
from models.loading import fixed_pixels
from models.networks.uni_med import UniMedEncoder, load_encoder

FIXED_IMAGES = 2


def fixed_inputs(size: int) -> dict[str, NDArray[Any]]:
    """Two images of a fixed pattern about zero, for the first task."""
    pixels = fixed_pixels((FIXED_IMAGES, 3, size, size)) * 4 - 2
    return {"pixels": pixels, "task": np.zeros(FIXED_IMAGES, np.int64)}


class _Graph(nn.Module):
    """The encoder with its one output named."""

    def __init__(self, network: UniMedEncoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor, task: Tensor) -> tuple[Tensor]:
        return (self.network(pixels, task),)


def encoder_source(network: UniMedEncoder) -> EncoderSource:
    """The encoder to export."""
    return EncoderSource(
        _Graph(network).eval(), fixed_inputs(network.config.vision.image_size), ("features",)
    )


def export_graph(weights: Path, folder: Path) -> Exported:
    """Write the encoder's graph of the weights folder into ``folder``."""
    network = load_encoder(weights)
    error = export_encoder(encoder_source(network), folder / ENCODER_FILE)
    return Exported(error, TOLERANCE, None, {"image_size": network.config.vision.image_size})
