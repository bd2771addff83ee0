"""DICOM files (PS3.10 section 7): reading what a file says of itself, and whether it is whole.

Pixels are neither loaded nor decoded. Whatever is wrong with a file becomes a ``Fault``, a value, since one
bad file never stops a study.
"""

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path

from pipeline.archive.content_digest import WalkedDigest
from pipeline.archive.elements import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    LONGEST_VALUE,
    PIXEL_DATA,
    ElementReader,
    Encoded,
    Encoding,
    Patch,
    elements,
    sniff,
)
from pipeline.archive.file_meta import (
    PREAMBLE,
    TRANSFER_SYNTAX,
    meta_group,
    private_words,
)
from pipeline.archive.guarded_file import GuardedFile
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

_PLAIN = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)

_INFLATED_HEAD = 1 << 22

_META_LENGTH = 0x00020000
_META_SOP_INSTANCE = 0x00020003
_SOP_CLASS = 0x00080016
_SOP_INSTANCE = 0x00080018
_STUDY_INSTANCE = 0x0020000D
_SERIES_INSTANCE = 0x0020000E
_UIDS = (_SOP_CLASS, _SOP_INSTANCE, _STUDY_INSTANCE, _SERIES_INSTANCE)


class Lenience(StrEnum):
    """What was read although it is not as PS3.10 section 7 and PS3.5 section 7 say; a remark on the report."""

    NO_FILE_META = "no-file-meta"
    NOPREAMBLE = "no-preamble"
    META_LENGTH = "meta-length"
    META_UID = "meta-uid"
    UNKNOWN_VR = "unknown-vr"
    SEQUENCE = "sequence-form"
    NO_SYNTAX = "no-syntax"
    BYTES_AFTER = "bytes-after"
    ENCODING = "encoding"


_EVERY_LENIENCE = frozenset(one.value for one in Lenience)
_UNNAMED = {
    Lenience.NO_FILE_META: (
        "no-file-meta",
        "compressed pixels without a file meta group (PS3.10 section 7.1): nothing names their transfer syntax",
    ),
    Lenience.NO_SYNTAX: (
        "no-transfer-syntax",
        "compressed pixels, and the file meta group names no transfer syntax (PS3.10 section 7.1)",
    ),
}


@dataclass(frozen=True, slots=True)
class Part10Header:
    """What a whole file says of itself. ``values`` holds the raw bytes of the tags that were asked for.

    ``dataset_start`` is where the data set begins, ``patches`` what of it has to stand otherwise for other readers;
    ``lenience`` says why the file must be written anew before another reader sees it (``rewrapped``), ``formerly`` why
    it was.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    encoding: Encoding
    values: Mapping[int, bytes] = field(default_factory=dict)
    dataset_start: int = 0
    patches: tuple[Patch, ...] = ()
    lenience: tuple[Lenience, ...] = ()
    formerly: tuple[Lenience, ...] = ()


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
    values: Mapping[int, bytes] = field(default_factory=dict)


def read_part10_header(path: Path, wanted: frozenset[int] = frozenset()) -> Part10Header | Fault:
    """The header of the DICOM file at ``path``; every element is walked, so that a cut is noticed.

    A file that is shortened meanwhile is a Fault like any other: nothing of it is mapped into memory.
    """
    try:
        with path.open("rb", buffering=0) as file:
            encoded = GuardedFile(file.fileno())
            return header_of(encoded, wanted)
    except OSError as error:
        return Fault("unreadable-file", f"the file cannot be read ({type(error).__name__})")
    except EOFError:
        return Fault("truncated", "the file was cut while it was read")


def header_of(
    encoded: GuardedFile | bytes, wanted: frozenset[int] = frozenset(), digest: WalkedDigest | None = None
) -> Part10Header | Fault:
    """The header of a whole DICOM file; every element is walked, and taken into ``digest`` on the way.

    Of a deflated data set, or one that is not as it should be, nothing is. Raises EOFError and OSError as reading does.
    """
    if not len(encoded):
        return Fault("empty-file", "the file holds no bytes")
    return _header(encoded, wanted, digest)


def all_lenience(header: Part10Header) -> tuple[Lenience, ...]:
    """What was read leniently of a file, now and before it was written anew; each once."""
    return tuple(dict.fromkeys((*header.lenience, *header.formerly)))


def _header(
    encoded: GuardedFile | bytes, wanted: frozenset[int], digest: WalkedDigest | None
) -> Part10Header | Fault:
    meta_start = _meta_start(encoded)
    if meta_start is None:
        return _without_meta(encoded, wanted)
    try:
        start, meta = meta_group(encoded, meta_start)
    except (ValueError, EOFError, struct.error):
        return Fault("malformed-meta", "the file meta group cannot be read")
    syntax = clean_uid(meta.get(TRANSFER_SYNTAX, b""))
    if not is_uid(syntax):
        return _evident(encoded, start, wanted, Lenience.NO_SYNTAX)
    header = _walk(encoded, start, syntax, wanted, digest)
    if isinstance(header, Fault):
        return header
    stated = meta.get(_META_LENGTH, b"")
    after_length = meta_start + 8 + len(stated)
    named = clean_uid(meta.get(_META_SOP_INSTANCE, b""))
    lenience = tuple(
        lenience
        for lenience, so in (
            (Lenience.NOPREAMBLE, meta_start != len(PREAMBLE)),
            (
                Lenience.META_LENGTH,
                len(stated) != 4 or after_length + struct.unpack("<I", stated)[0] != start,
            ),
            (Lenience.META_UID, named not in ("", header.sop_instance_uid)),
        )
        if so
    )
    formerly = tuple(Lenience(word) for word in private_words(meta) if word in _EVERY_LENIENCE)
    if not lenience and not formerly:
        return header
    return replace(header, lenience=header.lenience + lenience, formerly=formerly)


def _meta_start(encoded: GuardedFile | bytes) -> int | None:
    """Where the file meta group begins, also without the preamble before it; None where there is none."""
    bare = 4 if encoded[:4] == b"DICM" else 0
    for start in (len(PREAMBLE), bare) if encoded[128:132] == b"DICM" else (bare,):
        if encoded[start : start + 2] == b"\x02\x00" and encoded[start + 3 : start + 4] == b"\0":
            return start
    return None


def _walk(
    encoded: GuardedFile | bytes,
    start: int,
    syntax: str,
    wanted: frozenset[int],
    digest: WalkedDigest | None = None,
) -> Part10Header | Fault:
    """The header with the wanted tags; a fault where the data set is cut or not in ``syntax``."""
    dataset: Encoded = encoded
    at = begins = start
    whole = True
    if syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        try:
            dataset, whole, begins = _inflate(encoded, start)
        except zlib.error:
            return _evident(encoded, start, wanted, Lenience.ENCODING)
        except EOFError:
            return Fault("truncated", "the file ends before its data set does")
        at = 0
    written = sniff(dataset, at)
    if written is None:
        return Fault("no-dataset", "there is no data set after the file meta group")
    mistaken = written != _encoding(syntax)
    mismatch: Fault | None = None
    if mistaken and syntax in _PLAIN:  # a plain encoding is evident (PS3.5 7.1), whatever the meta group says
        syntax = next(uid for uid in _PLAIN if _encoding(uid) == written)
    elif mistaken:
        mismatch = Fault(
            "transfer-syntax-mismatch", "the data set is not encoded as the file meta group says"
        )
    asked = wanted.union(_UIDS)
    values, patches, fault = _values_of(
        dataset, at, written, syntax, asked, digest if dataset is encoded else None
    )
    if fault is not None and fault.code == "truncated" and not whole:
        fault = None  # only its first megabytes were inflated
    if (fault := mismatch or fault) is not None:
        return _identified(fault, values)
    header = _header_of(values, written, syntax, begins)
    if isinstance(header, Fault):
        return header
    lenience = [Lenience.ENCODING] if mistaken or begins != start else []
    if patches and dataset is encoded:
        lenience += _lenience_of(patches, len(encoded))
        header = replace(header, patches=tuple(patches))
    return replace(header, lenience=tuple(lenience)) if lenience else header


def _values_of(
    dataset: Encoded,
    start: int,
    encoding: Encoding,
    syntax: str,
    asked: frozenset[int],
    digest: WalkedDigest | None,
) -> tuple[dict[int, bytes], list[Patch], Fault | None]:
    """The asked elements of a data set, the patches it needs, and a fault where it is cut or not in ``syntax``.

    ``digest`` is taken on the way.
    """
    values: dict[int, bytes] = {}
    patches: list[Patch] = []
    fault: Fault | None = None
    reader = ElementReader(dataset, encoding, len(dataset)) if digest is not None else None
    passed: Callable[[int], int] | None = None
    if digest is not None and isinstance(dataset, bytes) and encoding == EXPLICIT_LITTLE:
        passed = partial(digest.take_run, dataset, wanted=asked, values=values)
    try:
        for element in elements(dataset, encoding, start, patches=patches, passed=passed):
            tag, _, at, length, undefined = element
            if digest is not None and reader is not None:
                digest.take(reader, element)
            if tag in asked and length <= LONGEST_VALUE:
                values[tag] = bytes(dataset[at : at + length])
            if tag == PIXEL_DATA and undefined == (syntax in _NATIVE):
                fault = Fault(
                    "transfer-syntax-mismatch", "pixel data is not framed as the transfer syntax says"
                )
    except EOFError:
        fault = fault or Fault("truncated", "the file ends before its data set does")
    except (ValueError, struct.error):
        fault = fault or Fault("malformed-dataset", "the data set is not a row of DICOM elements")
    return values, patches, fault


def _lenience_of(patches: list[Patch], end: int) -> list[Lenience]:
    """What the patches are for, each kind once."""
    kinds = (
        Lenience.SEQUENCE if instead else Lenience.BYTES_AFTER if last == end else Lenience.UNKNOWN_VR
        for _, last, instead in patches
    )
    return list(dict.fromkeys(kinds))


def _inflate(encoded: GuardedFile | bytes, start: int) -> tuple[bytes, bool, int]:
    """The first megabytes of a deflated data set (PS3.5 section A.5), whether that is all of it, and where it begins.

    Some writers put the two bytes of a zlib stream (RFC 1950) before it. Raises EOFError where the deflated stream is
    cut, zlib.error if it is not deflated data.
    """
    if encoded[start : start + 1] == b"\x78" and int.from_bytes(encoded[start : start + 2], "big") % 31 == 0:
        start += 2  # no deflated stream begins so: its first block would be a stored one, with padding that is not zero
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    head = inflater.decompress(encoded[start : start + _INFLATED_HEAD], _INFLATED_HEAD)
    more = bool(inflater.unconsumed_tail) or start + _INFLATED_HEAD < len(encoded)
    if not inflater.eof and not more:
        raise EOFError("the deflated stream is cut")
    return head, inflater.eof, start


def _encoding(syntax: str) -> Encoding:
    if syntax == IMPLICIT_VR_LITTLE_ENDIAN:
        return IMPLICIT_LITTLE
    return EXPLICIT_BIG if syntax == EXPLICIT_VR_BIG_ENDIAN else EXPLICIT_LITTLE


def _header_of(values: dict[int, bytes], encoding: Encoding, syntax: str, start: int) -> Part10Header | Fault:
    uids = {tag: clean_uid(values.get(tag, b"")) for tag in _UIDS}
    if not all(is_uid(uids[tag]) for tag in _UIDS):
        return _identified(Fault("missing-uid", "a SOP, study or series UID is missing or is no UID"), values)
    return Part10Header(
        uids[_STUDY_INSTANCE],
        uids[_SERIES_INSTANCE],
        uids[_SOP_INSTANCE],
        uids[_SOP_CLASS],
        syntax,
        encoding,
        values,
        start,
    )


def _without_meta(encoded: GuardedFile | bytes, wanted: frozenset[int]) -> Part10Header | Fault:
    """A bare data set, as old archives export it and some servers send it; else bytes that are not DICOM at all."""
    start = len(PREAMBLE) if encoded[128:132] == b"DICM" else 0
    encoding = sniff(encoded, start)
    head = encoded[start : start + 2]
    group = int.from_bytes(head, "little" if encoding is None or encoding.little else "big")
    if encoding is None or group not in range(0x0008, 0x0030, 2):
        return Fault("not-dicom", "the file is not a DICOM file")
    header = _evident(encoded, start, wanted, Lenience.NO_FILE_META)
    if isinstance(header, Fault) and not (header.study_instance_uid or header.sop_instance_uid):
        return Fault("not-dicom", "the file is not a DICOM file")
    return header


def _evident(
    encoded: GuardedFile | bytes, start: int, wanted: frozenset[int], lenience: Lenience
) -> Part10Header | Fault:
    """A data set whose transfer syntax nothing names: its encoding is evident (PS3.5 7.1), a compression is not."""
    encoding = sniff(encoded, start)
    syntax = next((uid for uid in _PLAIN if _encoding(uid) == encoding), EXPLICIT_VR_LITTLE_ENDIAN)
    header = _walk(encoded, start, syntax, wanted)
    if isinstance(header, Part10Header):
        return replace(header, lenience=(*header.lenience, lenience))
    if header.code == "transfer-syntax-mismatch":
        code, message = _UNNAMED.get(lenience, (header.code, header.message))
        return replace(header, code=code, message=message)
    if header.code == "no-dataset" and lenience is Lenience.ENCODING:
        return Fault("transfer-syntax-mismatch", "the data set is not deflated as the file meta group says")
    return header


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
        dict(values),
    )
