"""When a server is left alone: what it asked for holds for every request of this process, and a dead one is tried once.

A request that a busy server refuses costs it time and costs the study one of its attempts. So a Retry-After is kept by
all requests and not by the one that was given it, and after ``FAULTS`` in a row the circuit opens: nothing is sent for
a while, then one request alone finds out whether the server is back.
"""

import time
from collections.abc import Callable

from pipeline.errors import RetryLater

FAULTS = 6
"""Faults in a row, of any requests, that open the circuit."""
FIRST_REST, LONGEST_REST = 5.0, 60.0
"""Seconds that an open circuit stays open, twice as long after each failed trial."""


class Shedding:
    """The state of one server, for one event loop. ``now`` is a monotonic clock in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._until = 0.0
        self._faults, self._rest = 0, FIRST_REST
        self._trying = False

    def enter(self) -> None:
        """Before a request is sent. Raises RetryLater, with the seconds left, where none is."""
        left = self._until - self._now()
        if left > 0:
            message = f"the endpoint is left alone for {left:.0f} s more: it asked for that, or failed {FAULTS} times"
            raise RetryLater("endpoint-busy", message, after_seconds=left)
        if self._faults >= FAULTS:
            if self._trying:
                message = "the endpoint is being tried again by another request"
                raise RetryLater("endpoint-busy", message, after_seconds=1.0)
            self._trying = True

    def answered(self) -> None:
        """The server answered, whatever it said: it is there."""
        self._faults, self._rest, self._trying = 0, FIRST_REST, False

    def failed(self, error: RetryLater) -> None:
        """The server was away, silent or busy."""
        self._faults, tried, self._trying = self._faults + 1, self._trying, False
        if error.after_seconds is not None:
            self._until = max(self._until, self._now() + error.after_seconds)
        elif self._faults >= FAULTS and (tried or self._faults == FAULTS):
            self._until = max(self._until, self._now() + self._rest)
            self._rest = min(2 * self._rest, LONGEST_REST)
