"""The factor that a Real World Value Mapping gives: from values after the rescale to what they measure.

PS3.3 C.7.6.16.2.11: a mapping leads from *stored* values, in a functional group of the frame or in the header of a
classic image; there may be several, each with its unit in UCUM.
"""

import math
from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset

from pipeline.images.headers import items, numbers, text
from pipeline.images.volumes.plane import Plane

SUV_BY_WEIGHT = frozenset({"{SUVbw}g/ml", "g/ml{SUVbw}", "{SUVbw}g/mL", "g/mL{SUVbw}"})
"""PS3.16 CID 85 and CID 84, and what was written before its first form was settled."""
SAME_FACTOR = 1e-4
"""Largest difference between the factors of planes, as a part: slopes are rounded to decimals."""


def mapped_factor(planes: Sequence[Plane], units: frozenset[str] = SUV_BY_WEIGHT) -> float | None:
    """What the values of every plane, after its rescale, are multiplied by to be in one of ``units``.

    None where a plane has no linear mapping to them, or where the planes' factors differ.
    """
    factors = [_factor(plane, units) for plane in planes]
    first = factors[0]
    if first is None or any(
        one is None or not math.isclose(one, first, rel_tol=SAME_FACTOR) for one in factors
    ):
        return None
    return first


def _factor(plane: Plane, units: frozenset[str]) -> float | None:
    for mapping in _mappings(plane):
        named = items(mapping, "MeasurementUnitsCodeSequence")
        if not named or text(named[0], "CodeValue") not in units:
            continue
        slope, intercept = (
            (*numbers(mapping, f"RealWorldValue{which}"), None)[0] for which in ("Slope", "Intercept")
        )
        if slope is None or intercept is None or slope <= 0 or plane.slope <= 0:
            return None
        factor = slope / plane.slope
        within = SAME_FACTOR * max(abs(intercept), slope)
        return factor if math.isclose(intercept, factor * plane.intercept, abs_tol=within) else None
    return None


def _mappings(plane: Plane) -> Iterator[Dataset]:
    for group in plane.groups:
        yield from items(group, "RealWorldValueMappingSequence")
