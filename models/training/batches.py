"""Batches: what is on some studies, and prompts and answers about them, in the order in which they are read."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

LOW_RESOLUTION, LOW_SHARE = 64, 0.12
"""FilmBatch are shown as coarse as thumbnails, in pixels a side, this often: archives hold some."""


@dataclass(frozen=True, slots=True)
class FilmBatch:
    """What is on n studies.

    ``frontal``, ``lateral`` and ``prior`` float32 [., 1, size, size], with ``lateral_of`` and ``prior_of`` int64 the
    study of each. ``heat`` and ``presence`` float32 as in ``Sample`` with one row per study, ``lateral_heat`` and
    ``lateral_presence`` one per lateral film; ``boxes`` [n, slots, 4], ``organs``, ``landmarks`` as in ``Sample``;
    ``severity``, ``zone``, ``change`` int64 [n, slots], -1 where there is none.
    """

    frontal: Tensor
    lateral: Tensor
    lateral_of: Tensor
    prior: Tensor
    prior_of: Tensor
    heat: Tensor
    presence: Tensor
    lateral_heat: Tensor
    lateral_presence: Tensor
    boxes: Tensor
    organs: Tensor
    landmarks: Tensor
    severity: Tensor
    zone: Tensor
    change: Tensor


@dataclass(frozen=True, slots=True)
class Texts:
    """What is written about them, one row per text, in the order of their length.

    ``study`` int64 [r], the row of ``FilmBatch``; ``task`` int64 [r]; ``box`` float32 [r, 4], the asked region, 0 where
    none is asked; ``ids`` int64 [r, t], prompt, answer and end, then padding; ``prompt`` and ``length`` int64 [r] say
    where the answer begins and where it ends.
    """

    study: Tensor
    task: Tensor
    box: Tensor
    ids: Tensor
    prompt: Tensor
    length: Tensor

    @classmethod
    def from_arrays(cls, arrays: Sequence[NDArray[np.int64] | NDArray[np.float32]], device: str) -> Self:
        """Texts of arrays in the order of the fields."""
        return cls(*(torch.from_numpy(values).to(device) for values in arrays))

    def groups(self, count: int) -> list[Self]:
        """``count`` groups of neighbours, each padded no further than its longest text."""
        parts = []
        for rows in torch.arange(len(self.study), device=self.study.device).tensor_split(count):
            part = {field.name: getattr(self, field.name)[rows] for field in fields(self)}
            part["ids"] = part["ids"][:, : int(part["length"].max())]
            parts.append(type(self)(**part))
        return parts


@dataclass(frozen=True, slots=True)
class Batch:
    """Studies and texts about them."""

    films: FilmBatch
    texts: Texts


def relight(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change gamma, add noise, blur a third of the films and coarsen some: [n, 1, size, size] in 0..1, the same out."""
    count = len(images)
    gamma, noise, share, coarse = (
        torch.empty(count, 1, 1, 1, device=images.device).uniform_(low, high, generator=generator)
        for low, high in ((0.75, 1.35), (0.0, 0.03), (-1.0, 0.5), (0.0, 1.0))
    )
    soft = functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    images = torch.lerp(images, soft, share.clamp_min(0))
    small = functional.adaptive_avg_pool2d(images, LOW_RESOLUTION)
    again = functional.interpolate(small, images.shape[-2:], mode="bilinear")
    images = torch.where(coarse < LOW_SHARE, again, images).clamp_min(1e-4) ** gamma
    unrest = torch.empty_like(images).normal_(generator=generator)
    return images + noise * unrest
