"""The file meta group in front of a data set (PS3.10 section 7.1): written by the standard, read whatever it says."""

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache

from pipeline.archive.elements import Encoded
from pipeline.archive.guarded_file import GuardedFile
from pipeline.archive.uids import clean_uid

IMPLEMENTATION_CLASS_UID = "2.25.190374452203310457917612843771054520811"
IMPLEMENTATION_VERSION_NAME = "FIRSTREAD"
PREAMBLE = bytes(128) + b"DICM"
LONGEST_META = 1 << 16
TRANSFER_SYNTAX = 0x00020010


PRIVATE_CREATOR, PRIVATE = 0x00020100, 0x00020102


def file_header(
    sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, private: Sequence[str] = ()
) -> bytes:
    """Preamble, prefix and file meta group (PS3.10 section 7.1) for a data set in ``transfer_syntax_uid``.

    ``private`` are words of our own in its Private Information (0002,0102), which ``private_words`` gives back.
    """
    instance = _meta_element(3, b"UI", sop_instance_uid.encode("ascii"))
    group = b"".join((_class(sop_class_uid), instance, _syntax(transfer_syntax_uid)))
    if private:
        group += _meta_element(0x100, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii"))
        group += _meta_element(0x102, b"OB", " ".join(private).encode("ascii"))
    return PREAMBLE + _meta_element(0, b"UL", struct.pack("<I", len(group))) + group


def private_words(meta: Mapping[int, bytes]) -> tuple[str, ...]:
    """What ``file_header`` was given as ``private``, by the file meta group's elements; () where another wrote it."""
    if clean_uid(meta.get(PRIVATE_CREATOR, b"")) != IMPLEMENTATION_CLASS_UID:
        return ()
    return tuple(meta.get(PRIVATE, b"").rstrip(b"\0").decode("ascii", "replace").split())


def meta_group(encoded: Encoded, start: int) -> tuple[int, dict[int, bytes]]:
    """Where the file meta group ends, at the first element of another group whatever its length says, and its values.

    Raises EOFError where the end lies beyond the bytes or beyond the longest meta group, struct.error where it is cut.
    """
    meta: dict[int, bytes] = {}
    at = start
    while at < LONGEST_META:
        head = bytes(encoded[at : at + 12])
        if not head and isinstance(encoded, GuardedFile | bytes):
            return at, meta  # nothing but a file meta group; a bytearray may go on
        if len(head) < 8 or (head[:2] == b"\x02\x00" and len(head) < 12):
            break
        if head[:2] != b"\x02\x00":
            return at, meta
        value, length = meta_layout(head)
        if at + value + length > LONGEST_META:
            break
        meta[0x00020000 | head[3] << 8 | head[2]] = bytes(encoded[at + value : at + value + length])
        at += value + length
    raise EOFError("the file meta group is cut")


def meta_layout(head: bytes) -> tuple[int, int]:
    """Where the value of a file meta element begins, from its start, and how long it is (PS3.10 7.1, PS3.5 7.1.2)."""
    if head[4:6] in (b"OB", b"OW", b"UN", b"UT", b"SQ"):
        return 12, int(struct.unpack_from("<I", head, 8)[0])
    if head[4:6].isalpha() and head[4:6].isupper():
        return 8, int(struct.unpack_from("<H", head, 6)[0])
    return 8, int(struct.unpack_from("<I", head, 4)[0])  # implicit, as some old writers have it


@lru_cache(maxsize=64)
def _class(sop_class_uid: str) -> bytes:
    """What stands before the SOP Instance UID: a sender has few classes."""
    version = _meta_element(1, b"OB", b"\x00\x01")
    return version + _meta_element(2, b"UI", sop_class_uid.encode("ascii"))


@lru_cache(maxsize=64)
def _syntax(transfer_syntax_uid: str) -> bytes:
    """What stands behind it."""
    ours = _meta_element(0x12, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii"))
    name = _meta_element(0x13, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii"))
    return _meta_element(0x10, b"UI", transfer_syntax_uid.encode("ascii")) + ours + name


def _meta_element(number: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b" " if vr == b"SH" else b"\0"
    length = struct.pack("<HI", 0, len(value)) if vr == b"OB" else struct.pack("<H", len(value))
    return struct.pack("<HH", 2, number) + vr + length + value
