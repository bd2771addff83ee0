"""Vision encoder of firstread-mini: a film in, visual tokens, region heat maps and presence scores out."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDES = ("right", "left")
"""The patient's sides, in the order of their index; the patient's right is on the left of the image."""


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """Shape of the encoder. ``image_size`` is a multiple of 32; ``widths`` are the channels at strides 2 to 16."""

    image_size: int = 192
    kinds: int = 7
    widths: tuple[int, int, int, int] = (24, 48, 96, 192)
    token_width: int = 256
    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        """Raise ValueError where the strides do not divide the image."""
        if self.image_size % 32:
            raise ValueError("image_size must be a multiple of 32")

    @property
    def heat_size(self) -> int:
        """Cells along one side of a heat map; a cell covers 8 x 8 input pixels."""
        return self.image_size // 8

    @property
    def pooled_width(self) -> int:
        """Numbers that sum up a film at strides 4, 8, 16 and 32."""
        return 2 * (sum(self.widths[1:]) + self.token_width)

    @property
    def slot_count(self) -> int:
        """Tokens of findings: one per kind and side."""
        return len(SIDES) * self.kinds

    @property
    def token_count(self) -> int:
        """Visual tokens per image: two slots per kind (one per side), then the 32-pixel grid row by row."""
        return len(SIDES) * self.kinds + (self.image_size // 32) ** 2


class VisionOutput(NamedTuple):
    """What the tower gives for n images.

    ``tokens`` [n, token_count, token_width]; ``heat`` logits [n, kinds, heat_size, heat_size];
    ``presence`` logits [n, kinds, 3] for present at all, present on the patient's right, on the left (on a lateral
    film: in front, behind); ``features`` [n, widths[2], heat_size, heat_size]; ``geometry`` [n, kinds, 2, 5], centre,
    spread and root of the hot area per slot; ``pooled`` [n, pooled_width], mean and standard deviation over the film of
    the features at strides 4 to 32; ``cells`` [n, widths[2], image_size / 32, image_size / 32], the features at stride
    8 averaged over squares of 32 pixels.
    """

    tokens: Tensor
    heat: Tensor
    presence: Tensor
    features: Tensor
    geometry: Tensor
    pooled: Tensor
    cells: Tensor


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside an identity path."""

    def __init__(self, width: int) -> None:
        """Build for ``width`` channels in and out."""
        super().__init__()
        self.first = _convolution(width, width, 3, 1)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, features: Tensor) -> Tensor:
        """Same shape out as in."""
        return functional.relu(features + self.norm(self.second(self.first(features))))


class AttentionBlock(nn.Module):
    """Pre-norm self-attention and feed-forward over grid tokens."""

    def __init__(self, width: int, heads: int) -> None:
        """Build for tokens of ``width``, a multiple of ``heads``."""
        super().__init__()
        self.heads = heads
        self.attention_norm, self.forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [n, t, width] to the same shape."""
        mixed = self.query_key_value(self.attention_norm(tokens)).unflatten(-1, (3, self.heads, -1))
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.out(attended)
        fed: Tensor = self.feed_forward(self.forward_norm(tokens))
        return tokens + fed


def _cell_centres(size: int) -> Tensor:
    """Position (x, y) of every heat map cell, row by row, -1 to 1: [size * size, 2]."""
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    down, across = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([across.flatten(), down.flatten()], dim=-1)


class FindingSlots(nn.Module):
    """One token per kind and side: what lies where the kind's heat map is hot, and where and how large that is."""

    cells: Tensor

    def __init__(self, config: VisionConfig, width: int) -> None:
        """Build over features of ``width`` channels on the heat map's grid."""
        super().__init__()
        self.kinds, cells = config.kinds, config.heat_size**2
        across = torch.linspace(-1, 1, config.heat_size).repeat(config.heat_size)
        start = torch.stack([-across, across]) * 2
        self.side_bias = nn.Parameter(start.repeat(config.kinds, 1).reshape(config.kinds, len(SIDES), cells))
        self.position = nn.Parameter(torch.randn(cells, width) * 0.02)
        self.value = nn.Linear(width, config.token_width)
        self.slot = nn.Parameter(torch.randn(config.kinds, len(SIDES), config.token_width) * 0.02)
        self.evidence = nn.Parameter(torch.randn(config.kinds, len(SIDES), config.token_width) * 0.02)
        self.register_buffer("cells", _cell_centres(config.heat_size), persistent=False)
        self.geometry = nn.Linear(5, config.token_width)
        self.norm = nn.LayerNorm(config.token_width)
        self.presence = nn.Sequential(
            nn.Linear(len(SIDES) * config.token_width, config.token_width),
            nn.GELU(),
            nn.Linear(config.token_width, 3),
        )

    def forward(self, features: Tensor, heat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Slots [n, 2 * kinds, token_width], presence and geometry from features [n, width, g, g] and heat."""
        scores = heat.flatten(2)[:, :, None] + self.side_bias
        attention = torch.softmax(scores, dim=-1)
        strength = (attention * heat.flatten(2)[:, :, None]).sum(dim=-1, keepdim=True)
        cells = features.flatten(2).transpose(1, 2) + self.position
        gathered = self.value(attention.flatten(1, 2) @ cells).unflatten(1, (self.kinds, len(SIDES)))
        geometry = self._measure(attention, heat)
        slots = self.norm(gathered + self.geometry(geometry) + self.slot + self.evidence * strength)
        return slots.flatten(1, 2), self.presence(slots.flatten(2)), geometry

    def _measure(self, attention: Tensor, heat: Tensor) -> Tensor:
        """Centre (x, y), spread (x, y) and root of the hot area, each about -1 to 1: [n, kinds, 2, 5]."""
        centre = (attention[..., None] * self.cells).sum(dim=-2)
        offset = self.cells - centre[..., None, :]
        spread = ((attention[..., None] * offset.square()).sum(dim=-2) + 1e-4).sqrt()
        area = (torch.sigmoid(heat).mean(dim=(2, 3)) + 1e-4).sqrt()
        area = area[:, :, None, None].expand(-1, -1, len(SIDES), 1)
        return torch.cat([centre, spread, area], dim=-1)


class VisionTower(nn.Module):
    """Convolutional pyramid with attention at the coarsest grid and heat maps at an eighth of the image size."""

    def __init__(self, config: VisionConfig) -> None:
        """Build with random weights."""
        super().__init__()
        self.config = config
        w2, w4, w8, w16 = config.widths
        self.stride4 = nn.Sequential(_convolution(1, w2, 5, 2), _convolution(w2, w4, 3, 2), ResidualBlock(w4))
        self.stride8 = nn.Sequential(_convolution(w4, w8, 3, 2), ResidualBlock(w8), ResidualBlock(w8))
        self.stride16 = nn.Sequential(_convolution(w8, w16, 3, 2), ResidualBlock(w16), ResidualBlock(w16))
        self.patch = nn.Conv2d(w16, config.token_width, 2, 2)
        grid = config.image_size // 32
        self.position = nn.Parameter(torch.randn(1, grid**2, config.token_width) * 0.02)
        self.blocks = nn.Sequential(
            *(AttentionBlock(config.token_width, config.heads) for _ in range(config.layers))
        )
        self.norm = nn.LayerNorm(config.token_width)
        self.from16 = nn.Conv2d(w16, w8, 1)
        self.from32 = nn.Conv2d(config.token_width, w8, 1)
        self.merge = _convolution(w8, w8, 3, 1)
        self.heat = nn.Conv2d(w8, config.kinds, 1)
        self.slots = FindingSlots(config, w8)
        nn.init.constant_(self.heat.bias, -3.0)  # type: ignore[arg-type]

    def forward(self, pixels: Tensor) -> VisionOutput:
        """Encode films [n, 1, image_size, image_size], 0 (air) to 1 (bone); any linear scale gives the same result."""
        centred = pixels - pixels.mean(dim=(1, 2, 3), keepdim=True)
        scale = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + 1e-3
        finest = self.stride4(centred / scale)
        fine = self.stride8(finest)
        middle = self.stride16(fine)
        patches = self.patch(middle)
        grid = self.norm(self.blocks(patches.flatten(2).transpose(1, 2) + self.position))
        square = grid.transpose(1, 2).reshape(patches.shape)
        coarse = self.from32(square)
        context = self.from16(middle) + functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        features = self.merge(fine + functional.interpolate(context, scale_factor=2.0, mode="nearest"))
        heat = self.heat(features)
        slots, presence, geometry = self.slots(features, heat)
        pooled = _pooled([finest, fine, middle, square])
        tokens, cells = torch.cat([slots, grid], dim=1), functional.avg_pool2d(fine, 4)
        return VisionOutput(tokens, heat, presence, features, geometry, pooled, cells)


def _average(maps: Tensor) -> Tensor:
    """Mean over the cells of maps [n, channels, rows, columns], as a pooling: its sums do not depend on the batch."""
    return functional.avg_pool2d(maps, (maps.shape[-2], maps.shape[-1]))


def _pooled(maps: list[Tensor]) -> Tensor:
    """Means, then standard deviations, of maps [n, channels, rows, columns]."""
    means = [_average(values) for values in maps]
    unrest = [
        (_average((values - mean).square()) + 1e-6).sqrt() for values, mean in zip(maps, means, strict=True)
    ]
    return torch.cat([*means, *unrest], dim=1).flatten(1)
