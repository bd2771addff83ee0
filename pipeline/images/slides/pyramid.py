"""Whole slides as their headers describe them: levels of tiles, never the label or the overview (PS3.3 C.8.12).

One series is one slide. Instances of Image Type VOLUME are its levels, each whole or in parts (a concatenation, PS3.3
C.7.6.16.2.2.4). Tiles lie row by row where the header says TILED_FULL (PS3.3 C.7.6.17.3), else where their functional
groups say; of several focal planes the middle one is read, of several optical paths the first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pipeline.errors import FailStudy
from pipeline.images.choose import Reason
from pipeline.images.decode import Declared, declared_pixels
from pipeline.images.headers import Header, integer, items, numbers, text, texts
from pipeline.images.limits import ImageLimits
from pipeline.study import LeftOutReason

TILE_LIMITS = ImageLimits(max_frame_pixels=1 << 26, max_pixels=1 << 50, min_side=8)
MOST_TILES = 1 << 20
MOST_SIDE = 1 << 22
"""Pixels of a level; a slide of 20 cm at 0.05 micrometres has four million."""
LABEL = Reason(LeftOutReason.SLIDE_LABEL, "the label or overview of a slide, which may show whose it is")


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a slide.

    ``rows`` and ``columns`` are those of the whole level (Total Pixel Matrix), ``spacing_mm`` (between rows, between
    columns). ``tiles`` int32 [tiles, 4]: part (index into ``parts``), frame (from 0), and row and column of the first
    pixel in the level (from 0), row by row. Every tile has the size that ``declared`` says. ``path`` names the optical
    path that is read, of ``paths``. ``grey`` are the stored values that are shown black and white where the tiles are
    grey (fluorescence), known once some were read.
    """

    parts: tuple[Header, ...]
    declared: Declared
    rows: int
    columns: int
    spacing_mm: tuple[float, float]
    tiles: NDArray[np.int32]
    path: str = ""
    paths: int = 1
    grey: tuple[float, float] | None = None

    @property
    def microns(self) -> float:
        """Micrometres from pixel to pixel, the larger of both ways."""
        return 1000 * max(self.spacing_mm)


def refuse_label(header: Header) -> Reason | None:
    """Why an instance of a slide is none of its levels; None where it is one (PS3.3 C.8.12.4.1.1)."""
    flavour = (*(kind.upper() for kind in texts(header.dataset, "ImageType")[2:3]), "")[0]
    if flavour != "VOLUME":
        return LABEL
    if text(header.dataset, "SpecimenLabelInImage").upper() == "YES":
        return LABEL
    return None


def levels_of(headers: Iterable[Header]) -> tuple[tuple[Level, ...], tuple[tuple[Header, Reason], ...]]:
    """The levels of one slide, finest first, and the instances that are none, each with its reason."""
    left_out: list[tuple[Header, Reason]] = []
    wholes: dict[str, list[Header]] = {}
    for header in headers:
        if (reason := refuse_label(header)) is not None:
            left_out.append((header, reason))
        else:
            dataset = header.dataset
            key = text(dataset, "ConcatenationUID") or text(dataset, "SOPInstanceUID")
            wholes.setdefault(key, []).append(header)
    levels: list[Level] = []
    for parts in wholes.values():
        try:
            levels.append(_level(parts))
        except FailStudy as error:
            left_out += [(header, Reason(error.code, error.message)) for header in parts]
    levels.sort(key=lambda level: (level.microns, -level.rows * level.columns))
    return tuple(levels), tuple(left_out)


def _level(parts: Sequence[Header]) -> Level:
    parts = sorted(parts, key=lambda one: integer(one.dataset, "ConcatenationFrameOffsetNumber") or 0)
    declared = [declared_pixels(one, TILE_LIMITS) for one in parts]
    first = parts[0].dataset
    if any((one.rows, one.columns) != (declared[0].rows, declared[0].columns) for one in declared):
        raise FailStudy("slide-tiles", "the parts of a level have tiles of several sizes")
    rows, columns = (integer(first, f"TotalPixelMatrix{which}") or 0 for which in ("Rows", "Columns"))
    if not 0 < rows <= MOST_SIDE or not 0 < columns <= MOST_SIDE:
        raise FailStudy("slide-size", "the header does not say how large the slide is (Total Pixel Matrix)")
    frames = [one.frames for one in declared]
    if _is_partial(parts, frames):
        raise FailStudy("slide-tiles", "parts of a level are missing (Concatenation)")
    if sum(frames) > MOST_TILES:
        raise FailStudy("too-large", f"a level of {sum(frames)} tiles")
    shared = (items(first, "SharedFunctionalGroupsSequence") or (Dataset(),))[0]
    if text(first, "DimensionOrganizationType").upper() == "TILED_FULL":
        places = _in_order(first, declared[0], frames, rows, columns)
    else:
        places = _as_told(parts, frames, shared)
    inside = (places[:, 2] < rows) & (places[:, 3] < columns) & (places[:, 2:] >= 0).all(axis=1)
    if not inside.any():
        raise FailStudy("slide-tiles", "no tile lies inside the slide")
    optical = items(first, "OpticalPathSequence")
    return Level(
        tuple(parts), declared[0], rows, columns, _spacing(first, shared, rows, columns), places[inside],
        _named(optical[0]) if optical else "", max(1, len(optical)),
    )  # fmt: skip


def _named(optical: Dataset) -> str:
    """An optical path by what tells it from those of other instances: its identifier is unique in its own alone."""
    told = ("OpticalPathIdentifier", "IlluminationWaveLength", "OpticalPathDescription")
    return "\\".join(text(optical, one) for one in told)


def _is_partial(parts: Sequence[Header], frames: Sequence[int]) -> bool:
    """Whether parts of a concatenation are not there, by what each says of its place (PS3.3 C.7.6.16.2.2.4)."""
    told = [integer(one.dataset, "ConcatenationFrameOffsetNumber") for one in parts]
    begins = [sum(frames[:number]) for number in range(len(parts))]
    total = integer(parts[0].dataset, "InConcatenationTotalNumber") or len(parts)
    return total != len(parts) or any(
        one not in (None, begin) for one, begin in zip(told, begins, strict=True)
    )


def _in_order(
    dataset: object, declared: Declared, frames: Sequence[int], rows: int, columns: int
) -> NDArray[np.int32]:
    """Tiles row by row; of several focal planes the middle one of the first optical path."""
    down, across = -(-rows // declared.rows), -(-columns // declared.columns)
    count = down * across
    if not count or sum(frames) % count:
        raise FailStudy("slide-tiles", "the number of tiles is none that covers the slide (TILED_FULL)")
    focal = integer(dataset, "TotalPixelMatrixFocalPlanes") or 1  # type: ignore[arg-type]
    focal = focal if 1 <= focal <= sum(frames) // count else 1
    begin = (focal // 2) * count
    numbered = np.arange(begin, begin + count)
    ends = np.cumsum(frames)
    part = np.searchsorted(ends, numbered, side="right")
    frame = numbered - (ends - np.array(frames))[part]
    row, column = np.divmod(np.arange(count), across)
    return np.stack([part, frame, row * declared.rows, column * declared.columns], axis=1).astype(np.int32)


def _as_told(parts: Sequence[Header], frames: Sequence[int], shared: Dataset) -> NDArray[np.int32]:
    """Tiles by Plane Position (Slide) of their functional groups, the first optical path and the middle focal plane."""
    told: dict[tuple[str, float], list[tuple[int, int, int, int]]] = {}
    for part, (header, count) in enumerate(zip(parts, frames, strict=True)):
        groups = items(header.dataset, "PerFrameFunctionalGroupsSequence")
        if len(groups) != count:
            raise FailStudy("slide-tiles", "the header places more or fewer tiles than it holds")
        for frame, group in enumerate(groups):
            place = (*items(group, "PlanePositionSlideSequence"), Dataset())[0]
            row, column = (
                integer(place, f"{which}PositionInTotalImagePixelMatrix") for which in ("Row", "Column")
            )
            if row is None or column is None:
                raise FailStudy("slide-tiles", "the header does not say where the tiles lie")
            paths = items(group, "OpticalPathIdentificationSequence") or items(
                shared, "OpticalPathIdentificationSequence"
            )
            depth = (*numbers(place, "ZOffsetInSlideCoordinateSystem"), 0.0)[0]
            path = text(paths[0], "OpticalPathIdentifier") if paths else ""
            told.setdefault((path, depth), []).append((part, frame, row - 1, column - 1))
    path = next(iter(told))[0]
    depths = sorted(depth for other, depth in told if other == path)
    places = np.array(told[path, depths[len(depths) // 2]], np.int64).clip(-1, MOST_SIDE)
    return places[np.lexsort((places[:, 3], places[:, 2]))].astype(np.int32)


def _spacing(dataset: object, shared: Dataset, rows: int, columns: int) -> tuple[float, float]:
    """Pixel Spacing, else the imaged size over the pixels (PS3.3 C.8.12.4), in mm."""
    for item in items(shared, "PixelMeasuresSequence"):
        found = numbers(item, "PixelSpacing")
        if len(found) == 2 and min(found) > 0:
            return found[0], found[1]
    size = (
        *numbers(dataset, "ImagedVolumeHeight")[:1],  # type: ignore[arg-type]
        *numbers(dataset, "ImagedVolumeWidth")[:1],  # type: ignore[arg-type]
    )
    if len(size) == 2 and min(size) > 0:
        return size[0] / rows, size[1] / columns
    raise FailStudy("slide-size", "the header does not say how far the pixels of the slide lie apart")
