"""A query/retrieve SCP on loopback that misbehaves as real ones do, one fault at a time."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydicom import dcmread
from pydicom.filereader import read_file_meta_info

from pipeline.archive.dimse import pdu
from pipeline.archive.dimse.association import Association, DimseMessage
from pipeline.archive.dimse.command import (
    C_ECHO_RQ,
    C_FIND_RQ,
    C_GET_RQ,
    C_MOVE_RQ,
    C_STORE_RQ,
    Command,
    Counts,
    decode_identifier,
    encode_identifier,
)
from pipeline.archive.dimse.pdu import Associate, PresentationContext, Rejection
from pipeline.errors import FirstreadError
from tests.servers import LOOPBACK

AE_TITLE = "FAULTY"
LEVEL, STUDY, SERIES, INSTANCE, CLASS = 0x00080052, 0x0020000D, 0x0020000E, 0x00080018, 0x00080016
STUDY_DATE, STUDY_TIME, NAME, CHARACTER_SET = 0x00080020, 0x00080030, 0x00100010, 0x00080005


@dataclass(slots=True)
class Faults:
    """What the server does wrong; each field is off by default."""

    rejection: Rejection | None = None
    find_cap: int = 0
    """The most study rows in one answer, silently."""
    find_refuses_above: int = 0
    """Queries with more matches end with 0xA700 and no row."""
    find_status: int | None = 0
    find_empty_rows: bool = False
    find_stalls: bool = False
    find_aborts: bool = False
    find_malformed: bool = False
    find_character_set: tuple[str, str] = ("", "")
    """Specific Character Set of the rows, and the codec of the patient's name in them."""
    retrieve_status: int = 0
    retrieve_counts: Counts = field(default_factory=Counts)
    sends: int = 10**6
    """How many of the instances that were asked for are sent."""
    sends_late: float = 0.0
    """Seconds after the final response at which the instances are sent (C-MOVE only)."""
    sends_twice: bool = False
    sends_stranger: Path | None = None
    """An instance of another study that is sent, too."""
    pending_for: float = 0.0
    """Seconds of pending responses, four a second, before the first instance."""
    retrieve_stalls: bool = False
    dies_after: int = -1
    """Close the association after so many instances."""
    stalls_after: int = -1
    """Say nothing more after so many instances."""
    truncates: bool = False
    renames: bool = False
    """The request names another SOP Instance UID than the data set."""
    names: str = ""
    """The SOP Instance UID that every request names."""


@dataclass(slots=True)
class FaultyDimse:
    """The running server, its faults, and how often it was asked for what."""

    port: int
    faults: Faults
    move_port: int
    requests: list[str] = field(default_factory=list)
    store_statuses: list[int | None] = field(default_factory=list)
    identifiers: list[dict[int, bytes]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Stored:
    keys: dict[int, tuple[str, str]]
    dataset: bytes
    transfer_syntax: str


@contextmanager
def faulty_dimse(
    files: Sequence[Path], faults: Faults, move_port: int = 0, datasets: Sequence[bytes] = ()
) -> Iterator[FaultyDimse]:
    """Serve these DICOM files, wrongly; C-MOVE goes to ``move_port`` on loopback whatever the destination.

    ``datasets`` are sent in the place of those of the files.
    """
    listener = socket.create_server((LOOPBACK, 0))
    running = FaultyDimse(int(listener.getsockname()[1]), faults, move_port)
    stored = [_stored(path) for path in files]
    for number, dataset in enumerate(datasets):
        stored[number] = replace(stored[number], dataset=dataset)
    server = _Server(listener, stored, running)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.released.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for other in server.threads:
            other.join(10)


class _Server:
    def __init__(self, listener: socket.socket, stored: list[_Stored], running: FaultyDimse) -> None:
        self.listener = listener
        self.stored = stored
        self.running = running
        self.released = threading.Event()
        self.threads: list[threading.Thread] = []

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._converse, args=(connection,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _converse(self, connection: socket.socket) -> None:
        with suppress(FirstreadError, OSError), connection, Association(connection, 20) as association:
            if not self._accepts(connection, association):
                return
            while (message := association.receive()) is not None:
                field_name = {C_ECHO_RQ: "echo", C_FIND_RQ: "find", C_MOVE_RQ: "move", C_GET_RQ: "get"}
                self.running.requests.append(field_name[message.command.field])
                {"echo": self._echo, "find": self._find, "move": self._move, "get": self._get}[
                    self.running.requests[-1]
                ](association, message)

    def _accepts(self, connection: socket.socket, association: Association) -> bool:
        length = int.from_bytes(connection.recv(6, socket.MSG_WAITALL)[2:6], "big")
        request = pdu.parse_associate(connection.recv(length, socket.MSG_WAITALL))
        answer = self._choose(request)
        if isinstance(answer, Rejection):
            connection.sendall(pdu.associate_rj(answer))
            return False
        association.agree(request, answer)
        connection.sendall(pdu.associate_ac(answer))
        return True

    def _choose(self, request: Associate) -> Associate | Rejection:
        if self.running.faults.rejection is not None:
            return self.running.faults.rejection
        contexts = tuple(
            PresentationContext(c.context_id, c.abstract_syntax, c.transfer_syntaxes[:1])
            for c in request.contexts
        )
        return Associate(request.called, request.calling, contexts)

    def _answer(
        self, association: Association, message: DimseMessage, status: int | None, counts: Counts
    ) -> None:
        answer = Command(
            message.command.field | 0x8000,
            responded_to=message.command.message_id,
            sop_class_uid=message.command.sop_class_uid,
            status=status,
            counts=counts,
        )
        association.send(message.context, answer)

    def _echo(self, association: Association, message: DimseMessage) -> None:
        self._answer(association, message, 0, Counts())

    def _find(self, association: Association, message: DimseMessage) -> None:
        faults = self.running.faults
        syntax = message.context.transfer_syntaxes[0]
        keys = decode_identifier(message.data_set, syntax)
        self.running.identifiers.append(keys)
        if faults.find_stalls:
            self.released.wait(30)
            return
        rows = self._rows(keys)
        if keys[LEVEL].strip() == b"STUDY":
            if faults.find_refuses_above and len(rows) > faults.find_refuses_above:
                self._answer(association, message, 0xA700, Counts())
                return
            rows = rows[: faults.find_cap or None]
        for number, row in enumerate(rows):
            if faults.find_aborts and number == 1:
                association.abort()
                return
            self._pending(association, message, row, syntax)
        if faults.find_empty_rows:
            self._pending(association, message, {}, syntax)
        self._answer(association, message, faults.find_status, Counts())

    def _rows(self, keys: dict[int, bytes]) -> list[dict[int, tuple[str, str]]]:
        level = {b"STUDY": STUDY, b"SERIES": SERIES, b"IMAGE": INSTANCE}[keys[LEVEL].strip()]
        rows = {}
        for stored in self.stored:
            if all(_matches(stored.keys.get(tag, ("", ""))[1], keys.get(tag, b"")) for tag in _MATCHED):
                rows[stored.keys[level][1]] = {tag: stored.keys[tag] for tag in stored.keys if tag in keys}
        return [rows[uid] for uid in sorted(rows)]

    def _pending(
        self, association: Association, message: DimseMessage, row: dict[int, tuple[str, str]], syntax: str
    ) -> None:
        faults = self.running.faults
        pending = Command(
            message.command.field | 0x8000,
            responded_to=message.command.message_id,
            sop_class_uid=message.command.sop_class_uid,
            status=0xFF00,
            has_data_set=True,
        )
        encoded = encode_identifier(row, syntax)
        term, codec = faults.find_character_set
        if term:
            name = "王^小东".encode(codec)
            extra = {CHARACTER_SET: ("CS", term)}
            encoded = encode_identifier({**row, **extra, NAME: ("PN", "?" * len(name))}, syntax)
            encoded = encoded.replace(b"?" * len(name), name)
        if faults.find_malformed:
            encoded = encoded[: len(encoded) - 3]
        association.send(message.context, pending, encoded or b"")

    def _wanted(self, message: DimseMessage) -> list[_Stored]:
        keys = decode_identifier(message.data_set, message.context.transfer_syntaxes[0])
        self.running.identifiers.append(keys)
        tags = (STUDY, SERIES, INSTANCE)
        wanted = [s for s in self.stored if all(_matches(s.keys[tag][1], keys.get(tag, b"")) for tag in tags)]
        faults = self.running.faults
        wanted = wanted[: faults.sends]
        if faults.sends_stranger is not None:
            wanted.append(_stored(faults.sends_stranger))
        return wanted * 2 if faults.sends_twice else wanted

    def _move(self, association: Association, message: DimseMessage) -> None:
        faults = self.running.faults
        wanted = self._wanted(message)
        if not self._ready(association, message):
            return
        if faults.sends_late:
            self._answer(association, message, faults.retrieve_status, faults.retrieve_counts)
            time.sleep(faults.sends_late)
        for number, stored in enumerate(wanted):
            if number == faults.stalls_after:
                self.released.wait(30)
                return
            if number == faults.dies_after:
                association.abort()
                return
            contexts = (PresentationContext(1, stored.keys[CLASS][1], (stored.transfer_syntax,)),)
            with Association.request(
                (LOOPBACK, self.running.move_port),
                Associate(message.command.move_destination, AE_TITLE, contexts),
                connect_timeout=5,
                stall_timeout=10,
            ) as sender:
                self._store(sender, sender.accepted(stored.keys[CLASS][1]), stored)
        if not faults.sends_late:
            self._answer(association, message, faults.retrieve_status, faults.retrieve_counts)

    def _get(self, association: Association, message: DimseMessage) -> None:
        faults = self.running.faults
        wanted = self._wanted(message)
        if not self._ready(association, message):
            return
        for number, stored in enumerate(wanted):
            if number == faults.stalls_after:
                self.released.wait(30)
                return
            if number == faults.dies_after:
                association.abort()
                return
            agreed = [
                c
                for c in association.contexts.values()
                if c.abstract_syntax == stored.keys[CLASS][1]
                and c.transfer_syntaxes == (stored.transfer_syntax,)
            ]
            if agreed:  # else it cannot be sent
                self._store(association, agreed[0], stored)
        self._answer(association, message, faults.retrieve_status, faults.retrieve_counts)

    def _ready(self, association: Association, message: DimseMessage) -> bool:
        faults = self.running.faults
        if faults.retrieve_stalls:
            self.released.wait(30)
            return False
        end = time.monotonic() + faults.pending_for
        while time.monotonic() < end:
            self._answer(association, message, 0xFF00, Counts())
            time.sleep(0.25)
        return True

    def _store(self, association: Association, context: PresentationContext, stored: _Stored) -> None:
        faults = self.running.faults
        uid = faults.names or stored.keys[INSTANCE][1] + (".9" if faults.renames else "")
        request = Command(C_STORE_RQ, 9, 0, stored.keys[CLASS][1], uid, has_data_set=True)
        association.send(context, request, stored.dataset[:-100] if faults.truncates else stored.dataset)
        answer = association.receive()
        self.running.store_statuses.append(None if answer is None else answer.command.status)


_MATCHED = (STUDY, SERIES, INSTANCE, STUDY_DATE, STUDY_TIME)


def _matches(value: str, wanted: bytes) -> bool:
    text = wanted.decode("ascii").strip(" \0")
    if "-" in text:
        low, _, high = text.partition("-")
        return (not low or value >= low) and (not high or value <= high)
    return not text or value in text.split("\\")


def _stored(path: Path) -> _Stored:
    head = dcmread(path, stop_before_pixels=True)
    meta = read_file_meta_info(path)
    keys = {
        STUDY: ("UI", str(head.StudyInstanceUID)),
        SERIES: ("UI", str(head.SeriesInstanceUID)),
        INSTANCE: ("UI", str(head.SOPInstanceUID)),
        CLASS: ("UI", str(head.SOPClassUID)),
        STUDY_DATE: ("DA", str(head.StudyDate)),
        STUDY_TIME: ("TM", str(head.StudyTime)),
        NAME: ("PN", "Fictitious^Test"),
    }
    return _Stored(
        keys, path.read_bytes()[144 + meta.FileMetaInformationGroupLength :], str(meta.TransferSyntaxUID)
    )
