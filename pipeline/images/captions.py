"""What stands under a picture for people: what it is, which frame or plane, in which window. No text of a header's own.

A radiograph of the chest, PA; CT of the head, axial, plane 41 of 130, window -160 to 240 HU.
"""

from collections.abc import Sequence

from pipeline.images.headers import Elements
from pipeline.images.instance_identity import identify

_SAID_BY_THE_WORDS = ("", "lateral", "other")
_CHANNELS = " as red, green and blue"


def caption(dataset: Elements, frame: int, frames: int, view: str = "") -> str:
    """Of one frame (from 0) of an instance; ``view`` where it is known otherwise than by the header."""
    identity = identify(dataset)
    view = view or (identity.view if identity.view not in _SAID_BY_THE_WORDS else "")
    words = _of_one(str(identity)) + (f", {view}" if view else "")
    return words + (f", frame {frame + 1} of {frames}" if frames > 1 else "")


def plane_caption(dataset: Elements, orientation: str, place: int, planes: int, shown: str) -> str:
    """Of the plane at ``place`` (from 0, from feet to head) of a stack; ``shown`` is as ``range_shown`` gives it."""
    return f"{_of_one(str(identify(dataset)))}, {orientation}, plane {place + 1} of {planes}, {shown}"


def range_shown(ranges: Sequence[tuple[float, float]], unit: str) -> str:
    """The values from black to white: HU, SUV, or those that are stored, where ``unit`` is ""."""
    told = ", ".join(f"{low:.4g} to {high:.4g}" for low, high in ranges)
    if unit == "HU":
        return f"window{'s' if len(ranges) > 1 else ''} {told} HU{_CHANNELS if len(ranges) > 1 else ''}"
    return f"{unit or 'values'} {told}"


def _of_one(words: str) -> str:
    """ "a CT of the head" as a caption begins: "CT of the head"."""
    article, _, rest = words.partition(" ")
    named = rest if article in ("a", "an") else words
    return named[:1].upper() + named[1:]
