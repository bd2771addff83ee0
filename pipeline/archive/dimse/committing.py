"""Recording what was received, in groups: what came while one group was recorded goes with the next.

Whoever waits for its own instance is told within a bounded time, whatever the database does.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from pipeline.archive.dimse.caller import Sender
from pipeline.errors import FirstreadError, RetryLater, StopRun
from pipeline.study import HeldInstance

log = logging.getLogger(__name__)

_MOST_AT_ONCE = 256
_GROUPS_AT_ONCE = 2
_SECONDS_WHILE_LATE = 0.5


@dataclass(frozen=True, slots=True)
class Arrival:
    """One instance, in a file of its own, and who sent it."""

    instance: HeldInstance
    sender: Sender


Record = Callable[[Sequence[Arrival]], None]


def _taken_lock() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True, eq=False)
class Recording:
    """An instance that was given to be recorded."""

    arrival: Arrival
    done: threading.Lock = field(default_factory=_taken_lock)
    """Released once it is recorded, or is not."""
    failure: Exception | None = None
    given_up: bool = False


class GroupCommit:
    """Calls ``record`` from two threads of its own, between ``start`` and ``close``.

    While one group waits for the disk the next is written: nobody waits for a group that it is not in.
    """

    def __init__(self, record: Record, seconds: float) -> None:
        self._record = record
        self._seconds = seconds
        self._waiting: queue.SimpleQueue[Recording | None] = queue.SimpleQueue()
        self.late = False
        """True while what waited last waited in vain."""
        self._threads = [
            threading.Thread(target=self._run, name=f"inbox-commits-{number}", daemon=True)
            for number in range(_GROUPS_AT_ONCE)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def close(self, seconds: float) -> None:
        """Record what waits and end; a database that does not answer is left after so many seconds."""
        deadline = time.monotonic() + seconds
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def give(self, arrival: Arrival) -> Recording:
        """Have an instance recorded; ``wait`` for it before anybody is told so."""
        waiting = Recording(arrival)
        self._waiting.put(waiting)
        return waiting

    def wait(self, waiting: Recording) -> None:
        """Return once the instance is recorded; raises why it is not, RetryLater where it takes too long."""
        seconds = min(self._seconds, _SECONDS_WHILE_LATE) if self.late else self._seconds
        if not waiting.done.acquire(timeout=seconds):
            waiting.given_up = self.late = True
            raise RetryLater(
                "database-away", "the database does not answer in time; the sender keeps the instance"
            )
        if waiting.failure is not None:
            raise waiting.failure

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            group = [first]
            with suppress(queue.Empty):
                while len(group) < _MOST_AT_ONCE:
                    one = self._waiting.get_nowait()
                    if one is None:
                        self._waiting.put(None)  # for the next turn of this thread
                        break
                    group.append(one)
            wanted = [one for one in group if not one.given_up]
            if wanted:
                self._settle(wanted)

    def _settle(self, group: list[Recording]) -> None:
        failure: Exception | None = None
        try:
            self._record([one.arrival for one in group])
            self.late = False
        except Exception as error:  # noqa: BLE001 - whatever it was, no sender may be told Success
            failure = error
        if failure is not None and len(group) > 1 and not isinstance(failure, (RetryLater, StopRun)):
            for one in group:  # one instance that cannot be recorded does not refuse its neighbours
                self._settle([one])
            return
        for one in group:
            one.failure = failure
            one.done.release()


def said(error: Exception) -> str:
    """What may be logged of a failure: our own errors hold no patient data, others might."""
    return str(error) if isinstance(error, FirstreadError) else type(error).__name__
