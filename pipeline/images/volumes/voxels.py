"""The values of a stack in one array, allocated once; planes are decoded into it by two threads."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import FailStudy
from pipeline.images import codecs, decoder_process
from pipeline.images.decode import Declared, declared_pixels, stored_values
from pipeline.images.grey import padding_of
from pipeline.images.limits import ImageLimits
from pipeline.images.volumes.plane import Plane
from pipeline.images.volumes.stack import Stack
from pipeline.study import LeftOutReason

PLANE_LIMITS = ImageLimits(min_side=16)
MOST_VOXELS = 1 << 30
"""Two GiB of int16: 4,096 planes of 512 x 512."""
LOWEST_HU, HIGHEST_HU = -1024, (1 << 15) - 1
"""Values below are no tissue: padding outside the scanned circle, which would shift any scaling by the least value."""
THREADS = 2


@dataclass(frozen=True, slots=True)
class Volume:
    """A stack decoded.

    ``values`` [planes, rows, columns], int16 where every value is a whole number that fits, else float32, in ``unit``
    ("HU", "BQML", "" where the header names none). ``affine`` leads from (plane, row, column, 1) to LPS in mm.
    """

    stack: Stack
    values: NDArray[np.int16] | NDArray[np.float32]
    affine: NDArray[np.float64]
    unit: str


def read_volume(stack: Stack, limits: ImageLimits = PLANE_LIMITS) -> Volume:
    """Decode every plane of ``stack``, each with its own rescale (PS3.3 C.11.1).

    Raises FailStudy: "single-plane", "missing-planes" for a stack with gaps, "too-large", and as ``stored_values``.
    """
    if stack.step is None:
        raise FailStudy("single-plane", "a single plane is no volume")
    if stack.missing:
        gone = sum(count for _, count in stack.missing)
        raise FailStudy(LeftOutReason.MISSING_PLANES, f"{gone} planes inside the volume are missing")
    first = stack.planes[0]
    shape = (len(stack.planes), first.rows, first.columns)
    if int(np.prod(shape, dtype=np.int64)) > MOST_VOXELS:
        raise FailStudy("too-large", f"a volume of {shape[0]} planes of {shape[1]} x {shape[2]} pixels")
    if any(plane.header.transfer_syntax in codecs.CODESTREAMS for plane in stack.planes):
        decoder_process.start(THREADS)
    declared = [declared_pixels(plane.header, limits) for plane in stack.planes]
    whole = all(map(_is_whole, stack.planes, declared))
    values = np.empty(shape, np.int16 if whole else np.float32)

    def fill(index: int) -> None:
        _read_into(values[index], stack.planes[index], declared[index], limits)

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(fill, range(shape[0])):
            pass
    return Volume(stack, values, stack.affine, first.unit)


def _is_whole(plane: Plane, declared: Declared) -> bool:
    """Whether every value after the rescale is a whole number of 16 signed bits, by the header alone."""
    if not (plane.slope.is_integer() and plane.intercept.is_integer()):
        return False
    low, high = _range(declared)
    ends = (low * plane.slope + plane.intercept, high * plane.slope + plane.intercept)
    return plane.unit == "HU" or (min(ends) >= -(1 << 15) and max(ends) < 1 << 15)


def _range(declared: Declared) -> tuple[int, int]:
    low = -(1 << declared.bits_stored - 1) if declared.signed else 0
    return low, low + (1 << declared.bits_stored) - 1


def plane_values(plane: Plane, limits: ImageLimits) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """One plane in its unit, float32 [rows, columns], and where it is padding. Raises as ``stored_values``."""
    declared = declared_pixels(plane.header, limits)
    stored = stored_values(plane.header, declared, plane.frame, limits)
    values = stored.astype(np.float32)
    values *= np.float32(plane.slope)
    values += np.float32(plane.intercept)
    return values, padding_of(stored, plane.header.dataset)


def _read_into(target: NDArray[np.generic], plane: Plane, declared: Declared, limits: ImageLimits) -> None:
    if target.dtype == np.int16 and plane.slope == 1 and _fits(declared, plane.intercept):
        values = target.view(np.int16)
        stored = _stored_in(values, plane, declared, limits)
        padded = padding_of(stored, plane.header.dataset) if plane.unit == "HU" else None
        # no wider copy: the sums are whole numbers of 16 bits whatever is stored
        np.add(stored, np.int16(plane.intercept), out=values, dtype=np.int16, casting="unsafe")
        _clip(values, declared, plane)
    else:
        stored = stored_values(plane.header, declared, plane.frame, limits)
        padded = padding_of(stored, plane.header.dataset) if plane.unit == "HU" else None
        if target.dtype == np.int16:
            wide = stored.astype(np.int32) * int(plane.slope) + int(plane.intercept)
            target[...] = np.clip(wide, LOWEST_HU if plane.unit == "HU" else -(1 << 15), HIGHEST_HU)
        else:
            np.multiply(stored, np.float32(plane.slope), out=target)
            np.add(target, np.float32(plane.intercept), out=target)
            if plane.unit == "HU":
                np.clip(target, LOWEST_HU, HIGHEST_HU, out=target)
    if padded is not None:
        target[padded] = LOWEST_HU


def _stored_in(
    target: NDArray[np.int16], plane: Plane, declared: Declared, limits: ImageLimits
) -> NDArray[np.integer]:
    """The stored values, in ``target`` itself where they can be read there."""
    unsigned = not declared.signed and declared.bits_stored == 16
    return stored_values(plane.header, declared, plane.frame, limits, None if unsigned else target)


def _clip(values: NDArray[np.int16], declared: Declared, plane: Plane) -> None:
    """Bring HU that lie below all tissue to the lowest, where any can."""
    if plane.unit == "HU" and _range(declared)[0] + plane.intercept < LOWEST_HU:
        np.maximum(values, np.int16(LOWEST_HU), out=values)


def _fits(declared: Declared, intercept: float) -> bool:
    """Whether every value that may be stored, and its sum with the intercept, is one of 16 signed bits."""
    low, high = _range(declared)
    return min(low, low + intercept) >= -(1 << 15) and max(high, high + intercept) < 1 << 15
