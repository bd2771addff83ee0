"""The digest of an instance: over tags, values and nesting, blind to how they are written (PS3.5 section 7).

One instance has many byte strings: implicit or explicit VR, either byte order, deflated, sequences and items with a
length or with a delimiter (archives and senders write all of these anew), group lengths. None of it changes the digest.
Where the bytes are no data set, it is over the bytes.
"""

import hashlib
import struct
import zlib
from collections.abc import Callable, Container
from pathlib import Path

from pipeline.archive.elements import (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    LONGEST_VALUE,
    NO_TAG,
    PIXEL_DATA,
    DataElement,
    ElementReader,
    Encoded,
    Encoding,
    after_items,
    goes_on,
    is_only_padding,
    sniff,
)
from pipeline.archive.file_meta import LONGEST_META, PREAMBLE, TRANSFER_SYNTAX, meta_group
from pipeline.archive.guarded_file import GuardedFile
from pipeline.archive.uids import clean_uid
from pipeline.element_encoding import ITEM, ITEM_END, SEQUENCE_END, SHORT_VRS, UNDEFINED

DEFLATED = "1.2.840.10008.1.2.1.99"

_PIECE = 1 << 18
_LONGEST_HEAD = 1 << 22
_LONGEST_SEQUENCE = 1 << 26
_DEEPEST = 32
_TRAILING_PADDING = 0xFFFCFFFC
_WORD_BYTES = {
    **dict.fromkeys((b"US", b"SS", b"OW", b"AT"), 2),
    **dict.fromkeys((b"UL", b"SL", b"FL", b"OL", b"OF"), 4),
    **dict.fromkeys((b"FD", b"OD", b"OV", b"SV", b"UV"), 8),
}
"""Words whose bytes the file's order turns about (PS3.5 section 7.3)."""

_LEAF = struct.Struct("<IBQ").pack
_SHORT_HEADER = struct.Struct("<HH2sH").unpack_from
_GROUP_2, _GROUP_OF_PIXELS = 2, PIXEL_DATA >> 16
_PLAIN_VRS = frozenset(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UI UC UR UT OB".split())
"""No words, and nothing nested."""

Feed = Callable[[bytes | memoryview], object]


class ContentDigest:
    """The digest of a DICOM file that passes by in pieces.

    What comes before the pixels is kept until they begin, and so is what comes behind them; the pixels are digested as
    they pass. Where that cannot be (no pixels within megabytes, big endian, deflated), ``hexdigest`` gives "", and the
    whole file has to be asked (``content_digest``).
    """

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._head: bytearray | None = bytearray()
        self._start: int | None = None
        self._at = 0
        self._again_at = 0
        self._encoding = EXPLICIT_LITTLE
        self._pixels_left = 0
        self._tail = bytearray()
        self._lost = False

    def update(self, piece: bytes | memoryview) -> None:
        """Take the next piece of the file."""
        if self._lost:
            return
        if self._head is not None:
            self._head += piece
            if len(self._head) >= self._again_at:
                self._look(self._head)
            return
        taken = min(self._pixels_left, len(piece))
        if taken:
            self._sha256.update(piece[:taken])
            self._pixels_left -= taken
        self._tail += piece[taken:]
        self._lost = len(self._tail) > _LONGEST_HEAD

    def hexdigest(self) -> str:
        """The digest over what has passed, or "" where the whole file has to be asked."""
        if self._lost or self._head is not None or self._pixels_left:
            return ""
        try:
            tail = ElementReader(self._tail, self._encoding, len(self._tail))
            _feed_elements(self._sha256.update, tail, 0, PIXEL_DATA)
        except (ValueError, EOFError, struct.error):
            return ""
        return self._sha256.hexdigest()

    def _look(self, head: bytearray) -> None:
        """Find the pixels in what has come so far, or wait for twice as much."""
        self._lost = len(head) > _LONGEST_HEAD
        self._again_at = 2 * len(head)
        if self._start is None and not self._lost:
            self._lost = not self._begin(head)
        if self._start is None or self._lost:
            return
        reader = ElementReader(head, self._encoding, len(head))
        try:
            while True:
                tag, vr, value, length = reader.header(self._at)
                if tag == PIXEL_DATA:
                    self._pixels(head, vr, value, length)
                    return
                undefined = length == UNDEFINED
                self._at = after_items(reader, value, vr, pixels=False) if undefined else value + length
        except EOFError:
            return  # the rest is still to come
        except (ValueError, struct.error):
            self._lost = True

    def _begin(self, head: bytearray) -> bool:
        """Whether this is a file whose pixels can be digested as they pass; more bytes may be needed to tell."""
        if len(head) < len(PREAMBLE) + 12:
            return head[128:132] == b"DICM"[: max(0, len(head) - 128)]
        if head[128:132] != b"DICM":
            return False
        try:
            start, meta = meta_group(head, len(PREAMBLE))
        except EOFError:
            return len(head) <= LONGEST_META
        written = sniff(head, start)
        if written is None:
            return len(head) < start + 8
        self._encoding = written
        self._start = self._at = start
        return written.little and clean_uid(meta.get(TRANSFER_SYNTAX, b"")) != DEFLATED

    def _pixels(self, head: bytearray, vr: bytes, value: int, length: int) -> None:
        if length == UNDEFINED:
            self._lost = True  # fragments are walked when all of them are there
            return
        assert self._start is not None
        _feed_elements(self._sha256.update, ElementReader(head, self._encoding, self._at), self._start)
        self._sha256.update(_leaf(PIXEL_DATA, length))
        self._head = None
        self._pixels_left = length
        self.update(memoryview(bytes(head[value:])))


class WalkedDigest:
    """The digest of a data set whose top-level elements another walk gives, all of them in their order."""

    def __init__(self) -> None:
        self._pieces: list[bytes | bytearray | memoryview] = []
        self._whole = True

    def take_run(self, encoded: bytes, at: int, wanted: Container[int], values: dict[int, bytes]) -> int:
        """Take the elements of 16-bit lengths that follow each other from ``at`` on, and gather the wanted values.

        Of a data set in explicit VR little endian, before its pixels; gives where another kind of element begins, or
        one that is not as it should be. It is what ``take`` does with each of them, without a call for each.
        """
        end, pieces = len(encoded), self._pieces
        while at + 8 <= end:
            group, element, vr, length = _SHORT_HEADER(encoded, at)
            after = at + 8 + length
            if vr not in SHORT_VRS or after > end or not element or not _GROUP_2 < group < _GROUP_OF_PIXELS:
                break
            tag = group << 16 | element
            value = encoded[at + 8 : after]
            pieces.append(_LEAF(tag, 0, length))
            pieces.append(value)
            if tag in wanted and length <= LONGEST_VALUE:
                values[tag] = value
            at = after
        return at

    def take(self, reader: ElementReader, element: DataElement) -> None:
        """The next element that ``reader`` can read."""
        tag, vr, value, length, undefined = element
        if not undefined and vr in _PLAIN_VRS and tag & 0xFFFF and tag != _TRAILING_PADDING:
            self._pieces += (_LEAF(tag, 0, length), reader.encoded[value : value + length])
            return
        try:
            _feed_element(
                self._pieces.append, reader, (tag, vr, value, UNDEFINED if undefined else length), 0
            )
        except (ValueError, EOFError, struct.error):
            self._whole = False

    def hexdigest(self) -> str:
        """The digest, or "" where the file has to be asked (``content_digest``)."""
        return hashlib.sha256(b"".join(self._pieces)).hexdigest() if self._whole and self._pieces else ""


def content_digest(path: Path) -> str:
    """The digest of the DICOM file at ``path``, as ``ContentDigest`` gives it. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        encoded = GuardedFile(file.fileno())
        sha256 = hashlib.sha256()
        try:
            dataset, encoding, start = _dataset(encoded)
            _feed_elements(sha256.update, ElementReader(dataset, encoding, len(dataset)), start)
            return sha256.hexdigest()
        except (ValueError, EOFError, struct.error, zlib.error):
            return _plain_digest(encoded)


def _dataset(encoded: GuardedFile) -> tuple[Encoded, Encoding, int]:
    """The data set of a PS3.10 file, how it is written and where it begins. Raises ValueError or EOFError."""
    if encoded[128:132] != b"DICM":
        raise ValueError("no DICOM file")
    start, meta = meta_group(encoded, len(PREAMBLE))
    if clean_uid(meta.get(TRANSFER_SYNTAX, b"")) == DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        plain = inflater.decompress(encoded[start : len(encoded)], 1 << 30)
        if not inflater.eof:
            raise ValueError("a deflated data set without an end, or a far too large one")
        return plain, EXPLICIT_LITTLE, 0
    encoding = sniff(encoded, start)
    if encoding is None:
        raise ValueError("no data set")
    return encoded, encoding, start


def _plain_digest(encoded: GuardedFile) -> str:
    sha256 = hashlib.sha256(b"bytes")
    for at in range(0, len(encoded), _PIECE):
        try:
            sha256.update(encoded[at : at + _PIECE])
        except EOFError:
            break
    return sha256.hexdigest()


def _leaf(tag: int, length: int) -> bytes:
    return _LEAF(tag, 0, length)


def _feed_elements(feed: Feed, reader: ElementReader, at: int, last: int = -1) -> None:
    """Feed the top-level elements from ``at`` on; ``last`` is the tag before them."""
    while at < reader.end:
        if (
            (at + 8 > reader.end or reader.encoded[at : at + 4] == NO_TAG) and is_only_padding(reader, at)
        ) or (last >= PIXEL_DATA and not goes_on(reader, at, last)):
            return
        header = reader.header(at)
        last, at = header[0], _feed_element(feed, reader, header, 0)


def _feed_element(feed: Feed, reader: ElementReader, header: tuple[int, bytes, int, int], depth: int) -> int:
    """Feed one element; gives where the next one begins."""
    tag, vr, value, length = header
    if length == UNDEFINED:
        if tag == PIXEL_DATA and depth == 0:
            return _feed_fragments(feed, reader, tag, value)
        return _feed_items(feed, _inside(reader, vr), tag, value, reader.end, depth, delimited=True)
    end = value + length
    if end > reader.end:
        raise EOFError("an element's value is cut")
    if tag & 0xFFFF == 0 or tag == _TRAILING_PADDING:
        return end
    if vr not in (b"", b"UN", b"SQ") or not _fed_as_items(feed, _inside(reader, vr), tag, value, end, depth):
        feed(_leaf(tag, length))
        _feed_value(feed, reader, vr, value, end)
    return end


def _feed_value(feed: Feed, reader: ElementReader, vr: bytes, start: int, end: int) -> None:
    word = 1 if reader.encoding.little else _WORD_BYTES.get(vr, 1)
    if word == 1 and end - start <= _PIECE:
        if end > start:
            feed(bytes(reader.encoded[start:end]))
        return
    for at in range(start, end, _PIECE):
        piece = bytes(reader.encoded[at : min(end, at + _PIECE)])
        feed(_turned(piece, word) if word > 1 else piece)


def _turned(piece: bytes, word: int) -> bytes:
    """``piece`` in little endian; a rest that is no whole word stays."""
    whole = len(piece) - len(piece) % word
    turned = bytearray(piece)
    for byte in range(word):
        turned[byte:whole:word] = piece[word - 1 - byte : whole : word]
    return bytes(turned)


def _inside(reader: ElementReader, vr: bytes) -> ElementReader:
    """How the items of an element are written: those of UN are implicit VR little endian (PS3.5 6.2.2 note 2)."""
    return reader.written(IMPLICIT_LITTLE) if vr == b"UN" else reader


def _fed_as_items(feed: Feed, reader: ElementReader, tag: int, start: int, end: int, depth: int) -> bool:
    """Feed the value of an element that may be a sequence, where it is a row of whole items; else feed nothing."""
    if not 8 <= end - start <= _LONGEST_SEQUENCE:
        return False
    if reader.tag_of(bytes(reader.encoded[start : start + 8])) != ITEM:
        return False
    pieces: list[bytes | memoryview] = []
    try:
        _feed_items(pieces.append, reader, tag, start, end, depth, delimited=False)
    except (ValueError, EOFError, struct.error):
        return False
    for piece in pieces:
        feed(piece)
    return True


def _feed_items(
    feed: Feed, reader: ElementReader, tag: int, at: int, end: int, depth: int, *, delimited: bool
) -> int:
    """Feed a sequence; gives where it ends. One without items is as an element without a value."""
    if depth >= _DEEPEST:
        raise ValueError("sequences are nested too deeply")
    begun = False
    while delimited or at < end:
        kind, _, value, length = reader.header(at)
        if kind == SEQUENCE_END and delimited:
            at = value
            break
        if kind != ITEM or (length != UNDEFINED and value + length > end):
            raise ValueError("a sequence holds something that is no whole item")
        if not begun:
            feed(struct.pack("<IB", tag, 1))
            begun = True
        feed(b"(")
        at = _feed_item(feed, reader, value, value + length if length != UNDEFINED else None, end, depth)
    feed(b")" if begun else _leaf(tag, 0))
    return at


def _feed_item(feed: Feed, reader: ElementReader, at: int, item_end: int | None, end: int, depth: int) -> int:
    last = end if item_end is None else item_end
    while item_end is None or at < item_end:
        header = reader.header(at)
        if header[0] == ITEM_END and item_end is None:
            return header[2]
        if header[0] >> 16 == ITEM >> 16:
            raise ValueError("an item holds something that is no element")
        at = _feed_element(feed, reader, header, depth + 1)
        if at > last:
            raise ValueError("an element goes beyond its item")
    return at


def _feed_fragments(feed: Feed, reader: ElementReader, tag: int, at: int) -> int:
    """Feed encapsulated pixels (PS3.5 A.4) fragment by fragment, the offset table too; gives where they end."""
    feed(struct.pack("<IB", tag, 2))
    first = at
    while True:
        if at > first and (at == reader.end or (reader.end - at >= 8 and is_only_padding(reader, at))):
            return at  # some encoders leave the last delimiter out
        kind, _, value, length = reader.header(at)
        if kind == SEQUENCE_END:
            return value
        if kind != ITEM or length == UNDEFINED or value + length > reader.end:
            raise ValueError("encapsulated pixels are no row of fragments")
        feed(_leaf(kind, length))
        _feed_value(feed, reader, b"OB", value, value + length)
        at = value + length
