"""DIMSE command sets (PS3.7 section 6.3 and annex E) and query identifiers, as values and bytes.

Command sets are always implicit VR little endian; identifiers follow their presentation context.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.archive.elements import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Encoding, elements
from pipeline.archive.part10 import EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from pipeline.archive.uids import clean_uid

C_STORE_RQ = 0x0001
C_STORE_RSP = 0x8001
C_GET_RQ = 0x0010
C_GET_RSP = 0x8010
C_FIND_RQ = 0x0020
C_FIND_RSP = 0x8020
C_MOVE_RQ = 0x0021
C_MOVE_RSP = 0x8021
C_ECHO_RQ = 0x0030
C_ECHO_RSP = 0x8030

_NO_DATA_SET = 0x0101
_IDENTIFIER_FOLLOWS = 0x0001

_SOP_CLASS = 0x00000002
_FIELD = 0x00000100
_MESSAGE_ID = 0x00000110
_RESPONDED_TO = 0x00000120
_MOVE_DESTINATION = 0x00000600
_PRIORITY = 0x00000700
_DATA_SET_TYPE = 0x00000800
_STATUS = 0x00000900
_SOP_INSTANCE = 0x00001000
_REMAINING, _COMPLETED, _FAILED, _WARNING = _COUNTED = (0x00001020, 0x00001021, 0x00001022, 0x00001023)
_HEADER = struct.Struct("<HHI").unpack_from


@dataclass(frozen=True, slots=True)
class Counts:
    """Sub-operation counts of a C-MOVE or C-GET response; None where the peer did not say."""

    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None


_NONE_STATED = Counts()


@dataclass(frozen=True, slots=True)
class Command:
    """One command set; ``has_data_set`` tells whether a data set follows it."""

    field: int
    message_id: int = 0
    responded_to: int = 0
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    status: int | None = None
    move_destination: str = ""
    has_data_set: bool = False
    counts: Counts = _NONE_STATED

    def encode(self) -> bytes:
        """The command set as bytes."""
        response = bool(self.field & 0x8000)
        values: list[tuple[int, bytes]] = []
        if self.sop_class_uid:
            values.append((_SOP_CLASS, _even(self.sop_class_uid, b"\0")))
        values.append((_FIELD, _short(self.field)))
        values.append(
            (_RESPONDED_TO, _short(self.responded_to)) if response else (_MESSAGE_ID, _short(self.message_id))
        )
        if self.move_destination:
            values.append((_MOVE_DESTINATION, _even(self.move_destination, b" ")))
        if not response and self.field != C_ECHO_RQ:
            values.append((_PRIORITY, _short(0)))
        values.append((_DATA_SET_TYPE, _short(_IDENTIFIER_FOLLOWS if self.has_data_set else _NO_DATA_SET)))
        if self.status is not None:
            values.append((_STATUS, _short(self.status)))
        if self.sop_instance_uid:
            values.append((_SOP_INSTANCE, _even(self.sop_instance_uid, b"\0")))
        if self.counts is not _NONE_STATED:
            told = self.counts
            stated = (
                (_REMAINING, told.remaining), (_COMPLETED, told.completed), (_FAILED, told.failed),
                (_WARNING, told.warning),
            )  # fmt: skip
            values += [(tag, _short(count)) for tag, count in stated if count is not None]
        group = b"".join(_implicit(tag, value) for tag, value in values)
        return _implicit(0, struct.pack("<I", len(group))) + group


def decode_command(encoded: bytes) -> Command:
    """Parse a command set. Raises ValueError if it is malformed."""
    try:
        values = _values(encoded)
        return Command(
            field=_number(values, _FIELD) or 0,
            message_id=_number(values, _MESSAGE_ID) or 0,
            responded_to=_number(values, _RESPONDED_TO) or 0,
            sop_class_uid=clean_uid(values.get(_SOP_CLASS, b"")),
            sop_instance_uid=clean_uid(values.get(_SOP_INSTANCE, b"")),
            status=_number(values, _STATUS),
            move_destination=values.get(_MOVE_DESTINATION, b"").decode("ascii", "replace").strip(" \0"),
            has_data_set=_number(values, _DATA_SET_TYPE) not in (None, _NO_DATA_SET),
            counts=Counts(*(_number(values, tag) for tag in _COUNTED))
            if not values.keys().isdisjoint(_COUNTED)
            else _NONE_STATED,
        )
    except (EOFError, struct.error):
        raise ValueError("a command set is cut") from None


def encode_identifier(keys: Mapping[int, tuple[str, str]], transfer_syntax_uid: str) -> bytes:
    """A query identifier: tag -> (VR, value), values in ASCII, in the order of tags."""
    encoding = identifier_encoding(transfer_syntax_uid)
    return b"".join(_element(tag, *keys[tag], encoding) for tag in sorted(keys))


def decode_identifier(encoded: bytes, transfer_syntax_uid: str) -> dict[int, bytes]:
    """Raw values of a response identifier's top-level elements. Raises ValueError if it is malformed."""
    try:
        return {
            element.tag: encoded[element.start : element.start + element.length]
            for element in elements(encoded, identifier_encoding(transfer_syntax_uid))
        }
    except (EOFError, struct.error):
        raise ValueError("an identifier is cut") from None


def identifier_encoding(transfer_syntax_uid: str) -> Encoding:
    """The encoding of identifiers in a context of this transfer syntax."""
    if transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN:
        return IMPLICIT_LITTLE
    return EXPLICIT_BIG if transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN else EXPLICIT_LITTLE


def _values(encoded: bytes) -> dict[int, bytes]:
    """The elements of a command set. Raises EOFError where it is cut; zeros behind it are passed over."""
    values: dict[int, bytes] = {}
    at, end = 0, len(encoded)
    while at + 8 <= end:
        group, element, length = _HEADER(encoded, at)
        at += 8 + length
        values[group << 16 | element] = encoded[at - length : at]
    if at != end and (at > end or encoded[at:].strip(b"\0")):
        raise EOFError("an element is cut")
    return values


def _element(tag: int, vr: str, text: str, encoding: Encoding) -> bytes:
    value = _even(text, b"\0" if vr == "UI" else b" ")
    order = "<" if encoding.little else ">"
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if encoding.explicit:
        return head + vr.encode("ascii") + struct.pack(order + "H", len(value)) + value
    return head + struct.pack(order + "I", len(value)) + value


def _implicit(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def _even(text: str, padding: bytes) -> bytes:
    value = text.encode("ascii", "replace")
    return value + padding if len(value) % 2 else value


def _short(number: int) -> bytes:
    return struct.pack("<H", number)


def _number(values: Mapping[int, bytes], tag: int) -> int | None:
    value = values.get(tag)
    return None if value is None or len(value) < 2 else int(struct.unpack_from("<H", value)[0])
