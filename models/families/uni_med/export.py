"""Uni-Med's encoder (tower, aggregation and connector, the task as an input) as a graph; needs torch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from models.networks.uni_med import UniMedEncoder
from models.runners.encoder import EncoderSource
from models.weight_loading.verified import fixed_pixels

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
        weights = self.network.parameters()
        return (self.network(pixels.to(next(weights).dtype), task).float(),)


def encoder_source(network: UniMedEncoder) -> EncoderSource:
    """The encoder to export."""
    return EncoderSource(
        _Graph(network).eval(), fixed_inputs(network.config.vision.image_size), ("features",)
    )
