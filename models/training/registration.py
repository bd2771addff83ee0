"""Lay a CT pose over a real film: affine first, then a gentle bend, so that local contrast agrees."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.simulation.maps import FloatMap, PoseMaps

SIZE = 96
STEPS, BEND_FROM = 120, 50
NEIGHBOURHOOD = 33
BEND_CELLS = 5
START_ZOOM = -0.25
"""Logarithm of the share of the pose's field that a film usually shows."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where film pixels lie on the pose: ``affine`` [6], ``bend`` [2, BEND_CELLS, BEND_CELLS]; ``likeness`` is the
    weighted correlation of local contrast, below about 0.7 a failure."""

    affine: Tensor
    bend: Tensor
    likeness: float


def sampling_grid(affine: Tensor, bend: Tensor, size: int) -> Tensor:
    """Positions on the pose, -1 to 1, of every pixel of ``size`` x ``size`` films: [n, size, size, 2]."""
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    down, across = torch.meshgrid(axis, axis, indexing="ij")
    shift_x, shift_y, zoom_x, zoom_y, angle, shear = (value[:, None, None] for value in affine.unbind(1))
    cosine, sine = torch.cos(angle), torch.sin(angle)
    x = (across * cosine - down * sine) * zoom_x.exp() + shear * down + shift_x
    y = (across * sine + down * cosine) * zoom_y.exp() + shift_y
    bent = functional.interpolate(bend, size=(size, size), mode="bicubic", align_corners=True)
    return torch.stack([x + bent[:, 0], y + bent[:, 1]], dim=-1)


def _local_mean(images: Tensor) -> Tensor:
    half = NEIGHBOURHOOD // 2
    rows = functional.avg_pool2d(images, (NEIGHBOURHOOD, 1), 1, (half, 0), count_include_pad=False)
    return functional.avg_pool2d(rows, (1, NEIGHBOURHOOD), 1, (0, half), count_include_pad=False)


def _local_contrast(images: Tensor) -> Tensor:
    difference = images - _local_mean(images)
    return difference / (_local_mean(difference.square()).sqrt() + 0.02 * images.std())


def _likeness(pose: Tensor, films: Tensor, grid: Tensor) -> Tensor:
    axis = (torch.arange(SIZE) + 0.5) / SIZE * 2 - 1
    weight = torch.exp(-(axis[:, None].square() + axis[None].square()) / 1.2)
    laid = functional.grid_sample(
        pose.expand(len(grid), -1, -1, -1), grid, padding_mode="border", align_corners=False
    )
    laid = _local_contrast(laid)
    product, first, second = (
        (a * b * weight).sum(dim=(1, 2, 3)) for a, b in ((laid, films), (laid, laid), (films, films))
    )
    return product / (first * second).sqrt()


def _stiffness(affine: Tensor, bend: Tensor) -> Tensor:
    tilted = 0.4 * (affine[:, 4].square() + affine[:, 5].square())
    return tilted + 0.1 * (affine[:, 2] - affine[:, 3]).square() + 10 * bend.square().mean(dim=(1, 2, 3))


def align(films: FloatMap, pose: PoseMaps) -> list[Alignment]:
    """Lay ``pose`` over each of ``films`` [n, SIZE, SIZE], grey levels 0..1."""
    contrast = _local_contrast(torch.from_numpy(np.ascontiguousarray(films))[:, None])
    source = torch.from_numpy(pose.total)[None, None]
    count = len(films)
    affine = torch.tensor([0, 0, START_ZOOM, START_ZOOM, 0, 0]).repeat(count, 1).requires_grad_()
    bend = torch.zeros(count, 2, BEND_CELLS, BEND_CELLS, requires_grad=True)
    optimizer = torch.optim.Adam([{"params": [affine], "lr": 0.02}, {"params": [bend], "lr": 0.004}])
    for step in range(STEPS):
        used = bend if step >= BEND_FROM else bend * 0
        likeness = _likeness(source, contrast, sampling_grid(affine, used, SIZE))
        optimizer.zero_grad()
        torch.autograd.backward((_stiffness(affine, used) - likeness).sum())
        optimizer.step()
    with torch.no_grad():
        likeness = _likeness(source, contrast, sampling_grid(affine, bend, SIZE))
    return [Alignment(affine[i].detach(), bend[i].detach(), float(likeness[i])) for i in range(count)]
