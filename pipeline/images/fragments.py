"""Where the frames of compressed pixel data lie in a file, so that one is read without those before it (PS3.5 A.4).

The items are walked once by their lengths alone. Where there is one for each frame, as the standard wants of all that
have an Extended Offset Table (PS3.3 C.7.6.3.1.8) and of RLE, no table is asked. A Basic Offset Table counts only where
each of its entries is the place of an item; one that lies is passed over, and frames are told by how codestreams begin
or end.
"""

import os
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from pipeline.errors import FailStudy

MOST_FRAGMENTS = 1 << 20
"""More items than that are refused: a slide of 256 x 256 pixels a tile has so many at 260,000 pixels a side."""
ROOM_BESIDE = 1 << 20
"""Bytes that a compressed frame may take beyond twice those of its pixels."""
_ITEM, _END = 0xE000FFFE, 0xE0DDFFFE
_BEGINNINGS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ", b"\xff\x0a", b"\0\0\0\x0cJXL ")
_END_MARKER = b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class FrameTable:
    """The fragments of compressed pixel data, places and lengths in bytes; ``firsts`` is the first of each frame, and
    behind the last frame's the number of all.
    """

    starts: Sequence[int]
    lengths: Sequence[int]
    firsts: Sequence[int]

    def pieces(self, frame: int) -> tuple[tuple[int, int], ...]:
        """Place and length of each fragment of frame ``frame`` (from 0)."""
        held = range(self.firsts[frame], self.firsts[frame + 1])
        return tuple((self.starts[one], self.lengths[one]) for one in held)

    def read(self, path: Path, frame: int, pixel_bytes: int) -> bytes:
        """The bytes of one frame, which is ``pixel_bytes`` long when decoded.

        Raises FailStudy: "too-large" where they are many times more than it can need, "pixel-data-short".
        """
        pieces = self.pieces(frame)
        size = sum(length for _, length in pieces)
        if size > 2 * pixel_bytes + ROOM_BESIDE:
            raise FailStudy("too-large", "a compressed frame takes more room than its pixels")
        with path.open("rb", buffering=0) as file:
            content = b"".join(os.pread(file.fileno(), length, start) for start, length in pieces)
        if len(content) < size:
            raise _short()
        return content


def frame_table(path: Path, first_item: int, frames: int) -> FrameTable:
    """The table of ``frames`` frames in ``path``, whose first item, the Basic Offset Table, begins at ``first_item``.

    The tables of the last files are kept. Raises FailStudy: "pixel-data-short" where the file is cut or holds fewer
    frames, "frame-places" where nothing tells which fragments a frame consists of, "too-large" beyond
    ``MOST_FRAGMENTS``; ValueError where something else than items lies there.
    """
    found = path.stat()
    return _walked(path, first_item, frames, (found.st_ino, found.st_size, found.st_mtime_ns))


@lru_cache(maxsize=8)
def _walked(path: Path, first_item: int, frames: int, identity: tuple[int, int, int]) -> FrameTable:
    size = identity[1]
    starts, lengths = array("Q"), array("Q")
    with path.open("rb", buffering=0) as file:
        place = first_item
        while place + 8 <= size:
            tag, length = struct.unpack("<II", os.pread(file.fileno(), 8, place))
            if tag == _END:
                break
            if tag != _ITEM:
                raise ValueError("no item of pixel data")
            if place + 8 + length > size:
                raise _short()
            if len(starts) > MOST_FRAGMENTS:
                raise FailStudy("too-large", "the pixel data lies in more pieces than an image can have")
            starts.append(place + 8)
            lengths.append(length)
            place += 8 + length
        if not starts:
            raise _short()
        offsets = _offsets(file.fileno(), starts[0], lengths[0], frames)
        starts, lengths = starts[1:], lengths[1:]
        return FrameTable(starts, lengths, _firsts(file.fileno(), starts, lengths, offsets, frames))


def _offsets(file: int, start: int, length: int, frames: int) -> tuple[int, ...]:
    """The Basic Offset Table, () where it has another number of entries than there are frames."""
    if length != 4 * frames:
        return ()
    return struct.unpack(f"<{frames}I", os.pread(file, length, start))


def _firsts(
    file: int, starts: Sequence[int], lengths: Sequence[int], offsets: Sequence[int], frames: int
) -> Sequence[int]:
    count = len(starts)
    if count < frames or not count:
        raise _short()
    if count == frames:
        return range(frames + 1)
    if frames == 1:
        return (0, count)
    by_place = {start - starts[0]: number for number, start in enumerate(starts)}
    told = [by_place.get(offset, -1) for offset in offsets]
    begun = [
        number for number, start in enumerate(starts) if os.pread(file, 12, start).startswith(_BEGINNINGS)
    ]
    ended = [0] + [
        number + 1
        for number, (start, length) in enumerate(zip(starts, lengths, strict=True))
        if _END_MARKER in os.pread(file, min(10, length), start + max(0, length - 10))
    ]
    if ended[-1] == count:
        ended.pop()
    for firsts in (told, begun, ended):
        ascending = all(one < other for one, other in pairwise(firsts))
        if len(firsts) == frames and firsts[0] == 0 and ascending:
            return array("Q", [*firsts, count])
    raise FailStudy("frame-places", "frames lie in several pieces, and nothing tells where each begins")


def _short() -> FailStudy:
    return FailStudy("pixel-data-short", "the pixel data ends before the last frame that the header declares")
