"""Keeping what was received, in groups: what came while one group was made durable goes with the next.

Whoever waits for its own instance is told within a bounded time, whatever the database does.
"""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.archive.dimse.caller import Sender
from pipeline.errors import FirstreadError, RetryLater, StopRun
from pipeline.study import HeldInstance

log = logging.getLogger(__name__)

_MOST_AT_ONCE = 256
_SECONDS_WHILE_LATE = 0.5


@dataclass(frozen=True, slots=True)
class Arrival:
    """One instance, in a file of its own, and who sent it."""

    instance: HeldInstance
    sender: Sender


Record = Callable[[Sequence[Arrival]], None]
Keep = Callable[[Sequence[HeldInstance]], Sequence[HeldInstance | Exception]]


@dataclass(slots=True, eq=False)
class _Waiting:
    arrival: Arrival
    done: threading.Event = field(default_factory=threading.Event)
    failure: Exception | None = None
    given_up: bool = False


class GroupCommit:
    """Calls ``keep`` and then ``record`` from one thread of its own, between ``start`` and ``close``.

    ``keep`` makes files durable under their final names; it gives each instance as it is kept, or why it is not.
    """

    def __init__(self, keep: Keep, record: Record, seconds: float) -> None:
        self._keep = keep
        self._record = record
        self._seconds = seconds
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self.late = False
        """True while what waited last waited in vain."""
        self._thread = threading.Thread(target=self._run, name="inbox-commits", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Record what waits and end; a database that does not answer is left after so many seconds."""
        self._waiting.put(None)
        self._thread.join(seconds)

    def commit(self, arrival: Arrival) -> None:
        """Return once the instance is kept and recorded; raises why it is not, RetryLater where it takes too long."""
        waiting = _Waiting(arrival)
        self._waiting.put(waiting)
        if not waiting.done.wait(min(self._seconds, _SECONDS_WHILE_LATE) if self.late else self._seconds):
            waiting.given_up = self.late = True
            raise RetryLater(
                "database-away", "the database does not answer in time; the sender keeps the instance"
            )
        if waiting.failure is not None:
            raise waiting.failure

    def _run(self) -> None:
        ends = False
        while not ends:
            group = [self._waiting.get()]
            while len(group) < _MOST_AT_ONCE and not self._waiting.empty():
                group.append(self._waiting.get())
            ends = None in group
            wanted = [one for one in group if one is not None and not one.given_up]
            if wanted and (kept := self._kept(wanted)):
                self._settle(kept)

    def _kept(self, group: list[_Waiting]) -> list[_Waiting]:
        """Those of the group whose file is durable now; who waits for another one is told why it is not."""
        try:
            outcomes = self._keep([one.arrival.instance for one in group])
        except Exception as error:  # noqa: BLE001 - whatever it was, no sender may be told Success
            outcomes = [error] * len(group)
        kept = []
        for one, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Exception):
                one.failure = outcome
                one.done.set()
            else:
                one.arrival = Arrival(outcome, one.arrival.sender)
                kept.append(one)
        return kept

    def _settle(self, group: list[_Waiting]) -> None:
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
            one.done.set()


def said(error: Exception) -> str:
    """What may be logged of a failure: our own errors hold no patient data, others might."""
    return str(error) if isinstance(error, FirstreadError) else type(error).__name__
