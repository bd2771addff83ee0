"""How a film is to be shown: by Patient Orientation (PS3.3 C.7.6.1.1.1), by a presentation state where that is silent.

A frontal film is shown with its rows to the patient's left and its columns to the feet; a lateral one with the head on
top.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pipeline.images.headers import Elements, Header, integer, items, numbers, text, texts
from pipeline.images.rejection import rejected
from pipeline.study import Remark, Turn

PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
_UPRIGHT = Turn()
_LEAST_SHOWN = 0.1
"""A shutter that leaves less of the film than this is taken for wrong."""
_AGAINST = Remark(
    "orientation",
    "orientation, view and laterality of a film contradict each other: look at the side",
)
_BY_STATE = Remark(
    "orientation", "a film is shown turned as a presentation state says: its header says no orientation"
)


@dataclass(frozen=True, slots=True)
class Presented:
    """How one film is shown: turned, with what lies outside a shutter black; and what a reader should know."""

    turn: Turn = _UPRIGHT
    shutters: tuple[Elements, ...] = ()
    remarks: tuple[Remark, ...] = ()


def presentation_states(headers: Sequence[Header]) -> list[Header]:
    """The presentation states of a study that no rejection note takes out of use."""
    out = rejected(headers)
    return [
        header
        for header in headers
        if text(header.dataset, "SOPClassUID") == PRESENTATION_STATE
        and text(header.dataset, "SOPInstanceUID") not in out
    ]


def presented(dataset: Elements, states: Sequence[Header], *, lateral: bool) -> Presented:
    """How the film is shown, beside the presentation states of its study."""
    uid = text(dataset, "SOPInstanceUID")
    own = [state.dataset for state in states if uid in _referenced(state.dataset)]
    by_header = turn_of(dataset, lateral=lateral)
    asked = {turn for state in own if (turn := _turn_of_state(state)) is not None}
    remarks = []
    if _contradicts(dataset, lateral=lateral):
        remarks.append(_AGAINST)
    turn = by_header or _UPRIGHT
    if by_header is None and len(asked) == 1 and asked != {_UPRIGHT}:
        turn = asked.pop()
        remarks.append(_BY_STATE)
    elif len(asked) > 1 or (by_header is not None and asked - {by_header}):
        remarks.append(_AGAINST)
    return Presented(turn, (dataset, *own), tuple(dict.fromkeys(remarks)))


def turn_of(dataset: Elements, *, lateral: bool = False) -> Turn | None:
    """What Patient Orientation asks for, None where it does not say how the film lies in its plane."""
    directions = [value[:1].upper() for value in texts(dataset, "PatientOrientation")]
    if len(directions) != 2:
        return None
    across, down = directions
    transposed = across in ("H", "F")
    if transposed:
        across, down = down, across
    if down not in ("H", "F") or across not in (("A", "P") if lateral else ("L", "R")):
        return None
    return Turn(transposed, not lateral and across == "R", down == "H")


def apply_shutters(film: npt.NDArray[np.float32], shutters: Sequence[Elements]) -> npt.NDArray[np.float32]:
    """``film`` as stored, black outside the display shutters (PS3.3 C.7.6.11)."""
    for dataset in shutters:
        shown = _within_shutter(dataset, film.shape[0], film.shape[1])
        if shown is not None and shown.mean() >= _LEAST_SHOWN:
            film = np.where(shown, film, np.float32(0))
    return film


def _within_shutter(dataset: Elements, rows: int, columns: int) -> npt.NDArray[np.bool_] | None:
    """Where the shutter lets the film be seen; rows and columns count from 1."""
    shapes = {shape.upper() for shape in texts(dataset, "ShutterShape")}
    if not shapes & {"RECTANGULAR", "CIRCULAR", "POLYGONAL"}:
        return None
    shown = np.ones((rows, columns), bool)
    if "RECTANGULAR" in shapes:
        edges = [integer(dataset, f"Shutter{edge}Edge") for edge in ("UpperHorizontal", "LowerHorizontal",
                                                                    "LeftVertical", "RightVertical")]  # fmt: skip
        if None not in edges:
            upper, lower, left, right = (edge or 0 for edge in edges)
            inside = np.zeros_like(shown)
            inside[max(0, upper - 1) : max(0, lower), max(0, left - 1) : max(0, right)] = True
            shown &= inside
    center, radius = numbers(dataset, "CenterOfCircularShutter"), integer(dataset, "RadiusOfCircularShutter")
    if "CIRCULAR" in shapes and len(center) == 2 and radius:
        y, x = np.ogrid[1 : rows + 1, 1 : columns + 1]
        shown &= (y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius**2
    corners = numbers(dataset, "VerticesOfThePolygonalShutter")
    if "POLYGONAL" in shapes and len(corners) >= 6 and len(corners) % 2 == 0:
        mask = Image.new("1", (columns, rows))
        points = [(x - 1, y - 1) for y, x in zip(corners[::2], corners[1::2], strict=True)]
        ImageDraw.Draw(mask).polygon(points, fill=1, outline=1)
        shown &= np.asarray(mask, bool)
    return shown


def _turn_of_state(state: Elements) -> Turn | None:
    """Rotated clockwise first, then flipped (PS3.3 C.10.6); None where the state has no Spatial Transformation."""
    if not text(state, "ImageRotation") and not text(state, "ImageHorizontalFlip"):
        return None
    transposed, mirrored, upside_down = {
        90: (True, True, False), 180: (False, True, True), 270: (True, False, True),
    }.get((integer(state, "ImageRotation") or 0) % 360, (False, False, False))  # fmt: skip
    return Turn(transposed, mirrored != (text(state, "ImageHorizontalFlip").upper() == "Y"), upside_down)


def _referenced(state: Elements) -> Iterator[str]:
    for series in items(state, "ReferencedSeriesSequence"):
        for image in items(series, "ReferencedImageSequence"):
            yield text(image, "ReferencedSOPInstanceUID")


def _contradicts(dataset: Elements, *, lateral: bool) -> bool:
    """Whether orientation, view and laterality cannot all be true of one film."""
    directions = {value[:1].upper() for value in texts(dataset, "PatientOrientation")}
    wrong = {"L", "R"} if lateral else {"A", "P"}
    one_sided = text(dataset, "ImageLaterality").upper() in ("L", "R")
    return bool(directions & wrong) or (one_sided and not lateral)
