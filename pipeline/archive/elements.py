"""Walking the elements of an encoded data set (PS3.5 section 7) without decoding values or touching pixels.

The walk reads element headers only, so a file of gigabytes costs a few pages. It is lenient where devices are
sloppy (order, odd lengths, unknown value representations, bytes behind the pixels) and strict where bytes are missing.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.archive.guarded_file import GuardedFile
from pipeline.element_encoding import ITEM, ITEM_END, LONG_VRS, SEQUENCE_END, SHORT_VRS, UNDEFINED

Encoded = bytes | bytearray | memoryview | GuardedFile
Patch = tuple[int, int, bytes]
"""From where to where other bytes have to stand, and which, so that every reader understands the data set."""

PIXEL_DATA = 0x7FE00010
LONGEST_VALUE = 1 << 12
"""Bytes of a value that is asked for; none of those that we read is longer."""
_DEEPEST = 32
_MOST_HEADERS = 250_000  # so that a hostile file of empty elements ends
_PIECE = 1 << 16
NO_TAG = bytes(4)
_GROUPS_AFTER_PIXELS = (0x7FE0, 0x7FE1, 0xFFFA, 0xFFFC)
"""Pixel data of private makers, digital signatures, trailing padding (PS3.6 tables 6-1 and 7-1)."""


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


class ElementReader:
    """Element headers of one encoded data set up to ``end``, of a bounded number of elements."""

    def __init__(
        self,
        encoded: Encoded,
        encoding: Encoding,
        end: int,
        patches: list[Patch] | None = None,
        left: list[int] | None = None,
    ) -> None:
        self.encoded = encoded
        self._bytes = None if isinstance(encoded, GuardedFile) else encoded
        self.patches: list[Patch] = [] if patches is None else patches
        self.encoding = encoding
        self._is_explicit = encoding.explicit
        self.end = end
        self._left = [_MOST_HEADERS] if left is None else left
        order = "<" if encoding.little else ">"
        self._tag = struct.Struct(order + "HH").unpack_from
        self._implicit = struct.Struct(order + "HHI").unpack_from
        self._explicit = struct.Struct(order + "HH2sH").unpack_from
        self._short = struct.Struct(order + "H").unpack_from
        self._long = struct.Struct(order + "I").unpack_from

    def header(self, at: int) -> tuple[int, bytes, int, int]:
        """Tag, VR, value start and stated length of the element at ``at``.

        EOFError where the header is cut.
        """
        if at + 8 > self.end:
            raise EOFError("element header is cut")
        self._left[0] -= 1
        if self._left[0] <= 0:
            raise ValueError("more elements than any instance has")
        head, here = (self._bytes, at) if self._bytes is not None else (self.encoded[at : at + 12], 0)
        if not self._is_explicit:
            group, element, length = self._implicit(head, here)
            return group << 16 | element, b"", at + 8, length
        group, element, vr, length = self._explicit(head, here)
        tag = group << 16 | element
        if vr in SHORT_VRS and group != 0xFFFE:
            return tag, vr, at + 8, length
        if group == 0xFFFE:
            return tag, b"", at + 8, self._long(head, here + 4)[0]
        if vr in LONG_VRS:
            if at + 12 > self.end:
                raise EOFError("element header is cut")
            stated = self._long(head, here + 8)[0]
            if length and self._is_short(tag, at, length, stated):
                return tag, vr, at + 8, length
            return tag, vr, at + 12, stated
        value, length = self._unknown(at, tag, self.encoded[at : min(at + 12, self.end)])
        return tag, b"UN", value, length

    def written(self, encoding: Encoding) -> "ElementReader":
        """The same bytes, read as another encoding."""
        return ElementReader(self.encoded, encoding, self.end, left=self._left)

    def delimiter(self, tag: int) -> bytes:
        """The eight bytes of an item or sequence delimiter."""
        order = "<" if self.encoding.little else ">"
        return struct.pack(order + "HHI", tag >> 16, tag & 0xFFFF, 0)

    def _is_short(self, tag: int, at: int, length: int, stated: int) -> bool:
        """Whether a value representation of 32-bit lengths was written with a 16-bit one (PS3.5 7.1.2 reserves two
        zero bytes there), as some writers do: then another element begins where that ends.
        """
        if stated == UNDEFINED or self._begins_after(tag, at + 12 + stated):
            return False
        if not self._begins_after(tag, at + 8 + length):
            return False
        order = "<" if self.encoding.little else ">"
        self.patches.append((at + 6, at + 8, b"\0\0" + struct.pack(order + "I", length)))
        return True

    def tag_of(self, head: bytes | bytearray | memoryview) -> int:
        group, element = self._tag(head, 0)
        return int(group) << 16 | int(element)

    def _unknown(self, at: int, tag: int, head: bytes | bytearray | memoryview) -> tuple[int, int]:
        """Value start and length of an element whose value representation nobody knows.

        PS3.5 7.1.2 gives it two reserved bytes and a 32-bit length; some writers keep a 16-bit one, or leave the value
        representation out. What ends where another element begins was meant.
        """
        layouts = [(at + 8, int(self._short(head, 6)[0])), (at + 8, int(self._long(head, 4)[0]))]
        if len(head) == 12:
            layouts.insert(0 if bytes(head[6:8]) == b"\0\0" else 1, (at + 12, int(self._long(head, 8)[0])))
        for value, length in layouts:
            if length != UNDEFINED and self._begins_after(tag, value + length):
                self.patches.append((at, value + length, b""))
                return value, length
        raise ValueError("no value representation where one is due")

    def _begins_after(self, tag: int, at: int) -> bool:
        """Whether the data set ends at ``at`` or goes on with a later element or a delimiter."""
        if at == self.end:
            return True
        if at + 8 > self.end:
            return False
        head = self.encoded[at : at + 8]
        following = self.tag_of(head)
        if following in (ITEM_END, SEQUENCE_END, ITEM):
            return True
        known = bytes(head[4:6]) in SHORT_VRS | LONG_VRS
        return following > tag and (known or following >> 16 == tag >> 16)


def elements(
    encoded: Encoded,
    encoding: Encoding,
    start: int = 0,
    end: int | None = None,
    patches: list[Patch] | None = None,
    passed: Callable[[int], int] | None = None,
) -> Iterator[DataElement]:
    """Yield the top-level elements from ``start`` to ``end``; bytes behind them that are no element are passed over.

    ``patches`` gathers, in their order, what other readers would stumble over: elements whose value representation
    nobody knows, nested ones included, and bytes behind the pixel data that are no whole element, both to be left out;
    delimiters that are wrong or missing. ``passed`` is asked before each element for the position behind those that
    need not be looked at here; they lie before the pixels. Raises EOFError where bytes that were announced are missing,
    ValueError where the bytes are not elements.
    """
    reader = ElementReader(encoded, encoding, len(encoded) if end is None else end, patches)
    at = start
    last = -1
    end, header = reader.end, reader.header
    while at < end:
        if passed is not None and last < PIXEL_DATA and (at := passed(at)) >= end:
            return
        if (at + 8 > end or encoded[at : at + 4] == NO_TAG) and is_only_padding(reader, at):
            return
        if last >= PIXEL_DATA and not goes_on(reader, at, last):
            reader.patches.append((at, end, b""))
            return
        begun, mended = at, len(reader.patches)
        try:
            tag, vr, value, length = header(at)
            if (
                tag in (ITEM_END, SEQUENCE_END) and last < PIXEL_DATA
            ):  # as some writers end a sequence of known length
                reader.patches.append((begun, value, b""))
                at = value
                continue
            undefined = length == UNDEFINED
            at = _after_items_of(reader, value, vr, tag == PIXEL_DATA, 0) if undefined else value + length
            if at > end:
                raise EOFError("an element's value is cut")
        except EOFError:
            if last < PIXEL_DATA:
                raise
            reader.patches[mended:] = [(begun, end, b"")]  # every pixel is there
            return
        last = tag
        yield DataElement(tag, vr, value, at - value, undefined)


def sniff(encoded: Encoded, start: int) -> Encoding | None:
    """The encoding that the first element at ``start`` is plainly written in.

    None if it is something else.
    """
    head = bytes(encoded[start : start + 8])
    if len(head) < 8:
        return None
    if head[4:6] in SHORT_VRS or head[4:6] in LONG_VRS:
        return EXPLICIT_LITTLE if _likely_group(head[:2], "little") else EXPLICIT_BIG
    return IMPLICIT_LITTLE if _likely_group(head[:2], "little") else None


def _likely_group(group: bytes, order: str) -> bool:
    return (group[1] if order == "little" else group[0]) == 0


def is_only_padding(reader: ElementReader, at: int) -> bool:
    """True where nothing but zeros is left: some devices pad files to even blocks."""
    if bytes(reader.encoded[at : min(reader.end, at + 8)]).strip(b"\0"):
        return False
    return all(
        not bytes(reader.encoded[start : min(reader.end, start + _PIECE)]).strip(b"\0")
        for start in range(at, reader.end, _PIECE)
    )


def goes_on(reader: ElementReader, at: int, last: int) -> bool:
    """Whether the bytes behind the pixel data are an element of the data set, and no rest of something else."""
    if at + 8 > reader.end:
        return False
    head = bytes(reader.encoded[at : at + 8])
    tag = reader.tag_of(head)
    if tag <= last or tag >> 16 not in _GROUPS_AFTER_PIXELS:
        return False
    return not reader.encoding.explicit or head[4:6] in SHORT_VRS or head[4:6] in LONG_VRS


def after_items(reader: ElementReader, at: int, vr: bytes, *, pixels: bool) -> int:
    """The position after the items of an element of undefined length that begin at ``at``; raises as ``elements``."""
    return _after_items_of(reader, at, vr, pixels, 0)


def _after_items_of(reader: ElementReader, at: int, vr: bytes, pixels: bool, depth: int) -> int:
    """The position after the items of an element of undefined length (PS3.5 sections 7.5 and A.4)."""
    if depth > _DEEPEST:
        raise ValueError("sequences are nested too deeply")
    if vr != b"UN":
        return _after_row(reader, at, pixels, depth)
    inner = reader.written(IMPLICIT_LITTLE)  # PS3.5 section 6.2.2 note 2
    try:
        after = _after_row(inner, at, pixels, depth)
    except (ValueError, EOFError):  # explicit VR, as writers had it before that was settled (CP 246)
        mended = len(reader.patches)
        after = _after_row(reader, at, pixels, depth)
        reader.patches.insert(mended, (at - 8, at - 6, b"SQ"))
        return after
    reader.patches += inner.patches
    return after


def _after_row(reader: ElementReader, at: int, pixels: bool, depth: int) -> int:
    """The position after a row of items and its delimiter."""
    first = at
    while True:
        if pixels and at > first and _fragments_ended(reader, at):
            return at  # some encoders leave the last delimiter out; every fragment is whole
        if at + 8 > reader.end:
            raise EOFError("a sequence is cut")
        tag, _, value, length = reader.header(at)
        if tag == SEQUENCE_END:
            return value
        if tag == ITEM_END and not pixels:
            reader.patches.append((at, value, reader.delimiter(SEQUENCE_END)))
            return value
        if tag != ITEM:
            raise ValueError("a sequence holds something that is no item")
        at = _after_item(reader, value, depth) if length == UNDEFINED else value + length
        if at > reader.end:
            raise EOFError("an item is cut")


def _fragments_ended(reader: ElementReader, at: int) -> bool:
    """Whether pixel data without its last delimiter ends at ``at``: at the end of the file or before padding."""
    return at == reader.end or (reader.end - at >= 8 and is_only_padding(reader, at))


def _after_item(reader: ElementReader, at: int, depth: int) -> int:
    while True:
        tag, vr, value, length = reader.header(at)
        if tag == ITEM_END:
            return value
        if tag in (ITEM, SEQUENCE_END):  # the item before ends here, too
            reader.patches.append((at, at, reader.delimiter(ITEM_END)))
            return at
        at = _after_items_of(reader, value, vr, False, depth + 1) if length == UNDEFINED else value + length
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
