"""A server of associations: takes C-STORE and C-ECHO (PS3.4 annexes A and B), hands instances to a desk.

One thread accepts, reads association requests and watches idle associations; a few others read messages. So a peer
that is silent costs no thread, and no fault of one connection ends the hearing of others.
"""

import logging
import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pipeline.archive.dimse import pdu
from pipeline.archive.dimse.association import Association, Pace
from pipeline.archive.dimse.caller import Caller, MalformedRequestError, Sender
from pipeline.archive.dimse.caller_places import (
    CallerPlaces,
    admits,
    first_to_leave,
    places_by_descriptors,
    silent_to_leave,
)
from pipeline.archive.dimse.conversation import converse
from pipeline.archive.dimse.negotiation import answered
from pipeline.archive.dimse.pdu import Associate, Rejection
from pipeline.archive.dimse.receiving import ReceivePolicy
from pipeline.archive.dimse.workers import Workers
from pipeline.errors import ConfigurationError

log = logging.getLogger(__name__)

_LONGEST_PDU = pdu.LONGEST_PDU + 64
_BYTES_PER_SECOND = 1024.0
_MOST_KNOWN = 1024
_LINGER_SECONDS = 0.1
_LINGERS = 5
_TICK_SECONDS = 0.1
_PAUSE_SECONDS = 0.1
_FAREWELL_SECONDS = 2.0
_CLOSE_SECONDS = 3.0

_CALLED_AE_UNKNOWN = Rejection(1, 1, 7)
_CALLING_AE_UNKNOWN = Rejection(1, 1, 3)
_TOO_MANY = Rejection(2, 3, 2)


@dataclass(frozen=True, slots=True)
class Hearing:
    """How well the server hears. ``deaf_since`` (monotonic) is set while connections cannot be accepted."""

    alive: bool
    deaf_since: float | None
    associations: int
    waiting: int
    refused: int
    sent_away: int
    places: int = 0


class StoreServer:
    """Listens from ``start`` to ``close``.

    Every storage SOP class, private ones too, is accepted, in a transfer syntax that we can decode where the sender
    offers one. ``allows`` says which senders are served; ``refused`` is told of those that were not, and why, and must
    not block. The called AE title must be ours.
    """

    def __init__(
        self,
        host: str,
        port: int,
        ae_title: str,
        desk: ReceivePolicy,
        stall_timeout: float,
        *,
        allows: Callable[[Sender], bool] = lambda _: True,
        refused: Callable[[Sender, str], None] = lambda *_: None,
        places: CallerPlaces | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.ae_title = ae_title
        self._desk = desk
        self._stall_timeout = stall_timeout
        self._allows = allows
        self._tell_refused = refused
        self._places = places or places_by_descriptors()
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._waiting: set[Caller] = set()
        self._queued: set[Caller] = set()
        self._open: set[Caller] = set()
        self._parked: queue.SimpleQueue[Caller] = queue.SimpleQueue()
        self._known: dict[str, None] = {}
        self._deaf_since: float | None = None
        self._accept_again_at = 0.0
        self._refused = self._sent_away = 0

    def start(self) -> None:
        """Begin to listen.

        ``port`` then holds the port really taken. Raises ConfigurationError where it is taken.
        """
        try:
            self._listener = socket.create_server((self.host, self.port), backlog=128)
        except OSError as error:
            raise ConfigurationError(
                "port-in-use",
                f"cannot listen on {self.host}:{self.port} ({error.strerror}): choose another port, "
                "or stop who has it",
            ) from None
        try:
            self._begin(self._listener)
        except BaseException:
            self._listener.close()
            raise

    def _begin(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self.port = int(listener.getsockname()[1])
        self._selector = selectors.DefaultSelector()
        self._wake, woken = socket.socketpair()
        for one in (self._wake, woken):
            one.setblocking(False)
        self._selector.register(woken, selectors.EVENT_READ)
        self._selector.register(listener, selectors.EVENT_READ)
        self._woken = woken
        self._workers = Workers(self._converse, self._places.associations)
        self._thread = threading.Thread(target=self._watch, name="storage-scp", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and end the associations that are open; what was acknowledged stays."""
        if self._thread is None:
            return
        self._closing.set()
        self._awaken()
        self._thread.join()
        self._thread = None
        self._workers.close(_CLOSE_SECONDS)
        while not self._parked.empty():  # a worker was done with it when the watching had ended
            self._parked.get().close()
        for end in (self._wake, self._woken):
            end.close()

    def hearing(self) -> Hearing:
        """How well it hears now."""
        alive = self._thread is not None and self._thread.is_alive()
        return Hearing(
            alive, self._deaf_since, len(self._open), len(self._waiting), self._refused, self._sent_away,
            self._places.associations,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the thread that watches

    def _watch(self) -> None:
        try:
            while not self._closing.is_set():
                busy = self._queued or self._workers.lacking or not self._accepting
                for key, _ in self._selector.select(_TICK_SECONDS if busy else 5 * _TICK_SECONDS):
                    if key.data is not None:
                        self._attend(key.data)
                    elif key.fileobj is self._woken:
                        self._take_back()
                    else:
                        self._accept()
                self._tick(time.monotonic())
        finally:
            for caller in (*self._waiting, *self._queued, *self._open):
                if caller.working:
                    caller.shut()
                else:
                    caller.close(abort=caller.association is not None)
            self._selector.close()
            if self._listener is not None:
                self._listener.close()

    @property
    def _accepting(self) -> bool:
        return not self._accept_again_at

    def _accept(self) -> None:
        assert self._listener is not None
        while True:
            if len(self._waiting) + len(self._queued) >= self._places.waiting:
                silent = silent_to_leave(self._waiting or self._queued)
                if silent is not None:
                    self._drop(silent, sent_away=True)
            try:
                connection, peer = self._listener.accept()
            except BlockingIOError:
                self._deaf_since = None
                return
            except ConnectionAbortedError:
                continue  # the peer has left before it was heard
            except OSError as error:
                self._pause(error)
                return
            self._deaf_since = None
            caller = Caller(connection, str(peer[0]))
            known = caller.address in self._known
            caller.deadline += self._places.known_seconds if known else self._places.request_seconds
            self._waiting.add(caller)
            self._selector.register(connection, selectors.EVENT_READ, caller)

    def _pause(self, error: OSError) -> None:
        """Nothing can be accepted now (no descriptor, no memory): make room, and try again in a moment."""
        now = time.monotonic()
        if self._deaf_since is None:
            self._deaf_since = now
            log.error(
                "no connection can be accepted (%s): trying again", error.strerror or type(error).__name__
            )
        leaving = silent_to_leave(self._waiting) or first_to_leave(
            self._open, now - self._places.idle_seconds
        )
        if leaving is not None:
            self._drop(leaving, sent_away=True)
        if self._accepting and self._listener is not None:
            self._selector.unregister(self._listener)
        self._accept_again_at = now + _PAUSE_SECONDS

    def _attend(self, caller: Caller) -> None:
        """Bytes came of a caller that no worker has; whatever they do to us, the others are heard."""
        try:
            if caller.rejected:
                self._drop(caller)
            elif caller.socket.fileno() >= 0:  # it may have been sent away in this very round
                self._heard(caller)
        except Exception as error:  # noqa: BLE001 - see above
            log.error("a connection ended by %s", type(error).__name__)
            self._drop(caller)

    def _heard(self, caller: Caller) -> None:
        if caller.association is not None:
            self._selector.unregister(caller.socket)
            self._hand(caller)
            return
        try:
            whole = caller.read_request()
        except (MalformedRequestError, OSError) as error:
            log.info("a connection ended without an association: %s", type(error).__name__)
            self._drop(caller, abort=isinstance(error, MalformedRequestError))
            return
        if whole:
            self._waiting.discard(caller)
            caller.deadline = time.monotonic() + self._places.patience_seconds
            self._place(caller)

    def _place(self, caller: Caller) -> None:
        """Answer an association request, or keep it for a moment while every place is taken."""
        request, now = caller.request, time.monotonic()
        assert request is not None
        rejection: Rejection | None = None
        if request.called != self.ae_title:
            rejection = _CALLED_AE_UNKNOWN
        elif not self._allows(caller.sender):
            rejection = _CALLING_AE_UNKNOWN
        else:
            place = admits(self._open, caller, self._places, now - self._places.idle_seconds)
            if isinstance(place, Caller):
                self._drop(place, sent_away=True)
            elif not place and now < caller.deadline:
                self._queued.add(caller)
                return
            elif not place:
                rejection = _TOO_MANY
        self._queued.discard(caller)
        try:
            if rejection is not None:
                self._refuse(caller, rejection)
            else:
                self._associate(caller, request)
        except OSError as error:
            log.info("a caller left before its answer: %s", type(error).__name__)
            self._drop(caller)

    def _refuse(self, caller: Caller, rejection: Rejection) -> None:
        self._refused += 1
        reason = {_CALLED_AE_UNKNOWN: "called-ae", _CALLING_AE_UNKNOWN: "calling-ae"}.get(rejection, "busy")
        log.info("an association with the Storage SCP is rejected: %s", reason)
        self._tell_refused(caller.sender, reason)
        caller.rejected = True  # it is the peer who closes (PS3.8 section 9.2.3, state 13)
        caller.deadline = time.monotonic() + _FAREWELL_SECONDS
        self._waiting.add(caller)
        caller.say(pdu.associate_rj(rejection))

    def _associate(self, caller: Caller, request: Associate) -> None:
        answer = Associate(request.called, request.calling, tuple(map(answered, request.contexts)))
        caller.say(pdu.associate_ac(answer))
        caller.association = Association(
            caller.socket,
            self._stall_timeout,
            longest_pdu=_LONGEST_PDU,
            pace=Pace(self._stall_timeout, _BYTES_PER_SECOND),
        )
        caller.association.agree(request, answer)
        caller.request = None
        self._known[caller.address] = None
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._open.add(caller)

    def _hand(self, caller: Caller) -> None:
        caller.working = True
        caller.begins()
        self._workers.give(caller)

    def _take_back(self) -> None:
        """Watch again what workers are done with."""
        with suppress(BlockingIOError):
            self._woken.recv(4096)
        while not self._parked.empty():
            caller = self._parked.get()
            caller.working = False
            if caller.socket.fileno() < 0:
                self._open.discard(caller)
            else:
                self._selector.register(caller.socket, selectors.EVENT_READ, caller)

    def _tick(self, now: float) -> None:
        if self._accept_again_at and now >= self._accept_again_at and self._listener is not None:
            self._accept_again_at = 0.0
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._accept()
        for caller in [one for one in self._waiting if now >= one.deadline]:
            self._drop(caller)
        for caller in list(self._queued):
            self._place(caller)
        for caller in list(self._open):
            if not caller.working and now - caller.heard_at > self._stall_timeout:
                self._drop(caller, abort=True)
        if self._workers.lacking:
            held = [one for one in self._open if one.working]
            slow = first_to_leave(held, now - self._places.idle_seconds)
            if slow is not None:
                self._drop(slow, sent_away=True)

    def _drop(self, caller: Caller, *, sent_away: bool = False, abort: bool = False) -> None:
        self._sent_away += sent_away
        self._waiting.discard(caller)
        self._queued.discard(caller)
        if caller.working:
            caller.shut()  # its worker gives it back
            return
        self._open.discard(caller)
        with suppress(KeyError, ValueError):
            self._selector.unregister(caller.socket)
        caller.close(abort=abort or sent_away)

    def _awaken(self) -> None:
        with suppress(BlockingIOError):  # it is awake
            self._wake.send(b"\0")

    # -- the threads that read messages

    def _converse(self, caller: Caller) -> None:
        """Answer the messages of one caller until it is silent for a moment; then it is watched again."""
        try:
            converse(self._desk, caller, self._more)
        finally:
            caller.answering = False
            self._parked.put(caller)
            self._awaken()

    def _more(self, association: Association) -> bool:
        for _ in range(_LINGERS):
            if self._closing.is_set():
                return False
            if association.has_more(0.0 if self._workers.lacking else _LINGER_SECONDS):
                return True
            if self._workers.lacking:
                return False
        return False
