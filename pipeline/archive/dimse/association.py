"""A DICOM association over TCP (PS3.8), for both roles, with the data set of a message streamed to a sink.

Written for this project's two needs, receiving at the speed of the wire and deadlines that restart with
progress; docs/decisions tells how it compares with pynetdicom, against which the tests run it.
"""

import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn, Protocol, Self

from pipeline.archive.dimse import pdu
from pipeline.archive.dimse.command import Command, decode_command
from pipeline.archive.dimse.failures import aborted, rejected, service_refused, unreachable
from pipeline.archive.dimse.pdu import Associate, PresentationContext, Rejection
from pipeline.archive.dimse.waiting import acknowledge_at_once, limit, readable
from pipeline.errors import RetryLater

_LARGEST_PDU = 1 << 24
"""Of an archive that we asked: some exceed what we announced."""
_FIRST_BUFFER = 1 << 14
_LARGEST_COMMAND = 1 << 16
_LARGEST_IDENTIFIER = 1 << 22
_ABORT_BY_USER = b"\0\0\0\0"
_WAIT_STEP = 0.25
_FAREWELL_SECONDS = 1.0


class Sink(Protocol):
    """Where a message's data set goes."""

    def write(self, piece: memoryview) -> None:
        """Take the next bytes; valid during the call only."""


@dataclass(frozen=True, slots=True)
class DimseMessage:
    """A DIMSE message: the context it came on, its command, and its data set where no sink took it."""

    context: PresentationContext
    command: Command
    data_set: bytes = b""


class _Memory:
    def __init__(self) -> None:
        self.bytes = bytearray()

    def write(self, piece: memoryview) -> None:
        if len(self.bytes) + len(piece) > _LARGEST_IDENTIFIER:
            raise RetryLater("archive-protocol", "an identifier is larger than any should be")
        self.bytes += piece


@dataclass(frozen=True, slots=True)
class Pace:
    """How long one message of a peer may take: ``seconds``, and one more for each ``bytes_per_second`` that came."""

    seconds: float
    bytes_per_second: float


SinkFor = Callable[[PresentationContext, Command], Sink]
Deadline = Callable[[], float]


class Association:
    """One association. Used by one thread; a context manager that aborts what was not released.

    No PDU longer than ``longest_pdu`` bytes is taken, and the buffer grows with what came, not with what was promised.
    With a ``pace`` a message that comes slower ends the association.
    """

    def __init__(
        self,
        connection: socket.socket,
        stall_timeout: float,
        *,
        longest_pdu: int = _LARGEST_PDU,
        pace: Pace | None = None,
    ) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(True)
        self._socket = connection
        self._stall_timeout = self._patience = stall_timeout
        limit(connection, stall_timeout)
        self._buffer = bytearray(_FIRST_BUFFER)
        self._at = self._filled = 0
        """What has come and was not taken yet lies between these two."""
        self._longest_pdu = longest_pdu
        self._pace = pace
        self._begun = 0.0
        self._peer_longest = 16384
        self._open = False
        self._titles = ("", "")
        self.contexts: dict[int, PresentationContext] = {}
        self.heard_at = time.monotonic()
        """When bytes of the peer came last (monotonic); other threads may read it."""
        self.taken = 0
        """Bytes of the message that is coming, or of the last one."""

    @classmethod
    def request(
        cls, address: tuple[str, int], proposal: Associate, *, connect_timeout: float, stall_timeout: float
    ) -> Self:
        """Open an association.

        Raises RetryLater where the peer is away or busy, StopRun where it refuses for good.
        """
        try:
            connection = socket.create_connection(address, timeout=connect_timeout)
        except OSError as error:
            raise unreachable(error) from None
        association = cls(connection, stall_timeout)
        association._titles = (proposal.called, proposal.calling)
        try:
            association._negotiate(proposal)
        except BaseException:
            connection.close()
            raise
        return association

    def accepted(self, abstract_syntax: str) -> PresentationContext:
        """The accepted context for an abstract syntax. Raises StopRun where the peer took none."""
        for context in self.contexts.values():
            if context.abstract_syntax == abstract_syntax:
                return context
        raise service_refused(abstract_syntax)

    def offers(self, abstract_syntax: str) -> bool:
        """Whether the peer took a context for an abstract syntax."""
        return any(context.abstract_syntax == abstract_syntax for context in self.contexts.values())

    def send(self, context: PresentationContext, command: Command, identifier: bytes = b"") -> None:
        """Send one message."""
        most = self._peer_longest
        encoded = pdu.data_pdus(context.context_id, command.encode(), pdu.COMMAND, most)
        if command.has_data_set:
            encoded += pdu.data_pdus(context.context_id, identifier, pdu.DATA_SET, most)
        self._send_all(encoded)

    def receive(
        self, sink_for: SinkFor | None = None, deadline: Deadline | None = None
    ) -> DimseMessage | None:
        """The next message, or None when the peer asked for release (which is granted) before one.

        ``sink_for`` chooses where the data set of a message goes; without one it is kept in memory.
        ``deadline`` gives the monotonic time until which to wait for the message to begin; the stall timeout
        applies within it. Raises RetryLater when the peer stalls, aborts or closes.
        """
        command_bytes = bytearray()
        command: Command | None = None
        context: PresentationContext | None = None
        sink: Sink = _Memory()
        self._begun, self.taken = time.monotonic(), self._filled - self._at
        if deadline is not None:
            self._await(deadline)
        while True:
            body = self._read_pdu(pdu.P_DATA_TF)
            if body is None:
                return None
            try:
                values = pdu.data_values(body)
            except ValueError:
                self._broken("a P-DATA PDU is malformed")
            for index, (context_id, control, value) in enumerate(values):
                last = control & 2 and index == len(values) - 1
                if control & 2 and not last and not (control & 1):
                    self._broken("a PDU holds parts of two messages")
                if control & 1:
                    command_bytes += value
                    if len(command_bytes) > _LARGEST_COMMAND:
                        self._broken("a command set is larger than any should be")
                    if not control & 2:
                        continue
                    command, context = self._command(command_bytes), self._context(context_id)
                    if not command.has_data_set:
                        return DimseMessage(context, command)
                    sink = sink_for(context, command) if sink_for is not None else _Memory()
                elif command is None or context is None:
                    self._broken("a data set came without its command")
                else:
                    sink.write(value)
                    if last:
                        kept = bytes(sink.bytes) if isinstance(sink, _Memory) else b""
                        return DimseMessage(context, command, kept)

    def release(self) -> None:
        """Release the association (PS3.8 section 7.2); a peer that does not answer is left."""
        if not self._open:
            return
        self._open = False
        try:
            self._send_all(pdu.pdu(pdu.RELEASE_RQ, bytes(4)))
            while self._read_pdu(pdu.RELEASE_RP) is None:
                pass
        except (RetryLater, OSError):
            pass  # the work is done; only the farewell failed
        self._close()

    def abort(self) -> None:
        """Abort (PS3.8 section 7.3) and close."""
        if self._open:
            self._open = False
            try:
                limit(self._socket, _FAREWELL_SECONDS)
                self._socket.sendall(pdu.pdu(pdu.ABORT, _ABORT_BY_USER))
            except OSError:
                pass  # the peer is gone already
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.release()
        self.abort()

    def agree(self, request: Associate, answer: Associate) -> None:
        """As acceptor: go on as ``answer``, which the caller sends, agrees with ``request``."""
        self._open = True
        self._agree(answer, {context.context_id: context.abstract_syntax for context in request.contexts})
        self._peer_longest = request.longest_pdu

    def has_more(self, seconds: float) -> bool:
        """Wait at most so long for bytes of the peer, or its farewell; True when there are some."""
        if self._filled > self._at:
            return True
        if seconds <= 0:
            return readable(self._socket)
        self._at = self._filled = 0
        try:
            got = self._take(seconds)
        except BlockingIOError:
            return False
        except OSError:
            return True  # whoever reads hears what it is
        self._filled += got
        self.heard_at = time.monotonic()
        return True

    def _negotiate(self, proposal: Associate) -> None:
        self._open = True
        self._send_all(pdu.associate_rq(proposal))
        body = self._read_pdu(pdu.ASSOCIATE_AC)
        if body is None:
            self._broken("the archive answered the association request with a release")
        try:
            answer = pdu.parse_associate(bytes(body))
        except ValueError:
            self._broken("the answer to the association request is malformed")
        self._agree(answer, {context.context_id: context.abstract_syntax for context in proposal.contexts})
        self._peer_longest = answer.longest_pdu

    def _agree(self, answer: Associate, abstract: dict[int, str]) -> None:
        self.contexts = {
            context.context_id: PresentationContext(
                context.context_id, abstract[context.context_id], context.transfer_syntaxes[:1]
            )
            for context in answer.contexts
            if context.result == 0 and context.context_id in abstract and context.transfer_syntaxes
        }

    def _command(self, encoded: bytearray) -> Command:
        try:
            return decode_command(bytes(encoded))
        except ValueError:
            self._broken("a command set is malformed")

    def _context(self, context_id: int) -> PresentationContext:
        context = self.contexts.get(context_id)
        if context is None:
            self._broken("a message came on a presentation context that was not agreed")
        return context

    def _await(self, deadline: Deadline) -> None:
        """Wait until bytes arrive.

        The deadline is asked again at every step, since progress elsewhere moves it.
        """
        while True:
            left = deadline() - time.monotonic()
            if self.has_more(max(0.0, min(left, _WAIT_STEP))):
                return
            if left <= 0:
                self.abort()
                raise RetryLater(
                    "archive-stalled",
                    "the archive made no progress in time: raise stall_timeout if it is slow",
                )

    def _read_pdu(self, wanted: int) -> memoryview | None:
        """The body of the next PDU of the wanted kind; None after a release request, which is granted."""
        head = self._read(6)
        kind, length = head[0], int(struct.unpack_from(">I", head, 2)[0])
        if length > self._longest_pdu:
            self._broken("a PDU is larger than any should be")
        body = self._read(length)
        if kind == wanted:
            return body
        if kind == pdu.RELEASE_RQ:
            self._send_all(pdu.pdu(pdu.RELEASE_RP, bytes(4)))
            self._open = False
            return None
        if kind == pdu.ASSOCIATE_RJ and length >= 4:
            self._open = False
            raise rejected(Rejection(body[1], body[2], body[3]), self._titles)
        if kind == pdu.ABORT:
            self._open = False
            raise aborted(self._titles)
        if kind == pdu.P_DATA_TF and wanted == pdu.RELEASE_RP:
            return None  # a late message during release
        return self._broken("a PDU came that has no place here")

    def _read(self, count: int) -> memoryview:
        """The next bytes, valid until the next call; whatever has come behind them is taken from the kernel too."""
        try:
            while self._filled - self._at < count:
                self._make_room(count)
                got = self._take(self._stall_timeout)
                if not got:
                    self._open = False
                    raise RetryLater("archive-closed", "the archive closed the connection: look into its log")
                self._filled += got
                self._came(got)
        except OSError as error:
            self.abort()
            raise unreachable(TimeoutError() if isinstance(error, BlockingIOError) else error) from None
        taken = memoryview(self._buffer)[self._at : self._at + count]
        self._at += count
        return taken

    def _take(self, seconds: float) -> int:
        """How many bytes came into the buffer; 0 where the peer has closed. Raises BlockingIOError after so long."""
        if seconds != self._patience:
            self._patience = seconds
            limit(self._socket, seconds, socket.SO_RCVTIMEO)
        acknowledge_at_once(self._socket)
        return self._socket.recv_into(memoryview(self._buffer)[self._filled :])

    def _make_room(self, count: int) -> None:
        """Have the buffer go on behind what it holds, larger by four times at most where ``count`` asks for it."""
        held = self._filled - self._at
        if self._at == self._filled:
            self._at = self._filled = 0
        elif self._at + count > len(self._buffer) or self._filled == len(self._buffer):
            self._buffer = bytearray(self._buffer[self._at : self._filled]) + bytearray(
                len(self._buffer) - held
            )
            self._at, self._filled = 0, held
        if held == len(self._buffer):
            self._buffer = self._buffer + bytearray(min(count, 4 * held) - held)

    def _came(self, count: int) -> None:
        self.heard_at = time.monotonic()
        self.taken += count
        pace = self._pace
        if (
            pace is not None
            and self.heard_at - self._begun > pace.seconds + self.taken / pace.bytes_per_second
        ):
            self.abort()
            raise RetryLater("peer-too-slow", "the peer sent one message for longer than a message may take")

    def _send_all(self, encoded: bytes) -> None:
        try:
            self._socket.sendall(encoded)
        except OSError as error:
            self._open = False
            raise unreachable(TimeoutError() if isinstance(error, BlockingIOError) else error) from None

    def _broken(self, message: str) -> NoReturn:
        self.abort()
        raise RetryLater("archive-protocol", f"{message}: look into the archive's log")

    def _close(self) -> None:
        self._socket.close()
