"""The file meta group in front of a data set (PS3.10 section 7.1): written by the standard, read whatever it says."""

import struct
from collections.abc import Mapping, Sequence

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
    if private:
        group += _meta_element(0x100, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii"))
        group += _meta_element(0x102, b"OB", " ".join(private).encode("ascii"))
    return PREAMBLE + _meta_element(0, b"UL", struct.pack("<I", len(group))) + group


def private_words(meta: Mapping[int, bytes]) -> tuple[str, ...]:
    """What ``file_header`` was given as ``private``, by the file meta group's elements; () where another wrote it."""
    if clean_uid(meta.get(PRIVATE_CREATOR, b"")) != IMPLEMENTATION_CLASS_UID:
        return ()
    return tuple(meta.get(PRIVATE, b"").rstrip(b"\0").decode("ascii", "replace").split())


def meta_end(encoded: Encoded, start: int) -> int:
    """The end of the file meta group: the first element of another group, whatever the group length says.

    Raises EOFError where that lies beyond the bytes or beyond the longest meta group.
    """
    at = start
    while at < LONGEST_META:
        head = bytes(encoded[at : at + 12])
        if not head and isinstance(encoded, GuardedFile | bytes):
            return at  # nothing but a file meta group; a bytearray may go on
        if len(head) < 8 or (head[:2] == b"\x02\x00" and len(head) < 12):
            break
        if head[:2] != b"\x02\x00":
            return at
        value, length = meta_layout(head)
        at += value + length
    raise EOFError("the file meta group is cut")


def meta_elements(encoded: Encoded, start: int, end: int) -> dict[int, bytes]:
    """The values of the file meta group from ``start`` to ``end``. Raises struct.error where it is cut."""
    meta: dict[int, bytes] = {}
    at = start
    while at < end:
        head = bytes(encoded[at : at + 12])
        value, length = meta_layout(head)
        tag = 0x00020000 | int(struct.unpack_from("<H", head, 2)[0])
        meta[tag] = bytes(encoded[at + value : at + value + length])
        at += value + length
    return meta


def meta_layout(head: bytes) -> tuple[int, int]:
    """Where the value of a file meta element begins, from its start, and how long it is (PS3.10 7.1, PS3.5 7.1.2)."""
    if head[4:6] in (b"OB", b"OW", b"UN", b"UT", b"SQ"):
        return 12, int(struct.unpack_from("<I", head, 8)[0])
    if head[4:6].isalpha() and head[4:6].isupper():
        return 8, int(struct.unpack_from("<H", head, 6)[0])
    return 8, int(struct.unpack_from("<I", head, 4)[0])  # implicit, as some old writers have it


def _meta_element(number: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b" " if vr == b"SH" else b"\0"
    length = struct.pack("<HI", 0, len(value)) if vr == b"OB" else struct.pack("<H", len(value))
    return struct.pack("<HH", 2, number) + vr + length + value
