"""One connection to our Storage SCP: its association request, read without a thread, and what is known of it."""

import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass

from pipeline.archive.dimse import pdu
from pipeline.archive.dimse.association import Association
from pipeline.archive.dimse.pdu import Associate

LONGEST_REQUEST = 160 * 1024
"""An A-ASSOCIATE-RQ with 128 contexts and every transfer syntax needs less than 130 kB."""
_HEAD_BYTES = 6
_AT_ONCE = 16384
_SLOW_AFTER, _SLOW_BYTES_PER_SECOND = 2.0, 4096.0
_ABORT_BY_PROVIDER = b"\0\0\2\0"


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent something: the AE title that it calls itself, and its network address."""

    calling: str
    address: str

    def __str__(self) -> str:
        return f"{self.calling}@{self.address}"


class MalformedRequestError(Exception):
    """What came first is no association request, or one that is too long."""


class Caller:
    """A connection: first it waits for its association request, then it is associated."""

    def __init__(self, connection: socket.socket, address: str) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.address = address
        self.calling = ""
        self.since = time.monotonic()
        self.deadline = self.since
        self.request: Associate | None = None
        self.association: Association | None = None
        self.rejected = False
        self.working = False
        """A worker reads from it."""
        self.answering = False
        """It has sent a whole message and waits for our answer."""
        self._request = bytearray()
        self._message_since = self.since

    @property
    def heard_at(self) -> float:
        """When it was last heard (monotonic); one that sends a message very slowly counts as idle since it began."""
        association = self.association
        if association is None:
            return self.since
        if self.working:
            took = time.monotonic() - self._message_since
            if took > _SLOW_AFTER and association.taken < took * _SLOW_BYTES_PER_SECOND:
                return self._message_since
        return association.heard_at

    @property
    def may_leave(self) -> bool:
        """False while it waits for our answer."""
        return not self.answering

    @property
    def sender(self) -> Sender:
        """As whom it is recorded."""
        return Sender(self.calling, self.address)

    def begins(self) -> None:
        """A message of it begins to be read."""
        self._message_since = time.monotonic()

    def read_request(self) -> bool:
        """Take what has come of the association request; True once it is whole, and ``request`` is set.

        Raises MalformedRequestError for anything else, OSError where the connection is gone.
        """
        while (wanted := self._wanted()) > 0:
            try:
                piece = self.socket.recv(min(wanted, _AT_ONCE))
            except BlockingIOError:
                return False
            if not piece:
                raise ConnectionResetError("closed before an association request")
            self._request += piece
        try:
            self.request = pdu.parse_associate(bytes(memoryview(self._request)[_HEAD_BYTES:]))
        except ValueError:
            raise MalformedRequestError("the association request is malformed") from None
        self.calling = self.request.calling
        self._request = bytearray()
        return True

    def say(self, encoded: bytes) -> None:
        """Send a short PDU without waiting. Raises OSError where it cannot be sent at once."""
        if self.socket.send(encoded, socket.MSG_DONTWAIT) < len(encoded):
            raise BlockingIOError("the peer takes no answer")

    def close(self, *, abort: bool = False) -> None:
        """Close the connection, with an A-ABORT of the service provider first where ``abort``."""
        with suppress(OSError):  # it may be gone already
            if abort:
                self.say(pdu.pdu(pdu.ABORT, _ABORT_BY_PROVIDER))
        self.socket.close()

    def shut(self) -> None:
        """End the connection under the worker that reads from it, which then closes it."""
        with suppress(OSError):  # it is closed already
            self.socket.shutdown(socket.SHUT_RDWR)

    def _wanted(self) -> int:
        """How many bytes the request still lacks, as far as is known."""
        if len(self._request) < _HEAD_BYTES:
            return _HEAD_BYTES - len(self._request)
        kind, length = struct.unpack_from(">BxI", self._request)
        if kind != pdu.ASSOCIATE_RQ or length > LONGEST_REQUEST:
            raise MalformedRequestError("no association request came first")
        return int(_HEAD_BYTES + length - len(self._request))
