"""A server of associations: takes C-STORE and C-ECHO (PS3.4 annexes A and B), hands instances to a desk."""

import logging
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from pipeline.archive.dimse.association import Association
from pipeline.archive.dimse.command import C_ECHO_RQ, C_ECHO_RSP, C_STORE_RQ, Command
from pipeline.archive.dimse.pdu import Associate, PresentationContext, Rejection
from pipeline.archive.dimse.receiving import ReceivePolicy, StoreSink
from pipeline.archive.part10 import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from pipeline.errors import ConfigurationError, FirstreadError

log = logging.getLogger(__name__)

VERIFICATION = "1.2.840.10008.1.1"
_DICOM_ROOT = "1.2.840.10008."
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
_MOST_ASSOCIATIONS = 64
_UNRECOGNIZED_OPERATION = 0x0211

_CALLED_AE_UNKNOWN = Rejection(1, 1, 7)
_TOO_MANY = Rejection(2, 3, 2)
_ABSTRACT_SYNTAX_UNSUPPORTED = 3
_TRANSFER_SYNTAXES_UNSUPPORTED = 4


class StoreServer:
    """Listens from ``start`` to ``close``; each association has its own thread.

    Every storage SOP class, private ones too, and every transfer syntax are accepted, in the order in which
    the sender proposes them. Any calling AE title is served; the called one must be ours.
    """

    def __init__(
        self, host: str, port: int, ae_title: str, desk: ReceivePolicy, stall_timeout: float
    ) -> None:
        self.host = host
        self.port = port
        self.ae_title = ae_title
        self._desk = desk
        self._stall_timeout = stall_timeout
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._open: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to listen.

        ``port`` then holds the port really taken. Raises ConfigurationError where it is taken.
        """
        try:
            self._listener = socket.create_server((self.host, self.port), backlog=64)
        except OSError as error:
            raise ConfigurationError(
                "port-in-use",
                f"cannot listen on {self.host}:{self.port} ({error.strerror}): choose another port, "
                "or stop who has it",
            ) from None
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(
            target=self._listen, args=(self._listener,), name="storage-scp", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening and end the associations that are open; what was acknowledged stays."""
        if self._listener is not None:
            _shut(self._listener)
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            threads = list(self._open.items())
        for connection, _ in threads:
            _shut(connection)
        for _, thread in threads:
            thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _listen(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                thread = threading.Thread(
                    target=self._serve, args=(connection,), name="storage-scp-a", daemon=True
                )
                with self._lock:
                    self._open[connection] = thread
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with Association(connection, self._stall_timeout) as association:
                request = association.accept(self._choose)
                if request is not None:
                    self._converse(association, request.calling)
        except FirstreadError as error:
            log.info("an association with the Storage SCP ended early: %s", error.code)
        except OSError as error:
            log.info("an association with the Storage SCP ended early: %s", type(error).__name__)
        finally:
            with self._lock:
                self._open.pop(connection, None)
            connection.close()

    def _converse(self, association: Association, calling: str) -> None:
        sink: StoreSink | None = None

        def sink_for(context: PresentationContext, command: Command) -> StoreSink:
            nonlocal sink
            sink = StoreSink(self._desk, context, command, calling)
            return sink

        try:
            while (message := association.receive(sink_for)) is not None:
                command, context = message.command, message.context
                if command.field == C_STORE_RQ and sink is not None:
                    association.send(context, sink.answer())
                elif command.field == C_ECHO_RQ:
                    answer = Command(
                        C_ECHO_RSP, responded_to=command.message_id, sop_class_uid=VERIFICATION, status=0
                    )
                    association.send(context, answer)
                else:
                    refusal = Command(
                        command.field | 0x8000,
                        responded_to=command.message_id,
                        status=_UNRECOGNIZED_OPERATION,
                    )
                    association.send(context, refusal)
                sink = None
        finally:
            if sink is not None:
                sink.discard()

    def _choose(self, request: Associate) -> Associate | Rejection:
        if request.called != self.ae_title:
            return _CALLED_AE_UNKNOWN
        with self._lock:
            if len(self._open) > _MOST_ASSOCIATIONS:
                return _TOO_MANY
        return Associate(request.called, request.calling, tuple(map(_answer, request.contexts)))


def _answer(proposed: PresentationContext) -> PresentationContext:
    """The proposed context with the sender's first transfer syntax, or why not (PS3.8 table 9-18)."""
    syntaxes = proposed.transfer_syntaxes
    wanted = syntaxes
    if proposed.abstract_syntax == VERIFICATION:
        plain = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN)
        wanted = tuple(syntax for syntax in syntaxes if syntax in plain)
    elif not _is_storage(proposed.abstract_syntax):
        return PresentationContext(
            proposed.context_id, proposed.abstract_syntax, syntaxes[:1], _ABSTRACT_SYNTAX_UNSUPPORTED
        )
    if not wanted:
        return PresentationContext(
            proposed.context_id, proposed.abstract_syntax, syntaxes[:1], _TRANSFER_SYNTAXES_UNSUPPORTED
        )
    return PresentationContext(proposed.context_id, proposed.abstract_syntax, wanted[:1])


def _is_storage(abstract_syntax: str) -> bool:
    return abstract_syntax.startswith(_STORAGE_ROOT) or not abstract_syntax.startswith(_DICOM_ROOT)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        connection.shutdown(socket.SHUT_RDWR)
