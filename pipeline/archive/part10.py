"""DICOM files (PS3.10 section 7): reading what a file says of itself, writing one around a received data set.

Pixels are neither loaded nor decoded. Whatever is wrong with a file becomes a ``Fault``, a value, since one
bad file never stops a study.
"""

import hashlib
import mmap
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.archive.elements import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    PIXEL_DATA,
    Encoded,
    Encoding,
    elements,
    sniff,
)
from pipeline.archive.uids import clean_uid, is_uid

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_NATIVE = frozenset(
    {
        IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_LITTLE_ENDIAN,
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
    }
)

IMPLEMENTATION_CLASS_UID = "2.25.190374452203310457917612843771054520811"
IMPLEMENTATION_VERSION_NAME = "FIRSTREAD"

_PREAMBLE = bytes(128) + b"DICM"
_LONGEST_META = 1 << 16
_LONGEST_VALUE = 1 << 12
_INFLATED_HEAD = 1 << 22

_META_SOP_INSTANCE = 0x00020003
_META_TRANSFER_SYNTAX = 0x00020010
_SOP_CLASS = 0x00080016
_SOP_INSTANCE = 0x00080018
_STUDY_INSTANCE = 0x0020000D
_SERIES_INSTANCE = 0x0020000E
_UIDS = (_SOP_CLASS, _SOP_INSTANCE, _STUDY_INSTANCE, _SERIES_INSTANCE)


@dataclass(frozen=True, slots=True)
class Part10Header:
    """What a whole file says of itself. ``values`` holds the raw bytes of the tags that were asked for."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    encoding: Encoding
    values: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a file is unusable.

    ``code`` and ``message`` hold no patient data; UIDs are what could still be read, or "".
    """

    code: str
    message: str
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    sop_instance_uid: str = ""
    sop_class_uid: str = ""


def read_part10_header(path: Path, wanted: frozenset[int] = frozenset()) -> Part10Header | Fault:
    """The header of the DICOM file at ``path``; every element is walked, so that a cut is noticed."""
    try:
        with path.open("rb") as file:
            if not file.seek(0, 2):
                return Fault("empty-file", "the file holds no bytes")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as encoded:
                return _header(encoded, wanted)
    except OSError as error:
        return Fault("unreadable-file", f"the file cannot be read ({type(error).__name__})")


def file_header(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble, prefix and file meta group (PS3.10 section 7.1) for a data set in ``transfer_syntax_uid``."""
    group = _meta_element(1, b"OB", b"\x00\x01") + b"".join(
        _meta_element(number, vr, text.encode("ascii"))
        for number, vr, text in (
            (2, b"UI", sop_class_uid),
            (3, b"UI", sop_instance_uid),
            (0x10, b"UI", transfer_syntax_uid),
            (0x12, b"UI", IMPLEMENTATION_CLASS_UID),
            (0x13, b"SH", IMPLEMENTATION_VERSION_NAME),
        )
    )
    return _PREAMBLE + _meta_element(0, b"UL", struct.pack("<I", len(group))) + group


class DatasetDigest:
    """SHA-256 over the data set of a DICOM file that passes by in pieces: everything after the file meta
    group.

    Where the bytes are no DICOM file the digest is over all of them.
    """

    def __init__(self) -> None:
        self._head: bytearray | None = bytearray()
        self._sha256 = hashlib.sha256()

    def update(self, piece: bytes | memoryview) -> None:
        """Take the next piece of the file."""
        if self._head is None:
            self._sha256.update(piece)
            return
        self._head += piece
        start = _dataset_start(self._head)
        if start is not None:
            self._settle(start)

    def hexdigest(self) -> str:
        """The digest over what has passed so far."""
        if self._head is not None:
            self._settle(0)
        return self._sha256.hexdigest()

    def _settle(self, start: int) -> None:
        assert self._head is not None
        self._sha256.update(memoryview(self._head)[start:])
        self._head = None


def dataset_digest(path: Path) -> str:
    """SHA-256 over the data set of the file at ``path``, as ``DatasetDigest`` gives it. Raises OSError."""
    digest = DatasetDigest()
    with path.open("rb", buffering=0) as file:
        piece = memoryview(bytearray(1 << 18))
        while count := file.readinto(piece):
            digest.update(piece[:count])
    return digest.hexdigest()


def _dataset_start(head: bytearray) -> int | None:
    """Where the data set starts, 0 for bytes that are no DICOM file, None while more bytes are needed."""
    if len(head) < 144:
        return None if head[128:132] == b"DICM"[: max(0, len(head) - 128)] else 0
    if head[128:132] != b"DICM":
        return 0
    if head[132:140] == b"\x02\x00\x00\x00UL\x04\x00":
        start = 144 + int(struct.unpack_from("<I", head, 140)[0])
        return start if start <= len(head) else (None if start <= _LONGEST_META else 0)
    return _after_meta(head) if len(head) > _LONGEST_META else None


def _after_meta(encoded: Encoded) -> int:
    """The end of a meta group that does not state its length: the first element of another group."""
    at = 132
    for element in elements(encoded, EXPLICIT_LITTLE, 132, min(len(encoded), _LONGEST_META)):
        if element.tag >> 16 != 2:
            return at
        at = element.start + element.length
    return at


def _meta_element(number: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b" " if vr == b"SH" else b"\0"
    length = struct.pack("<HI", 0, len(value)) if vr == b"OB" else struct.pack("<H", len(value))
    return struct.pack("<HH", 2, number) + vr + length + value


def _header(encoded: mmap.mmap, wanted: frozenset[int]) -> Part10Header | Fault:
    if len(encoded) < 132 or encoded[128:132] != b"DICM":
        return _without_meta(encoded)
    try:
        meta, start = _read_meta(encoded)
    except (ValueError, EOFError, struct.error):
        return Fault("malformed-meta", "the file meta group cannot be read")
    syntax = clean_uid(meta.get(_META_TRANSFER_SYNTAX, b""))
    if not is_uid(syntax):
        return Fault("no-transfer-syntax", "the file meta group names no transfer syntax")
    walked = _walk(encoded, start, syntax, wanted)
    if isinstance(walked, Fault):
        return walked
    values, encoding = walked
    return _header_of(values, meta, syntax, encoding)


def _read_meta(encoded: mmap.mmap) -> tuple[dict[int, bytes], int]:
    head = bytearray(encoded[: _LONGEST_META + 1])
    start = _dataset_start(head) or _after_meta(head)
    if start > len(encoded):
        raise EOFError("the meta group is cut")
    meta = {
        element.tag: bytes(encoded[element.start : element.start + element.length])
        for element in elements(encoded, EXPLICIT_LITTLE, 132, start)
        if element.tag >> 16 == 2
    }
    return meta, start


def _walk(
    encoded: mmap.mmap, start: int, syntax: str, wanted: frozenset[int]
) -> tuple[dict[int, bytes], Encoding] | Fault:
    """Raw values of the UIDs and the wanted tags; a fault where the data set is cut or not in ``syntax``."""
    dataset: Encoded = encoded
    whole = True
    encoding = _encoding(syntax)
    if syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        try:
            dataset, whole = _inflate(encoded, start)
        except zlib.error:
            return Fault(
                "transfer-syntax-mismatch", "the data set is not deflated as the file meta group says"
            )
        except EOFError:
            return Fault("truncated", "the file ends before its data set does")
        start = 0
    written = sniff(dataset, start)
    if written is None:
        return Fault("no-dataset", "there is no data set after the file meta group")
    values: dict[int, bytes] = {}
    fault: Fault | None = None
    if written != encoding:
        fault = Fault("transfer-syntax-mismatch", "the data set is not encoded as the file meta group says")
    try:
        for element in elements(dataset, written, start):
            if (element.tag in _UIDS or element.tag in wanted) and element.length <= _LONGEST_VALUE:
                values[element.tag] = bytes(dataset[element.start : element.start + element.length])
            if element.tag == PIXEL_DATA and element.undefined == (syntax in _NATIVE):
                fault = Fault(
                    "transfer-syntax-mismatch", "pixel data is not framed as the transfer syntax says"
                )
    except EOFError:
        if whole:
            fault = fault or Fault("truncated", "the file ends before its data set does")
    except (ValueError, struct.error):
        fault = fault or Fault("malformed-dataset", "the data set is not a row of DICOM elements")
    return (values, written) if fault is None else _identified(fault, values)


def _inflate(encoded: mmap.mmap, start: int) -> tuple[bytes, bool]:
    """The first megabytes of a deflated data set (PS3.5 section A.5), and whether that is all of it.

    Raises EOFError where the deflated stream is cut, zlib.error if it is not deflated data.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    head = inflater.decompress(encoded[start : start + _INFLATED_HEAD], _INFLATED_HEAD)
    more = bool(inflater.unconsumed_tail) or start + _INFLATED_HEAD < len(encoded)
    if not inflater.eof and not more:
        raise EOFError("the deflated stream is cut")
    return head, inflater.eof


def _encoding(syntax: str) -> Encoding:
    if syntax == IMPLICIT_VR_LITTLE_ENDIAN:
        return IMPLICIT_LITTLE
    return EXPLICIT_BIG if syntax == EXPLICIT_VR_BIG_ENDIAN else EXPLICIT_LITTLE


def _header_of(
    values: dict[int, bytes], meta: Mapping[int, bytes], syntax: str, encoding: Encoding
) -> Part10Header | Fault:
    uids = {tag: clean_uid(values.get(tag, b"")) for tag in _UIDS}
    if not all(is_uid(uids[tag]) for tag in _UIDS):
        return _identified(Fault("missing-uid", "a SOP, study or series UID is missing or is no UID"), values)
    named = clean_uid(meta.get(_META_SOP_INSTANCE, b""))
    if named and named != uids[_SOP_INSTANCE]:
        return _identified(
            Fault("uid-mismatch", "file meta group and data set name different instances"), values
        )
    return Part10Header(
        uids[_STUDY_INSTANCE],
        uids[_SERIES_INSTANCE],
        uids[_SOP_INSTANCE],
        uids[_SOP_CLASS],
        syntax,
        encoding,
        values,
    )


def _without_meta(encoded: mmap.mmap) -> Fault:
    """A bare data set, as old archives export it, is told from bytes that are not DICOM at all."""
    values: dict[int, bytes] = {}
    encoding = sniff(encoded, 0)
    try:
        for element in elements(encoded, encoding or EXPLICIT_LITTLE):
            if element.tag >> 16 not in range(0x0008, 0x0030, 2) and not values:
                break
            if element.tag in _UIDS and element.length <= _LONGEST_VALUE:
                values[element.tag] = bytes(encoded[element.start : element.start + element.length])
    except (EOFError, ValueError, struct.error):
        pass  # what was read until then decides
    if not values:
        return Fault("not-dicom", "the file is not a DICOM file")
    return _identified(Fault("no-file-meta", "the file has no file meta group (PS3.10 section 7.1)"), values)


def _identified(fault: Fault, values: Mapping[int, bytes]) -> Fault:
    uids = {tag: clean_uid(values.get(tag, b"")) for tag in _UIDS}
    known = {tag: uid if is_uid(uid) else "" for tag, uid in uids.items()}
    return Fault(
        fault.code,
        fault.message,
        known[_STUDY_INSTANCE],
        known[_SERIES_INSTANCE],
        known[_SOP_INSTANCE],
        known[_SOP_CLASS],
    )
