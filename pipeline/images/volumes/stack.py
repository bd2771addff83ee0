"""Planes put together by geometry: grouped, told apart where places repeat, sorted along the normal, and measured.

Slice Thickness, Spacing Between Slices, Slice Location, Instance Number and file names play no part: each was
seen wrong in good series (PS3.3 C.7.6.2.1.1 and C.7.6.2.1.2 alone define where a plane lies).
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.images.choose import Reason
from pipeline.images.headers import text
from pipeline.images.volumes.apart import AT_LAST, NEVER_MIXED, sweeps, told_apart_by
from pipeline.images.volumes.plane import Plane, Vector
from pipeline.study import LeftOutReason

SAME_DIRECTION = 1e-3
"""Largest difference of a direction cosine between planes of one stack: scanners round them to four digits."""
SAME_SPACING = 1e-3
"""Largest difference of Pixel Spacing between planes of one stack, as a part of it."""
SAME_PLACE_MM = 0.01
"""Planes nearer than this along the normal lie at one place."""
UNEVEN_MM, UNEVEN_PART, UNEVEN_MOST = 0.1, 0.01, 0.1
"""A step is regular within the larger of 0.1 mm and 1 % of the median step, and never beyond a tenth of it."""
TILTED_DEGREES = 0.5
MOST_DIRECTIONS = 1000
"""Of the planes of one series; beyond, it is no series of planes, and comparing them would have no end."""
_NEIGHBOURS = range(4)
MOST_GAP = 4
"""A step of so many spacings is at most taken for missing planes; beyond, the stack is irregular."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Planes that are one volume, sorted: feet to head, or right to left, or front to back, whichever is nearest.

    ``step`` is the vector in mm from one plane to the next (LPS), None for a single plane: nothing is invented.
    ``missing`` names the gaps: before which plane (index into ``planes``), and how many planes are not there.
    ``tilt`` is the angle in degrees between ``step`` and the normal: above 0.5 the stack is sheared (a tilted gantry).
    ``apart`` says by what it was told from others at the same places: ("Echo", "2").
    """

    planes: tuple[Plane, ...]
    step: Vector | None
    missing: tuple[tuple[int, int], ...]
    tilt: float
    apart: tuple[tuple[str, str], ...]

    @property
    def sheared(self) -> bool:
        """Whether the planes do not stand at a right angle on the line they are stacked along."""
        return self.tilt > TILTED_DEGREES

    @property
    def affine(self) -> NDArray[np.float64]:
        """4 x 4, from (plane, row, column, 1) to (x, y, z, 1) in mm, LPS; shear kept.

        Raises ValueError for a single plane, which has no step.
        """
        if self.step is None:
            raise ValueError("a single plane has no step to a next one")
        first = self.planes[0]
        affine = np.eye(4)
        affine[:3, 0] = self.step
        affine[:3, 1] = np.array(first.down_column) * first.spacing[0]
        affine[:3, 2] = np.array(first.along_row) * first.spacing[1]
        affine[:3, 3] = first.position
        return affine

    @property
    def orientation(self) -> str:
        """axial, sagittal or coronal by the nearest axis of the patient; oblique beyond 30 degrees of all."""
        across = np.abs(self.planes[0].normal)
        if across.max() < np.cos(np.radians(30)):
            return "oblique"
        return ("sagittal", "coronal", "axial")[int(np.argmax(across))]


def stacks_of(planes: Iterable[Plane]) -> tuple[tuple[Stack, ...], tuple[tuple[Plane, Reason], ...]]:
    """The stacks among ``planes``, largest first, and the planes that are in none, each with its reason.

    Reasons: "duplicate-plane" (same place, same attributes, same pixels as another), "several-at-one-place" (nothing in
    the headers tells them apart), "irregular-volume" (steps that are no whole number of spacings, or planes beside the
    line). Every plane is in one stack or has a reason.
    """
    stacks: list[Stack] = []
    left_out: list[tuple[Plane, Reason]] = []
    groups, left_over = _alike(planes)
    many = Reason(LeftOutReason.IRREGULAR_VOLUME, f"planes in more than {MOST_DIRECTIONS} directions")
    left_out += [(plane, many) for plane in left_over]
    for group in groups:
        told = _Told()
        single, repeated = _without_duplicates(group, told)
        left_out += [
            (plane, Reason(LeftOutReason.DUPLICATE_PLANE, "the same plane is stored twice"))
            for plane in repeated
        ]
        for part, apart in _told_apart(single, (), told):
            found = _measured(part, apart, told)
            if isinstance(found, Reason):
                left_out += [(plane, found) for plane in part]
            else:
                stacks.append(found)
    stacks.sort(
        key=lambda stack: (-len(stack.planes), stack.apart, stack.planes[0].ref, stack.planes[0].frame)
    )
    return tuple(stacks), tuple(left_out)


def _alike(planes: Iterable[Plane]) -> tuple[list[list[Plane]], list[Plane]]:
    """Planes of one series, class, size, pixel spacing and direction together, and those that are of too many."""
    alike: dict[tuple[object, ...], list[Plane]] = defaultdict(list)
    for plane in planes:
        alike[(*plane.same, plane.rows, plane.columns, plane.unit)].append(plane)
    groups: list[list[Plane]] = []
    left_over: list[Plane] = []
    for rest in alike.values():
        told = np.array([(*one.along_row, *one.down_column, *one.spacing) for one in rest])
        waiting = np.arange(len(rest))
        for _ in range(MOST_DIRECTIONS):
            if not len(waiting):
                break
            apart = np.abs(told[waiting] - told[waiting[0]])
            near = (apart[:, :6].max(axis=1) <= SAME_DIRECTION) & (
                (apart[:, 6:] / told[waiting[0], 6:]).max(axis=1) <= SAME_SPACING
            )
            groups.append([rest[index] for index in waiting[near]])
            waiting = waiting[~near]
        left_over += [rest[index] for index in waiting]
    return groups, left_over


def _depths(planes: Sequence[Plane]) -> NDArray[np.float64]:
    """Where each plane lies along the normal of the first, in mm."""
    return np.asarray(np.array([plane.position for plane in planes]) @ np.array(planes[0].normal), np.float64)


def _at_one_place(planes: Sequence[Plane]) -> list[list[Plane]]:
    depths = _depths(planes)
    places: list[list[Plane]] = []
    last = -np.inf
    for index in np.argsort(depths, kind="stable"):
        if depths[index] - last > SAME_PLACE_MM:
            places.append([])
        places[-1].append(planes[index])
        last = depths[index]
    return places


def _excess(planes: Sequence[Plane]) -> int:
    return len(planes) - len(_at_one_place(planes))


def _without_duplicates(planes: Sequence[Plane], told: "_Told") -> tuple[list[Plane], list[Plane]]:
    """Two planes at one place with equal attributes and equal pixels are one; the lower instance number is kept."""
    kept: list[Plane] = []
    repeated: list[Plane] = []
    for place in _at_one_place(planes):
        seen: set[tuple[object, ...]] = set()
        for plane in sorted(place, key=lambda one: (one.number, one.ref, one.frame)):
            key = (told[plane], *_content(plane)) if len(place) > 1 else ()
            (repeated if key in seen else kept).append(plane)
            seen.add(key)
    return kept, repeated


def _content(plane: Plane) -> tuple[object, ...]:
    return plane.slope, plane.intercept, _pixel_digest(plane)


def _pixel_digest(plane: Plane) -> str:
    """A digest of the pixel element as stored, with the frame's number where the object has several."""
    with plane.header.path.open("rb") as file:
        file.seek(plane.header.pixel_offset or 0)
        digest = hashlib.file_digest(file, hashlib.sha256)
    digest.update(str(plane.frame).encode())
    return digest.hexdigest()


class _Told:
    """What may tell each plane of a series from others, asked of its header once."""

    def __init__(self) -> None:
        self._said: dict[int, tuple[tuple[str, str], ...]] = {}

    def __getitem__(self, plane: Plane) -> tuple[tuple[str, str], ...]:
        key = id(plane)
        if key not in self._said:
            self._said[key] = told_apart_by(plane)
        return self._said[key]


def _told_apart(
    planes: Sequence[Plane], by: tuple[tuple[str, str], ...], told: _Told, start: int = 0
) -> list[tuple[list[Plane], tuple[tuple[str, str], ...]]]:
    """``planes`` split by what their headers say, and only where a place would otherwise be taken twice.

    Scanners vary Acquisition Number and times inside good volumes: a key counts only if it takes places apart and
    leaves more than one plane to each part on average.
    """
    excess = _excess(planes)
    if not excess:
        return _interleaved(planes, by, told) or [(list(planes), by)]
    for key in range(start, len(told[planes[0]])):
        name = told[planes[0]][key][0]
        parts = _grouped(planes, lambda plane, key=key: told[plane][key][1])  # type: ignore[misc]
        if len(parts) < 2 or 2 * len(parts) > len(planes):
            continue
        if sum(map(_excess, parts.values())) < excess:
            return [
                found
                for value, part in parts.items()
                for found in _told_apart(part, (*by, (name, value)), told, key + 1)
            ]
    return _at_last(planes, by) or [(list(planes), by)]


def _interleaved(
    planes: Sequence[Plane], by: tuple[tuple[str, str], ...], told: _Told
) -> list[tuple[list[Plane], tuple[tuple[str, str], ...]]]:
    """Volumes that lie between each other's planes, told apart by what one volume never mixes; nothing for one volume.

    Four neighbours tell whether anything alternates: the rest of the headers is asked only then.
    """
    if len(planes) < len(_NEIGHBOURS):
        return []
    ordered = [planes[place] for place in np.argsort(_depths(planes), kind="stable")]
    middle = len(ordered) // 2 - len(_NEIGHBOURS) // 2
    some = [told[ordered[middle + place]] for place in _NEIGHBOURS]
    for key, (name, _) in enumerate(some[0]):
        if name not in NEVER_MIXED or len({one[key][1] for one in some}) < 2:
            continue
        said = [told[plane][key][1] for plane in ordered]
        changes = sum(one != other for one, other in pairwise(said))
        if 2 * changes > len(ordered) and 2 * len(set(said)) <= len(ordered):
            parts = _grouped(planes, lambda plane, key=key: told[plane][key][1])  # type: ignore[misc]
            return [
                found
                for value, part in parts.items()
                for found in _told_apart(part, (*by, (name, value)), told, key + 1)
            ]
    return []


def _at_last(
    planes: Sequence[Plane], by: tuple[tuple[str, str], ...]
) -> list[tuple[list[Plane], tuple[tuple[str, str], ...]]]:
    """Two series under one UID, or sweeps that time alone tells; nothing where that does not part every place."""
    for name, keyword in AT_LAST.items():
        parts = _grouped(planes, lambda plane, of=keyword: text(plane.groups[-1], of))  # type: ignore[misc]
        if 1 < len(parts) <= len(planes) // 2 and not any(map(_excess, parts.values())):
            return [(part, (*by, (name, value))) for value, part in parts.items()]
    found = sweeps(_at_one_place(planes))
    if found is None:
        return []
    name, made = found
    return [(part, (*by, (name, f"{number:04}"))) for number, part in enumerate(made, 1)]


def _grouped(planes: Iterable[Plane], key: Callable[[Plane], str]) -> dict[str, list[Plane]]:
    groups: dict[str, list[Plane]] = defaultdict(list)
    for plane in planes:
        groups[key(plane)].append(plane)
    return dict(sorted(groups.items()))


def _several(planes: Sequence[Plane], told: _Told) -> str:
    """Why places are taken several times: a cine has many times or phases at few places."""
    places = len(_at_one_place(planes))
    where = "one place" if places == 1 else f"{places} places"
    for key, (name, _) in enumerate(told[planes[0]]):
        if len({told[one][key] for one in planes}) * places >= len(planes):
            return (
                f"{len(planes)} planes at {where}, told apart by {name}: a cine or a series of measurements"
            )
    return "several planes at one place, and no header tells them apart"


def _measured(planes: Sequence[Plane], apart: tuple[tuple[str, str], ...], told: _Told) -> Stack | Reason:
    """The planes sorted and their steps checked, or why they are no volume."""
    if _excess(planes):
        return Reason(LeftOutReason.SEVERAL_AT_ONE_PLACE, _several(planes, told))
    depths = _depths(planes)
    normal = np.array(planes[0].normal)
    if normal[int(np.argmax(np.abs(normal)))] < 0:
        depths = -depths
    order = np.argsort(depths)
    sorted_planes = tuple(planes[index] for index in order)
    if len(planes) == 1:
        return Stack(sorted_planes, None, (), 0.0, apart)
    steps = np.diff(depths[order])
    usual = float(np.median(steps))
    counts = np.maximum(1, np.rint(steps / usual)).astype(int)
    tolerance = min(max(UNEVEN_PART * usual, UNEVEN_MM), UNEVEN_MOST * usual)
    if counts.max() > MOST_GAP or np.abs(steps - counts * usual).max() > tolerance:
        return Reason(LeftOutReason.IRREGULAR_VOLUME, "the planes do not lie at even distances")
    places = np.concatenate([[0], np.cumsum(counts)])
    positions = np.array([plane.position for plane in sorted_planes])
    step = (positions[-1] - positions[0]) / places[-1]
    beside = positions - (positions[0] + places[:, None] * step)
    if np.linalg.norm(beside, axis=1).max() > max(tolerance, min(planes[0].spacing) / 2):
        return Reason(LeftOutReason.IRREGULAR_VOLUME, "the planes do not lie on a straight line")
    leaning = abs(float(step @ normal)) / float(np.linalg.norm(step))
    return Stack(
        sorted_planes,
        (float(step[0]), float(step[1]), float(step[2])),
        tuple((index + 1, int(count) - 1) for index, count in enumerate(counts) if count > 1),
        float(np.degrees(np.arccos(min(1.0, leaning)))),
        apart,
    )
