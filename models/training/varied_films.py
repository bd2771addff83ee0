"""Films as other detectors, distances and hands would have shown them: what the label networks are taught with."""

import torch
from torch import Tensor
from torch.nn import functional

MIRRORED, COARSENED = 0.5, 0.3
"""Shares of films shown mirrored, for a disease is the same on either side, and as coarse as films of 64 pixels."""
TURN, SHIFT = 0.12, 0.08
ZOOM, STRETCH = (0.85, 1.12), (0.92, 1.08)
CURVE, SHARPNESS, COARSE = 0.35, 0.7, 64


def varied(films: Tensor, generator: torch.Generator) -> Tensor:
    """Films [n, 1, s, s], 0..1, moved, turned, mirrored, lit, sharpened or blurred, and some made coarse."""
    count, size = len(films), films.shape[-1]

    def between(low: float, high: float) -> Tensor:
        return torch.empty(count).uniform_(low, high, generator=generator)

    turn, zoom, stretch = between(-TURN, TURN), between(*ZOOM), between(*STRETCH)
    side = torch.where(between(0, 1) < MIRRORED, -1.0, 1.0)
    move = torch.zeros(count, 2, 3)
    move[:, 0, 0], move[:, 0, 1] = side * torch.cos(turn) * zoom * stretch, -torch.sin(turn) * zoom
    move[:, 1, 0], move[:, 1, 1] = side * torch.sin(turn) * zoom * stretch, torch.cos(turn) * zoom
    move[:, 0, 2], move[:, 1, 2] = between(-SHIFT, SHIFT), between(-SHIFT, SHIFT)
    grid = functional.affine_grid(move, [count, 1, size, size], align_corners=False)
    seen = functional.grid_sample(films, grid, padding_mode="border", align_corners=False)
    seen = seen.clamp_min(1e-3) ** torch.exp(between(-CURVE, CURVE))[:, None, None, None]
    some = between(0, 1) < COARSENED
    if some.any():
        small = functional.interpolate(seen[some], size=COARSE, mode="area")
        seen[some] = functional.interpolate(small, size=size, mode="bilinear", align_corners=False)
    sharper = between(-SHARPNESS, SHARPNESS)[:, None, None, None]
    return seen + sharper * (seen - functional.avg_pool2d(seen, 3, 1, 1))
