"""What a compressed frame says of itself, read before any decoder sees it.

A codestream's own header decides what a decoder allocates, so it is compared with what the DICOM header
declares first.
"""

import struct
from dataclasses import dataclass
from enum import StrEnum


class Codec(StrEnum):
    """The kind of a codestream."""

    JPEG = "JPEG"
    JPEG_LOSSLESS = "lossless JPEG"
    JPEG_LS = "JPEG-LS"
    JPEG_2000 = "JPEG 2000"
    HTJ2K = "HTJ2K"
    JPEG_XL = "JPEG XL"


@dataclass(frozen=True, slots=True)
class Codestream:
    """Size and depth of one compressed frame; ``tiles`` is 1 but for JPEG 2000.

    ``components`` and ``precision`` are 0 where the header is not read so far: JPEG XL packs them behind optional
    fields.
    """

    codec: Codec
    rows: int
    columns: int
    components: int
    precision: int
    tiles: int = 1


_FRAME_MARKERS = {
    0xC0: Codec.JPEG,
    0xC1: Codec.JPEG,
    0xC2: Codec.JPEG,
    0xC3: Codec.JPEG_LOSSLESS,
    0xF7: Codec.JPEG_LS,
}
"""Baseline, extended sequential and progressive, which wrappers of web pictures call baseline; lossless (ISO/IEC
10918-1 table B.1), JPEG-LS (ISO/IEC 14495-1 C.1.1).
"""
_CAP = 0xFF50
_JPEG_XL = b"\xff\x0a"
_RATIOS = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Columns to rows that JPEG XL writes in three bits (ISO/IEC 18181-1 annex C.3)."""
_END_MARKER = b"\xff\xd9"
"""EOI of the JPEG family and EOC of JPEG 2000."""
MAX_PADDING = 16


def read_codestream(frame: bytes) -> Codestream:
    """The frame's own header. Raises ValueError for anything that DICOM does not allow in a frame."""
    if frame[:2] == b"\xff\xd8":
        return _read_jpeg(frame)
    if frame[:4] == b"\xff\x4f\xff\x51":
        return _read_jpeg_2000(frame)
    if frame[4:8] == b"jP  ":
        start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)
        if start >= 0:
            return _read_jpeg_2000(frame[start:])
    if frame[:2] == _JPEG_XL or frame[4:8] == b"JXL ":
        return _read_jpeg_xl(_jpeg_xl_codestream(frame))
    raise ValueError("not a known codestream")


def whole_frame(frame: bytes) -> bytes:
    """``frame`` up to its end marker, without padding: a few bytes of anything, or zeros however many.

    Raises ValueError where the marker is missing.

    A frame cut short is never given to a decoder: libjpeg-turbo shows the rest grey without an error, and CharLS
    reads beyond the end.
    """
    end = frame.rfind(_END_MARKER)
    if end < 0 or (end + 2 + MAX_PADDING < len(frame) and frame[end + 2 :].strip(b"\0")):
        raise ValueError("no end marker")
    return frame[: end + 2]


def _jpeg_xl_codestream(frame: bytes) -> bytes:
    """The beginning of the codestream, also within its container (ISO/IEC 18181-2 section 4)."""
    at = 0
    while frame[:2] != _JPEG_XL and at + 16 <= len(frame):
        length, kind = struct.unpack_from(">I4s", frame, at)
        head = 8
        if length == 1:
            length, head = int(struct.unpack_from(">Q", frame, at + 8)[0]), 16
        if kind in (b"jxlc", b"jxlp"):
            start = at + head + (4 if kind == b"jxlp" else 0)
            return frame[start : start + 64]
        if length < head:
            break
        at += length
    return frame[:64]


def _read_jpeg_xl(head: bytes) -> Codestream:
    """SizeHeader (ISO/IEC 18181-1 annex C.3); bits come from the lowest up."""
    if head[:2] != _JPEG_XL:
        raise ValueError("no JPEG XL codestream")
    bits, at = int.from_bytes(head[2:], "little"), 0

    def take(count: int) -> int:
        nonlocal at
        value = bits >> at & ((1 << count) - 1)
        at += count
        return value

    def side(*, small: bool) -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    small = bool(take(1))
    rows = side(small=small)
    ratio = take(3)
    across, down = _RATIOS[ratio]
    columns = rows * across // down if ratio else side(small=small)
    return Codestream(Codec.JPEG_XL, rows, columns, 0, 0)


def _read_jpeg(frame: bytes) -> Codestream:
    position = 2
    while position + 10 <= len(frame):
        if frame[position] != 0xFF:
            raise ValueError("a marker was expected")
        marker = frame[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _FRAME_MARKERS:
            precision, rows, columns, components = struct.unpack_from(">BHHB", frame, position + 4)
            return Codestream(_FRAME_MARKERS[marker], rows, columns, components, precision)
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xDA:
            raise ValueError("a JPEG process that DICOM does not use")
        position += 2 + int(struct.unpack_from(">H", frame, position + 2)[0])
    raise ValueError("no frame header")


def _read_jpeg_2000(frame: bytes) -> Codestream:
    """SIZ and the presence of CAP (ISO/IEC 15444-1 A.5.1, 15444-15 A.2)."""
    (_, x1, y1, x0, y0, tile_x, tile_y, tile_x0, tile_y0, components) = struct.unpack_from(
        ">HIIIIIIIIH", frame, 6
    )
    depth, step_x, step_y = struct.unpack_from(">BBB", frame, 42)
    if not (x0 < x1 and y0 < y1 and tile_x and tile_y and step_x == step_y == 1 and components):
        raise ValueError("an image size that cannot be")
    across, down = -(-(x1 - tile_x0) // tile_x), -(-(y1 - tile_y0) // tile_y)
    after_size = 4 + int(struct.unpack_from(">H", frame, 4)[0])
    high_throughput = struct.unpack_from(">H", frame, after_size)[0] == _CAP
    codec = Codec.HTJ2K if high_throughput else Codec.JPEG_2000
    return Codestream(codec, y1 - y0, x1 - x0, components, (depth & 0x7F) + 1, across * down)
