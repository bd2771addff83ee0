"""A volume through a network, window by window, and its labels on the grid that came: what nnU-Net's predictor gives.

Windows overlap by half and count most in their middle. They go from the first plane to the last, and what no further
window touches is brought to the voxels of the image and decided at once: memory holds the logits of one window's depth,
never those of the whole volume (117 classes of a large CT would be 34 GB).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product

import numpy as np
from numpy.typing import NDArray

from models.families.segmenting.bundle import BundlePlan
from models.families.segmenting.plans import Plan, Triple
from models.families.segmenting.resampling import (
    Array,
    Taps,
    apply,
    coarse_axis,
    matrices,
    resampled_shape,
)

STEP = 0.5
"""By how much of a window the next one is further on."""
SIGMA = 1 / 8
"""Of the weights within a window, as a part of its side."""
WEIGHT = 10.0
"""Of its middle: nnU-Net keeps weights in half precision, and so many digits of them are then left."""
Labels = NDArray[np.uint8] | NDArray[np.uint16]
Network = Callable[[Array], Array]
"""Windows [n, 1, z, y, x] to logits [n, outputs, z, y, x]."""
AnyPlan = Plan | BundlePlan


@dataclass(frozen=True, slots=True)
class Running:
    """How a plan's networks are run: ``batch`` windows at once, mirrored along ``mirrored`` axes and averaged."""

    networks: Sequence[Network]
    mirrored: tuple[int, ...] = ()
    batch: int = 1


def segment(values: NDArray[np.generic], spacing: Sequence[float], plan: Plan, running: Running) -> Labels:
    """Labels [z, y, x] of an image [z, y, x] with ``spacing`` in mm along its axes, both as the training images lay."""
    kind = np.uint8 if max(plan.names) < 256 else np.uint16
    labels: Labels = np.zeros(values.shape, kind)
    turned = values.transpose(plan.forward)
    box = _nonzero(turned)
    if box is None:
        return labels
    shown = labels.transpose(plan.forward)[box]
    here = tuple(float(spacing[axis]) for axis in plan.forward)
    image, outside = turned[box].astype(np.float32), None
    if plan.masked:
        outside = _reached(image == 0)
    image = _normalised(image, plan, outside)
    new = resampled_shape(image.shape, here, plan.spacing)
    coarse = coarse_axis(here, plan.spacing, plan.image.separate)
    small = apply(image, matrices(image.shape, new, here, plan.spacing, plan.image), coarse=coarse)
    del image
    back = matrices(new, shown.shape, plan.spacing, here, plan.logits)
    tiling = Tiling(lambda length, window, _: starts(length, window), weights(plan.patch))
    for place, plane in decided(logits_of(small, plan, running, tiling), back, plan):
        shown[place] = plane
    return labels


def _nonzero(values: NDArray[np.generic]) -> tuple[slice, slice, slice] | None:
    """The box of all that is not 0 (``crop_to_nonzero``: holes change no box); None where all is."""
    filled = values != 0
    sides = []
    for axis in range(3):
        there = np.flatnonzero(filled.any(axis=tuple(other for other in range(3) if other != axis)))
        if not there.size:
            return None
        sides.append(slice(int(there[0]), int(there[-1]) + 1))
    return sides[0], sides[1], sides[2]


def _reached(free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What of ``free`` is reached from the faces of the volume: the outside of a head without its skull."""
    found = np.zeros_like(free)
    for axis in range(3):
        for end in (0, -1):
            face = tuple(end if other == axis else slice(None) for other in range(3))
            found[face] |= free[face]
    count = -1
    while count != (count := int(found.sum())):
        for axis in range(3):
            layers, room = np.moveaxis(found, axis, 0), np.moveaxis(free, axis, 0)
            for order in (range(1, len(layers)), range(len(layers) - 2, -1, -1)):
                step = 1 if order.step > 0 else -1
                for place in order:
                    layers[place] |= layers[place - step] & room[place]
    return found


def _normalised(image: Array, plan: Plan, outside: NDArray[np.bool_] | None) -> Array:
    """In place; by the names of nnU-Net's schemes."""
    match plan.normalisation:
        case "CTNormalization":
            known = plan.intensities
            assert known is not None
            np.clip(image, known.low, known.high, out=image)
            image -= np.float32(known.mean)
            image /= np.float32(max(known.deviation, 1e-8))
        case "ZScoreNormalization" if outside is not None:
            inside = image[~outside]
            image[~outside] = (inside - inside.mean()) / max(float(inside.std()), 1e-8)
        case "ZScoreNormalization":
            mean, deviation = image.mean(), image.std()
            image -= mean
            image /= max(float(deviation), 1e-8)
        case "RescaleTo01Normalization":
            image -= image.min()
            image /= max(float(image.max()), 1e-8)
    return image


def weights(patch: Triple) -> Array:
    """How much each voxel of a window counts, [z, y, x]: a Gaussian about its middle, of half precision as theirs."""
    sides = []
    for side in patch:
        from_middle = np.arange(side) - side // 2
        reach = int(4 * side * SIGMA + 0.5)
        bell = np.exp(-0.5 * (from_middle / (side * SIGMA)) ** 2)
        sides.append(np.where(np.abs(from_middle) <= reach, bell, 0))
    whole = sides[0][:, None, None] * sides[1][:, None] * sides[2]
    half = (whole / whole.max() * WEIGHT).astype(np.float16)
    half[half == 0] = half[half > 0].min()
    found: Array = half.astype(np.float32)
    return found


def starts(length: int, window: int) -> list[int]:
    """Where windows begin along an axis: evenly, at most half a window apart, the last one at the end."""
    count = int(np.ceil((length - window) / (window * STEP))) + 1
    apart = (length - window) / (count - 1) if count > 1 else 0.0
    return [round(apart * number) for number in range(count)]


@dataclass(frozen=True, slots=True)
class Tiling:
    """Where windows begin along an axis of a length, by (length, window, axis), and how much each voxel counts."""

    starts: Callable[[int, int, int], list[int]]
    counts: Array


def logits_of(image: Array, plan: AnyPlan, running: Running, tiling: Tiling) -> Iterator[Array]:
    """The logits of plane after plane, each [outputs, y, x]."""
    patch = plan.patch
    padding = [(max(0, side - have) // 2, max(0, side - have) - max(0, side - have) // 2)
               for side, have in zip(patch, image.shape, strict=True)]  # fmt: skip
    padded = np.pad(image, padding)
    depth, height, width = patch
    firsts, rows, columns = (
        tiling.starts(length, side, axis)
        for axis, (length, side) in enumerate(zip(padded.shape, patch, strict=True))
    )
    corners = list(product(rows, columns))
    counts = tiling.counts
    summed = np.zeros((plan.outputs, depth, *padded.shape[1:]), np.float32)
    weighed = np.zeros((depth, *padded.shape[1:]), np.float32)
    kept = tuple(slice(low, low + have) for (low, _), have in zip(padding[1:], image.shape[1:], strict=True))
    for first, following in zip(firsts, [*firsts[1:], padded.shape[0]], strict=True):
        for low in range(0, len(corners), running.batch):
            part = corners[low : low + running.batch]
            tiles = np.stack([padded[first : first + depth, y : y + height, x : x + width] for y, x in part])
            for (y, x), logits in zip(part, _predicted(tiles[:, None], running), strict=True):
                logits *= counts
                summed[:, :, y : y + height, x : x + width] += logits
                weighed[:, y : y + height, x : x + width] += counts
        done = following - first
        for plane in range(done):
            if padding[0][0] <= first + plane < padding[0][0] + image.shape[0]:
                yield summed[:, plane][:, *kept] / weighed[plane][kept]
        for held in (summed.swapaxes(0, 1), weighed):
            held[: depth - done] = held[done:].copy()
            held[depth - done :] = 0


def _predicted(tiles: Array, running: Running) -> Array:
    """The mean over the networks and over the mirrored images, each turned back."""
    axes = [axis + 2 for axis in running.mirrored]
    ways = list(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))
    total: Array | None = None
    for network in running.networks:
        for way in ways:
            found = np.flip(network(np.ascontiguousarray(np.flip(tiles, way))), way)
            total = found.copy() if total is None else np.add(total, found, out=total)
    assert total is not None
    total /= np.float32(len(ways) * len(running.networks))
    return total


def decided(
    planes: Iterator[Array], back: tuple[Array, Array, Array], plan: AnyPlan
) -> Iterator[tuple[int, Labels]]:
    """The labels of plane after plane of the image, by its number. Holds two planes of logits."""
    along, rows, columns = (Taps.of(one) for one in back)
    before: Array | None = None
    following = 0
    for number, small in enumerate(planes):
        here = columns.apply(rows.apply(small, -2), -1)
        while following < len(along.first) and along.second[following] <= number:
            part = along.part[following]
            one = before if along.first[following] < number and before is not None else here
            mixed = one if part == 0 else one * (1 - part) + here * part
            yield following, _label(mixed, plan)
            following += 1
        before = here


def _label(logits: Array, plan: AnyPlan) -> Labels:
    """[outputs, y, x] to labels: the largest output, or where labels overlap the last that is likelier than not."""
    if not plan.order:
        largest: NDArray[np.uint16] = logits.argmax(axis=0).astype(np.uint16)
        return largest
    found = np.zeros(logits.shape[1:], np.uint16)
    for output, number in zip(logits, plan.order, strict=True):
        found[output > 0] = number
    return found
