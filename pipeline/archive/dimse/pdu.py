"""Protocol data units of the DICOM Upper Layer (PS3.8 section 9.3), as values and bytes."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.archive.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from pipeline.archive.uids import clean_uid

ASSOCIATE_RQ = 0x01
ASSOCIATE_AC = 0x02
ASSOCIATE_RJ = 0x03
P_DATA_TF = 0x04
RELEASE_RQ = 0x05
RELEASE_RP = 0x06
ABORT = 0x07

COMMAND = 1
DATA_SET = 0
"""Bit 0 of a message control header (PS3.8 annex E.2); bit 1 marks the last fragment."""
_LAST = 2

LONGEST_PDU = 131072
MOST_CONTEXTS = 128

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_HEAD = struct.Struct(">BxI")
_ITEM = struct.Struct(">BxH")


@dataclass(frozen=True, slots=True)
class PresentationContext:
    """A presentation context: proposed with some transfer syntaxes, accepted with one (``result`` 0)."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    result: int = 0


@dataclass(frozen=True, slots=True)
class Associate:
    """A-ASSOCIATE-RQ or -AC. ``storage_roles`` are the SOP classes for which the requestor is SCP (PS3.7
    D.3.3.4).

    ``longest_pdu`` is the most the sender takes in one P-DATA-TF; 0 means no limit.
    """

    called: str
    calling: str
    contexts: tuple[PresentationContext, ...]
    longest_pdu: int = LONGEST_PDU
    storage_roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejection:
    """A-ASSOCIATE-RJ: result 1 is permanent, 2 transient; source and reason as in PS3.8 table 9-21."""

    result: int
    source: int
    reason: int


def pdu(kind: int, body: bytes) -> bytes:
    """A whole PDU."""
    return _HEAD.pack(kind, len(body)) + body


def associate_rq(request: Associate) -> bytes:
    """A-ASSOCIATE-RQ (PS3.8 section 9.3.2)."""
    contexts = b"".join(
        _item(
            0x20,
            struct.pack(">Bxxx", context.context_id)
            + _item(0x30, context.abstract_syntax.encode("ascii"))
            + b"".join(_item(0x40, syntax.encode("ascii")) for syntax in context.transfer_syntaxes),
        )
        for context in request.contexts
    )
    return pdu(ASSOCIATE_RQ, _associate(request, contexts, scu=0))


def associate_ac(answer: Associate) -> bytes:
    """A-ASSOCIATE-AC (PS3.8 section 9.3.3)."""
    contexts = b"".join(
        _item(
            0x21,
            struct.pack(">BxBx", context.context_id, context.result)
            + _item(
                0x40, (context.transfer_syntaxes[0] if context.transfer_syntaxes else "").encode("ascii")
            ),
        )
        for context in answer.contexts
    )
    return pdu(ASSOCIATE_AC, _associate(answer, contexts, scu=1))


def associate_rj(rejection: Rejection) -> bytes:
    """A-ASSOCIATE-RJ (PS3.8 section 9.3.4)."""
    return pdu(ASSOCIATE_RJ, bytes((0, rejection.result, rejection.source, rejection.reason)))


def parse_associate(body: bytes) -> Associate:
    """Parse the body of an A-ASSOCIATE-RQ or -AC PDU. Raises ValueError if it is malformed."""
    if len(body) < 68:
        raise ValueError("an A-ASSOCIATE PDU is too short")
    contexts: list[PresentationContext] = []
    longest, roles = 0, []
    for kind, value in _items(body, 68):
        if kind in (0x20, 0x21):
            contexts.append(_context(kind, value))
        elif kind == 0x50:
            for sub_kind, sub_value in _items(value, 0):
                if sub_kind == 0x51 and len(sub_value) == 4:
                    longest = struct.unpack(">I", sub_value)[0]
                elif sub_kind == 0x54:
                    roles += _role(sub_value)
    called, calling = (body[at : at + 16].decode("ascii", "replace").strip(" \0") for at in (4, 20))
    return Associate(called, calling, tuple(contexts), longest, tuple(roles))


def data_pdus(context_id: int, encoded: bytes, control: int, longest_pdu: int) -> bytes:
    """P-DATA-TF PDUs for one part of a message (PS3.8 annex E), none longer than the peer takes (0: no limit)."""
    most = min(longest_pdu or LONGEST_PDU, LONGEST_PDU) - 6
    pieces = [encoded[at : at + most] for at in range(0, len(encoded), most)] or [b""]
    framed = bytearray()
    for index, piece in enumerate(pieces):
        last = _LAST if index == len(pieces) - 1 else 0
        framed += pdu(P_DATA_TF, struct.pack(">IBB", len(piece) + 2, context_id, control | last) + piece)
    return bytes(framed)


def data_values(body: memoryview) -> list[tuple[int, int, memoryview]]:
    """Presentation data values of a P-DATA-TF (PS3.8 section 9.3.5): context id, control byte, fragment.

    Raises ValueError where one is cut.
    """
    values = []
    at = 0
    while at + 6 <= len(body):
        length, context_id, control = struct.unpack_from(">IBB", body, at)
        end = at + 4 + length
        if length < 2 or end > len(body):
            raise ValueError("a presentation data value is cut")
        values.append((context_id, control, body[at + 6 : end]))
        at = end
    return values


def _associate(message: Associate, contexts: bytes, *, scu: int) -> bytes:
    roles = b"".join(
        _item(0x54, struct.pack(">H", len(uid)) + uid.encode("ascii") + bytes((scu, 1)))
        for uid in message.storage_roles
    )
    user = (
        _item(0x51, struct.pack(">I", message.longest_pdu))
        + _item(0x52, IMPLEMENTATION_CLASS_UID.encode("ascii"))
        + roles
        + _item(0x55, IMPLEMENTATION_VERSION_NAME.encode("ascii"))
    )
    titles = b"".join(
        title.encode("ascii", "replace").ljust(16)[:16] for title in (message.called, message.calling)
    )
    fixed = b"\x00\x01\x00\x00" + titles + bytes(32)
    return fixed + _item(0x10, _APPLICATION_CONTEXT.encode("ascii")) + contexts + _item(0x50, user)


def _context(kind: int, value: bytes) -> PresentationContext:
    if len(value) < 4:
        raise ValueError("a presentation context is too short")
    subs = list(_items(value, 4))
    abstract = next((clean_uid(sub) for sub_kind, sub in subs if sub_kind == 0x30), "")
    syntaxes = tuple(clean_uid(sub) for sub_kind, sub in subs if sub_kind == 0x40)
    return PresentationContext(value[0], abstract, syntaxes, value[2] if kind == 0x21 else 0)


def _role(value: bytes) -> list[str]:
    """The SOP class, where the requestor may be its SCP."""
    length = struct.unpack_from(">H", value)[0] if len(value) >= 4 else 0
    uid = clean_uid(value[2 : 2 + length])
    return [uid] if len(value) >= 4 + length and value[3 + length] == 1 else []


def _items(encoded: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + 4 <= len(encoded):
        kind, length = _ITEM.unpack_from(encoded, at)
        value = encoded[at + 4 : at + 4 + length]
        if len(value) < length:
            raise ValueError("an item of an A-ASSOCIATE PDU is cut")
        yield kind, value
        at += 4 + length


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value
