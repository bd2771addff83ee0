"""A header's elements as they lie in the file: one pass notes where each begins, each is decoded when it is asked for.

pydicom makes objects of all of them, which is most of the work of judging a plane. What is plain is decoded here:
numbers, dates and codes, texts of printable ASCII letters. Sequences and whatever is not plain pydicom decodes from the
element's own bytes. A header that is not explicit or implicit little endian, one element after the other in ascending
order (PS3.5 7.1, 7.5), is pydicom's as a whole: ``read_elements`` gives None, and nothing is guessed.
"""

import io
import re
import struct
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from typing import BinaryIO

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread, read_dataset

from pipeline.element_encoding import ITEM, ITEM_END, LONG_VRS, SEQUENCE_END, SHORT_VRS, UNDEFINED

PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_READ = (1 << 13, 1 << 17, 1 << 20)
"""Bytes that are read until the pixels come: a header that is longer is pydicom's."""
_DEEPEST = 16
_CHARACTER_SET, _PIXEL_REPRESENTATION, _TRANSFER_SYNTAX = 0x00080005, 0x00280103, 0x00020010
_IMPLICIT = "1.2.840.10008.1.2"
_NOT_PLAIN = frozenset({"1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"})
"""Big endian, deflated."""
_ASCII_WITHIN = frozenset(python_encoding) - {"ISO_IR 13", "ISO 2022 IR 13"}
"""Character sets whose printable ASCII bytes are ASCII; in that of JIS X 0201 a backslash is a yen sign."""
_EXPLICIT_HEAD = struct.Struct("<HH2sH").unpack_from
_IMPLICIT_HEAD = struct.Struct("<HHI").unpack_from
_LENGTH = struct.Struct("<I").unpack_from

Values = tuple[object, ...]


class StoredElements:
    """The elements of one data set up to its pixels, not yet decoded. Asked as a pydicom data set is, by keyword."""

    __slots__ = ("_content", "_implicit", "_places")

    def __init__(self, content: bytes, places: Mapping[int, int], *, implicit: bool) -> None:
        self._content = content
        self._places = places
        self._implicit = implicit

    def plain_values(self, keyword: str) -> Values | None:
        """The element's values where they are plain: () where absent or empty, None where pydicom has to say."""
        tag = _tag(keyword)
        place = self._places.get(tag)
        if place is None:
            return ()
        content = self._content
        if self._implicit:
            decode, start, length = _DECODERS.get(_vr(tag)), place + 8, _LENGTH(content, place + 4)[0]
        else:
            vr = content[place + 4 : place + 6]
            decode = _DECODERS.get(vr)
            if vr in SHORT_VRS:
                start, length = place + 8, content[place + 6] | content[place + 7] << 8
            else:
                start, length = place + 12, _LENGTH(content, place + 8)[0]
        if not length:
            return ()
        return decode(content[start : start + length]) if decode is not None else None

    def by_pydicom(self, keyword: str) -> Dataset:
        """A data set that holds the element, with what says how it is decoded."""
        places = [*self._places.values(), len(self._content)]
        ends = dict(pairwise(places))
        tags = sorted({_CHARACTER_SET, _PIXEL_REPRESENTATION, _tag(keyword)} & self._places.keys())
        pieces = [self._content[self._places[tag] : ends[self._places[tag]]] for tag in tags]
        return read_dataset(io.BytesIO(b"".join(pieces)), self._implicit, True)

    def whole(self) -> Dataset:
        """All elements as pydicom reads them."""
        return dcmread(io.BytesIO(self._content), stop_before_pixels=True)

    def get(self, keyword: str) -> object:
        """As pydicom's ``Dataset.get``: the value, None where absent."""
        return self.by_pydicom(keyword).get(keyword)


def read_elements(file: BinaryIO) -> tuple[StoredElements, str, bool, int | None] | None:
    """Elements, transfer syntax, whether VRs are implicit, and where the pixels start (None: there are none).

    ``file`` stands at its start. None where the file is anything but plain: then pydicom decides what it is.
    """
    content = file.read(_READ[0])
    for most in (*_READ[1:], 0):
        try:
            return _scanned(content, whole=len(content) < _READ[0] or not most)
        except _TooShort:
            further = file.read(most - len(content)) if most else b""
            if not further:
                return None
            content += further
        except (_NotPlain, struct.error, IndexError):
            return None
    return None


class _TooShort(Exception):
    """The header goes on behind what was read."""


class _NotPlain(Exception):
    """Something that is not decided here."""


def _scanned(content: bytes, *, whole: bool) -> tuple[StoredElements, str, bool, int | None]:
    syntax, start = _file_meta(content)
    implicit = syntax == _IMPLICIT
    if implicit and _two_capitals(content[start + 4 : start + 6]):  # it would be taken for a VR
        raise _NotPlain
    walk = _Walk(content, implicit=implicit)
    places: dict[int, int] = {}
    pixels = walk.data_set(start, places, whole=whole)
    if _CHARACTER_SET in places:
        found = StoredElements(content, places, implicit=implicit).plain_values("SpecificCharacterSet")
        if found is None or any(str(one).strip() not in _ASCII_WITHIN for one in found):
            raise _NotPlain
    header = content[: len(content) if pixels is None else pixels]
    return StoredElements(header, places, implicit=implicit), syntax, implicit, pixels


def _file_meta(content: bytes) -> tuple[str, int]:
    """Transfer syntax, and where the data set starts (PS3.10 7.1)."""
    if content[128:132] != b"DICM" or content[132:140] != b"\x02\0\0\0UL\x04\0":
        raise _NotPlain
    end = 144 + _LENGTH(content, 140)[0]
    if end > len(content):
        raise _NotPlain
    places: dict[int, int] = {}
    _Walk(content, implicit=False).elements(144, end, places, lowest=0x00020001, highest=0x0002FFFF)
    if _TRANSFER_SYNTAX not in places:
        raise _NotPlain
    place = places[_TRANSFER_SYNTAX]
    length = _EXPLICIT_HEAD(content, place)[3]
    syntax = content[place + 8 : place + 8 + length].rstrip(b"\0").decode("ascii", "replace")
    if not re.fullmatch(r"1\.2\.840\.10008\.1\.2(\.[0-9]+)*", syntax) or syntax in _NOT_PLAIN:
        raise _NotPlain
    return syntax, end


class _Walk:
    """One pass over a data set's bytes."""

    def __init__(self, content: bytes, *, implicit: bool) -> None:
        self._content = content
        self._implicit = implicit

    def data_set(self, place: int, places: dict[int, int], *, whole: bool) -> int | None:
        """Note in ``places`` where each element begins, until the pixels, whose place comes back."""
        content, size, implicit = self._content, len(self._content), self._implicit
        last = 0x0007FFFF
        while True:
            if place + 12 > size:
                if whole and place == size:
                    return None
                raise _NotPlain if whole else _TooShort
            if implicit:  # as _head, without a call for each element: most of the time is spent here
                group, element, length = _IMPLICIT_HEAD(content, place)
                tag, value = group << 16 | element, place + 8
                sequence = length == UNDEFINED and _vr(tag) == b"SQ"
            else:
                group, element, vr, length = _EXPLICIT_HEAD(content, place)
                tag, value, sequence = group << 16 | element, place + 8, False
                if vr not in SHORT_VRS:
                    if vr not in LONG_VRS:
                        raise _NotPlain
                    (length,) = _LENGTH(content, place + 8)
                    value, sequence = place + 12, length == UNDEFINED and vr == b"SQ"
            if tag <= last or group == 0xFFFE:
                raise _NotPlain
            if tag in PIXEL_TAGS:
                return place
            places[tag] = place
            last = tag
            if length == UNDEFINED:
                if not sequence:
                    raise _NotPlain
                try:
                    place = self._items(value, size, UNDEFINED, 1)
                except (struct.error, IndexError):
                    raise _NotPlain if whole else _TooShort from None
            else:
                place = value + length
                if place > size:
                    raise _NotPlain if whole else _TooShort

    def elements(self, place: int, end: int, places: dict[int, int], *, lowest: int, highest: int) -> None:
        """Elements that fill the bytes to ``end``, all of them between two tags."""
        last = lowest - 1
        while place < end:
            tag, _, value, length = self._head(place)
            if not last < tag <= highest or length == UNDEFINED:
                raise _NotPlain
            places[tag] = place
            last, place = tag, value + length
        if place != end:
            raise _NotPlain

    def _head(self, place: int) -> tuple[int, bytes, int, int]:
        if self._implicit:
            group, element, length = _IMPLICIT_HEAD(self._content, place)
            tag = group << 16 | element
            return tag, _vr(tag) if length == UNDEFINED else b"", place + 8, length
        group, element, vr, length = _EXPLICIT_HEAD(self._content, place)
        if vr in SHORT_VRS:
            return group << 16 | element, vr, place + 8, length
        if vr not in LONG_VRS:
            raise _NotPlain
        return group << 16 | element, vr, place + 12, _LENGTH(self._content, place + 8)[0]

    def _items(self, place: int, end: int, length: int, depth: int) -> int:
        """Where the value of a sequence ends whose items begin at ``place`` (PS3.5 7.5.2)."""
        if depth > _DEEPEST:
            raise _NotPlain
        bounded = length != UNDEFINED
        last = place + length if bounded else end
        while not bounded or place < last:
            group, element, size = _IMPLICIT_HEAD(self._content, place)
            tag = group << 16 | element
            if tag == SEQUENCE_END and not bounded:
                return place + 8
            if tag != ITEM:
                raise _NotPlain
            place = self._item(place + 8, last, size, depth)
        if place != last:
            raise _NotPlain
        return place

    def _item(self, place: int, end: int, length: int, depth: int) -> int:
        """Where an item ends whose elements begin at ``place``."""
        bounded = length != UNDEFINED
        last = place + length if bounded else end
        if last > end:
            raise struct.error
        before = 0
        while not bounded or place < last:
            group, element, _ = _IMPLICIT_HEAD(self._content, place)
            if (group << 16 | element) == ITEM_END and not bounded:
                return place + 8
            tag, vr, value, size = self._head(place)
            if (
                tag <= before
                or group == 0xFFFE
                or (self._implicit and _two_capitals(self._content[place + 4 : place + 6]))
            ):
                raise _NotPlain
            before = tag
            if size == UNDEFINED:
                if vr != b"SQ":
                    raise _NotPlain
                place = self._items(value, last, size, depth + 1)
            else:
                place = value + size
                if place > last:
                    raise struct.error
        if place != last:
            raise _NotPlain
        return place


def _two_capitals(content: bytes) -> bool:
    return content.isalpha() and content.isupper()


@cache
def _tag(keyword: str) -> int:
    return tag_for_keyword(keyword) or 0


@cache
def _vr(tag: int) -> bytes:
    """By the dictionary; b"" for private and unknown elements."""
    try:
        return dictionary_VR(tag).encode("ascii")
    except KeyError:
        return b""


_PRINTABLE = re.compile(rb"[ -~]*")
_DECIMALS = re.compile(
    rb"\A *[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)? *(?:\\ *[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)? *)*"
)
_INTEGERS = re.compile(rb"\A *[+-]?\d{1,11} *(?:\\ *[+-]?\d{1,11} *)*")
"""Of the length that IS may have (PS3.5 table 6.2-1); what is longer is pydicom's to read."""


def _texts(content: bytes) -> Values | None:
    if _PRINTABLE.fullmatch(content) is None:
        return None
    value = content.decode("ascii").rstrip()
    if not value:
        return ()
    return tuple(value.split("\\")) if "\\" in value else (value,)


def _one_text(content: bytes) -> Values | None:
    if _PRINTABLE.fullmatch(content) is None:
        return None
    value = content.decode("ascii").rstrip()
    return (value,) if value else ()


def _uids(content: bytes) -> Values | None:
    return _texts(content.rstrip(b"\0"))


def _names(content: bytes) -> Values | None:
    """Component groups are pydicom's."""
    return None if b"=" in content else _texts(content)


def _strings_of(pattern: re.Pattern[bytes]) -> Callable[[bytes], Values | None]:
    def decode(content: bytes) -> Values | None:
        return tuple(content.decode("ascii").split("\\")) if pattern.fullmatch(content) is not None else None

    return decode


def _packed(form: str) -> Callable[[bytes], Values | None]:
    size = struct.calcsize(f"<{form}")

    def decode(content: bytes) -> Values | None:
        count, rest = divmod(len(content), size)
        return None if rest else struct.unpack(f"<{count}{form}", content)

    return decode


_DECODERS: Mapping[bytes, Callable[[bytes], Values | None]] = {
    **dict.fromkeys((b"AE", b"AS", b"CS", b"DA", b"DT", b"LO", b"SH", b"TM", b"UC"), _texts),
    **dict.fromkeys((b"LT", b"ST", b"UT"), _one_text),
    b"PN": _names,
    b"UI": _uids,
    b"DS": _strings_of(_DECIMALS),
    b"IS": _strings_of(_INTEGERS),
    b"US": _packed("H"),
    b"SS": _packed("h"),
    b"UL": _packed("I"),
    b"SL": _packed("i"),
    b"FL": _packed("f"),
    b"FD": _packed("d"),
}
