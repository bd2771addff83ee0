"""Walking the elements of an encoded data set (PS3.5 section 7) without decoding values or touching pixels.

The walk reads element headers only, so a file of gigabytes costs a few pages. It is lenient where devices are
sloppy (order, odd lengths, zero padding at the end) and strict where bytes are missing.
"""

import mmap
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

Encoded = bytes | bytearray | memoryview | mmap.mmap

PIXEL_DATA = 0x7FE00010
UNDEFINED = 0xFFFFFFFF

_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_DEEPEST = 32
_MOST_HEADERS = 250_000  # so that a hostile file of empty elements ends

_SHORT_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
)  # 16-bit length, PS3.5 section 7.1.2
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # 32-bit length


@dataclass(frozen=True, slots=True)
class Encoding:
    """How elements are laid out: explicit or implicit VR, byte order."""

    explicit: bool
    little: bool


IMPLICIT_LITTLE = Encoding(explicit=False, little=True)
EXPLICIT_LITTLE = Encoding(explicit=True, little=True)
EXPLICIT_BIG = Encoding(explicit=True, little=False)


class DataElement(NamedTuple):
    """One top-level element: ``start`` and ``length`` frame its value.

    ``undefined`` tells that it was delimited.
    """

    tag: int
    vr: bytes
    start: int
    length: int
    undefined: bool


class _Reader:
    """Byte access with the limits and byte order of one encoded data set."""

    def __init__(self, encoded: Encoded, encoding: Encoding, end: int) -> None:
        self.encoded = encoded
        self.encoding = encoding
        self.end = end
        self._left = _MOST_HEADERS
        order = "<" if encoding.little else ">"
        self._tag = struct.Struct(order + "HH").unpack_from
        self._short = struct.Struct(order + "H").unpack_from
        self._long = struct.Struct(order + "I").unpack_from

    def tag(self, at: int) -> int:
        group, element = self._tag(self.encoded, at)
        return int(group) << 16 | int(element)

    def header(self, at: int) -> tuple[int, bytes, int, int]:
        """Tag, VR, value start and stated length of the element at ``at``.

        EOFError where the header is cut.
        """
        if at + 8 > self.end:
            raise EOFError("element header is cut")
        self._left -= 1
        if not self._left:
            raise ValueError("more elements than any instance has")
        tag = self.tag(at)
        if not self.encoding.explicit or tag >> 16 == 0xFFFE:
            return tag, b"", at + 8, self._long(self.encoded, at + 4)[0]
        vr = bytes(self.encoded[at + 4 : at + 6])
        if vr in _SHORT_VRS:
            return tag, vr, at + 8, self._short(self.encoded, at + 6)[0]
        if vr not in _LONG_VRS:
            raise ValueError("no value representation where one is due")
        if at + 12 > self.end:
            raise EOFError("element header is cut")
        return tag, vr, at + 12, self._long(self.encoded, at + 8)[0]


def elements(
    encoded: Encoded, encoding: Encoding, start: int = 0, end: int | None = None
) -> Iterator[DataElement]:
    """Yield the top-level elements from ``start`` to ``end``.

    Raises EOFError where bytes that were announced are missing, ValueError where the bytes are not elements.
    """
    reader = _Reader(encoded, encoding, len(encoded) if end is None else end)
    at = start
    while at < reader.end:
        if _only_padding(reader, at):
            return
        tag, vr, value, length = reader.header(at)
        undefined = length == UNDEFINED
        at = _after_items(reader, value, vr, tag == PIXEL_DATA, 0) if undefined else value + length
        if at > reader.end:
            raise EOFError("an element's value is cut")
        yield DataElement(tag, vr, value, at - value, undefined)


def sniff(encoded: Encoded, start: int) -> Encoding | None:
    """The encoding that the first element at ``start`` is plainly written in.

    None if it is something else.
    """
    head = bytes(encoded[start : start + 8])
    if len(head) < 8:
        return None
    if head[4:6] in _SHORT_VRS or head[4:6] in _LONG_VRS:
        return EXPLICIT_LITTLE if _likely_group(head[:2], "little") else EXPLICIT_BIG
    return IMPLICIT_LITTLE if _likely_group(head[:2], "little") else None


def _likely_group(group: bytes, order: str) -> bool:
    return (group[1] if order == "little" else group[0]) == 0


def _only_padding(reader: _Reader, at: int) -> bool:
    """True where nothing but zeros is left: some devices pad files to even blocks."""
    if reader.end - at >= 8 and bytes(reader.encoded[at : at + 8]) != bytes(8):
        return False
    rest = bytes(reader.encoded[at : min(reader.end, at + (1 << 16))])
    return not rest.strip(b"\0") and reader.end - at <= 1 << 16


def _after_items(reader: _Reader, at: int, vr: bytes, pixels: bool, depth: int) -> int:
    """The position after the items of an element of undefined length (PS3.5 sections 7.5 and A.4)."""
    if depth > _DEEPEST:
        raise ValueError("sequences are nested too deeply")
    inner = reader
    if vr == b"UN":  # PS3.5 section 6.2.2 note 2: its items are implicit VR little endian
        inner = _Reader(reader.encoded, IMPLICIT_LITTLE, reader.end)
    first = at
    while True:
        if pixels and at == inner.end and at > first:
            return at  # some encoders leave the last delimiter out; every fragment is whole
        if at + 8 > inner.end:
            raise EOFError("a sequence is cut")
        tag, _, value, length = inner.header(at)
        if tag == _SEQUENCE_END:
            return value
        if tag != _ITEM:
            raise ValueError("a sequence holds something that is no item")
        at = _after_item(inner, value, depth) if length == UNDEFINED else value + length
        if at > inner.end:
            raise EOFError("an item is cut")


def _after_item(reader: _Reader, at: int, depth: int) -> int:
    while True:
        tag, vr, value, length = reader.header(at)
        if tag == _ITEM_END:
            return value
        at = _after_items(reader, value, vr, False, depth + 1) if length == UNDEFINED else value + length
        if at > reader.end:
            raise EOFError("an item's element is cut")


def collect(
    encoded: Encoded,
    encoding: Encoding,
    wanted: Callable[[int], bool],
    start: int = 0,
    end: int | None = None,
) -> dict[int, bytes]:
    """Raw values of the wanted top-level elements; raises as ``elements`` does."""
    return {
        element.tag: bytes(encoded[element.start : element.start + element.length])
        for element in elements(encoded, encoding, start, end)
        if wanted(element.tag)
    }
