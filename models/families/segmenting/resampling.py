"""Values brought to another spacing, as nnU-Net does it, as one small matrix for each axis.

nnU-Net resamples by ``skimage.transform.resize(mode="edge", anti_aliasing=False)`` of splines, and where an axis is
coarse by nearest planes along it. Every step is linear and each axis is by itself, so the whole is a product with one
matrix [new, old] for each axis: no scipy, values in float32, and any part of the result alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StopRun

COARSE = 3.0
"""An axis is coarse where its spacing is over three times the finest (``ANISO_THRESHOLD`` of nnU-Net)."""
_PAD = 12
"""Samples that scipy repeats beyond the edge before it fits a cubic spline."""
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Interpolation:
    """``order`` of the spline, ``coarse_order`` along a coarse axis; ``separate``: whether one is told apart, None by
    the spacings.
    """

    order: int
    coarse_order: int = 0
    separate: bool | None = None

    def __post_init__(self) -> None:
        """Raises StopRun("segmenter") for orders that nobody is known to use."""
        if self.order not in (0, 1, 3) or self.coarse_order not in (0, 1):
            raise StopRun(
                "segmenter", f"the plans resample by splines of order {self.order} and {self.coarse_order}"
            )


def resampled_shape(
    shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]
) -> tuple[int, ...]:
    """How many voxels of ``wanted`` spacing fill what ``shape`` of ``spacing`` does."""
    return tuple(round(old / new * count) for old, new, count in zip(spacing, wanted, shape, strict=True))


def coarse_axis(spacing: Sequence[float], wanted: Sequence[float], separate: bool | None) -> int | None:
    """The one axis along which planes are taken as they are, or None (``determine_do_sep_z_and_axis``)."""
    for one in (spacing, wanted):
        if separate or (separate is None and max(one) / min(one) > COARSE):
            largest = [axis for axis, side in enumerate(one) if side == max(one)]
            return largest[0] if len(largest) == 1 else None
    return None


def matrices(
    shape: Sequence[int],
    new_shape: Sequence[int],
    spacing: Sequence[float],
    wanted: Sequence[float],
    how: Interpolation,
) -> tuple[Array, Array, Array]:
    """One matrix [new, old] for each axis."""
    coarse = coarse_axis(spacing, wanted, how.separate)
    orders = [how.coarse_order if axis == coarse else how.order for axis in range(3)]
    one, two, three = (
        matrix(old, new, order) for old, new, order in zip(shape, new_shape, orders, strict=True)
    )
    return one, two, three


@lru_cache(maxsize=32)
def matrix(old: int, new: int, order: int) -> Array:
    """What leads from ``old`` samples to ``new`` over the same length, float32 [new, old].

    Spline of ``order`` 0, 1 or 3, edges repeated; pixel centres as ``scipy.ndimage.zoom(grid_mode=True)`` has them.
    """
    if old == new:
        return np.eye(old, dtype=np.float32)
    centres: NDArray[np.float64] = (np.arange(new, dtype=np.float64) + 0.5) * (old / new) - 0.5
    if order == 0:
        chosen = np.clip(np.floor(centres + 0.5), 0, old - 1).astype(int)
        nearest: Array = np.eye(old, dtype=np.float32)[chosen]
        return nearest
    if order == 1:
        return _linear(np.clip(centres, 0, old - 1), old).astype(np.float32)
    return _cubic(centres, old).astype(np.float32)


def linear_matrix(places: NDArray[np.float64], old: int, *, nearest: bool = False) -> Array:
    """Values at ``places``, counted in samples from the first of ``old``; beyond an end they repeat: [places, old]."""
    inside = np.clip(places, 0, old - 1)
    return _linear(np.rint(inside) if nearest else inside, old).astype(np.float32)


def _linear(places: NDArray[np.float64], old: int) -> NDArray[np.float64]:
    below = np.minimum(np.floor(places).astype(int), max(0, old - 2))
    part = places - below
    found = np.zeros((len(places), old))
    rows = np.arange(len(places))
    found[rows, below] += 1 - part
    found[rows, np.minimum(below + 1, old - 1)] += part
    return found


def _cubic(places: NDArray[np.float64], old: int) -> NDArray[np.float64]:
    """Values to the coefficients of a cubic B-spline (Unser, IEEE SPM 1999), and these to values at ``places``."""
    padded = old + 2 * _PAD
    repeated = np.zeros((padded, old))
    repeated[np.arange(padded), np.clip(np.arange(padded) - _PAD, 0, old - 1)] = 1
    # the values of the spline at its knots, mirrored about the last one
    knots = np.zeros((padded, padded))
    rows = np.arange(padded)
    knots[rows, rows] += 4 / 6
    for neighbour in (rows - 1, rows + 1):
        mirrored = np.where(neighbour < 0, -neighbour, neighbour)
        mirrored = np.where(mirrored >= padded, 2 * (padded - 1) - mirrored, mirrored)
        np.add.at(knots, (rows, mirrored), 1 / 6)
    coefficients = np.linalg.solve(knots, repeated)
    at = places + _PAD
    first = np.floor(at).astype(int) - 1
    part = at - np.floor(at)
    weights = (
        (1 - part) ** 3 / 6,
        (3 * part**3 - 6 * part**2 + 4) / 6,
        (-3 * part**3 + 3 * part**2 + 3 * part + 1) / 6,
        part**3 / 6,
    )
    found = np.zeros((len(places), old))
    for step, weight in enumerate(weights):
        found += weight[:, None] * coefficients[np.clip(first + step, 0, padded - 1)]
    return found


def apply(values: Array, along: tuple[Array, Array, Array], *, coarse: int | None = None) -> Array:
    """``values`` [z, y, x] by the three matrices, kept within the range of what came, which splines leave.

    Planes along a ``coarse`` axis are each kept within their own. An axis that keeps its samples costs nothing.
    """
    planes = None if coarse is None else tuple(axis for axis in range(3) if axis != coarse)
    low, high = values.min(axis=planes, keepdims=True), values.max(axis=planes, keepdims=True)
    for axis in sorted(range(3), key=lambda one: one == coarse):
        if axis == coarse:
            values = np.clip(values, low, high)
        if along[axis].shape[0] != along[axis].shape[1]:
            values = np.moveaxis(np.tensordot(along[axis], values, axes=(1, axis)), 0, axis)
    if coarse is None:
        values = np.clip(values, low, high)
    return np.ascontiguousarray(values, np.float32)


@dataclass(frozen=True, slots=True)
class Taps:
    """The two samples, and the part of the second, that each new sample of one axis is made of (order 0 or 1)."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    part: Array

    @classmethod
    def of(cls, along: Array) -> "Taps":
        """Read from a matrix with at most two numbers a row."""
        second = along.shape[1] - 1 - np.argmax(along[:, ::-1] > 0, axis=1)
        first = np.argmax(along > 0, axis=1)
        part = np.where(first == second, 0, along[np.arange(len(along)), second]).astype(np.float32)
        return cls(first, second, part)

    def apply(self, values: Array, axis: int) -> Array:
        """``values`` along ``axis``, the last or the one before it."""
        part = self.part if axis in (-1, values.ndim - 1) else self.part[:, None]
        found = np.take(values, self.first, axis)
        step = np.take(values, self.second, axis)
        step -= found
        step *= part
        found += step
        return found
