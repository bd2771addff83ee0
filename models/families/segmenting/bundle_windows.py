"""A volume through a bundle's network, as MONAI 1.6 prepares it, lays its windows and brings labels back.

Spacing keeps the first voxel's place and repeats edges (``Spacingd``, ``Invertd``); windows begin at fixed steps, the
last one at the end (``SlidingWindowInferer``). Axes are resampled each by itself: a tilted gantry is no different here.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from models.families.segmenting.bundle import BundlePlan, Step
from models.families.segmenting.plans import Triple
from models.families.segmenting.resampling import Array, apply, linear_matrix
from models.families.segmenting.windows import Labels, Running, Tiling, decided, logits_of

_LEAST_WEIGHT = 1e-3


def segment_bundle(
    values: NDArray[np.generic], spacing: Sequence[float], plan: BundlePlan, running: Running
) -> Labels:
    """Labels [z, y, x] of an image [z, y, x] with ``spacing`` in mm along its axes, both as the training images lay."""
    labels: Labels = np.zeros(values.shape, np.uint8 if plan.outputs <= 256 else np.uint16)
    shown, image = labels.transpose(plan.forward), values.transpose(plan.forward).astype(np.float32)
    here = [float(spacing[axis]) for axis in plan.forward]
    old = image.shape
    new = tuple(
        int(np.round((count - 1) * side / wanted + 1))
        for count, side, wanted in zip(old, here, plan.spacing, strict=True)
    )
    for step in plan.steps:
        if step.name == "space":
            image = apply(image, _matrices(new, old, plan.spacing, here, nearest=False))
        else:
            image = _prepared(image, step)
    back = _matrices(old, new, here, plan.spacing, nearest=plan.nearest)
    tiling = Tiling(
        lambda length, window, axis: _starts(length, window, plan.overlap[axis]),
        _weights(plan.patch, plan.sigma),
    )
    planes = logits_of(image, plan, running, tiling)
    for place, plane in decided(_softmax(planes) if plan.softmax else planes, back, plan):
        shown[place] = plane
    return labels


def _matrices(
    new: Sequence[int],
    old: Sequence[int],
    wanted: Sequence[float],
    spacing: Sequence[float],
    *,
    nearest: bool,
) -> tuple[Array, Array, Array]:
    """One matrix [new, old] for each axis: first voxels lie at one place, what is beyond the last repeats it."""
    one, two, three = (
        linear_matrix(np.asarray(np.arange(count) * (step / side), np.float64), length, nearest=nearest)
        for count, length, step, side in zip(new, old, wanted, spacing, strict=True)
    )
    return one, two, three


def _prepared(image: Array, step: Step) -> Array:
    match step.name:
        case "range":
            low, high, to_low, to_high = step.values
            image -= np.float32(low)
            image /= np.float32(high - low)
            image *= np.float32(to_high - to_low)
            image += np.float32(to_low)
            return np.clip(image, to_low, to_high, out=image) if step.flag else image
        case "normal":
            inside = image != 0 if step.flag else np.ones(image.shape, bool)
            seen = image[inside].astype(np.float64)
            if seen.size:
                image[inside] = (seen - seen.mean()) / (seen.std() or 1.0)
            return image
    low, high = float(image.min()), float(image.max())
    to_low, to_high = step.values
    if low == high:
        return np.full_like(image, to_low) if low == 0 else image * np.float32(to_low)
    return ((image - low) / (high - low) * (to_high - to_low) + to_low).astype(np.float32)


def _starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin: at every step that the overlap leaves, moved back from the end (``dense_patch_slices``)."""
    step = window if length == window else max(1, int(window * (1 - overlap)))
    found = list(range(0, max(1, length - window + step), step))
    return list(dict.fromkeys(min(one, length - window) for one in found))


def _weights(patch: Triple, sigma: float) -> Array:
    """How much each voxel of a window counts (``compute_importance_map``)."""
    if not sigma:
        return np.ones(patch, np.float32)
    sides = [np.exp(-((np.arange(side) - (side - 1) / 2) ** 2) / (2 * (sigma * side) ** 2)) for side in patch]
    whole = sides[0][:, None, None] * sides[1][:, None] * sides[2]
    found: Array = np.maximum(whole, max(float(whole.min()), _LEAST_WEIGHT)).astype(np.float32)
    return found


def _softmax(planes: Iterator[Array]) -> Iterator[Array]:
    for plane in planes:
        raised = np.exp(plane - plane.max(axis=0))
        yield raised / raised.sum(axis=0)
