"""Which studies this process works on at this moment, told to the ledger before the work begins.

Should the process die, whoever comes next knows over whom: nobody else is a suspect (decision 27).
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from pipeline.ledger import Claim


class Ledger(Protocol):
    """What is asked of the store."""

    def note_work(self, begun: Sequence[Claim], ended: Sequence[Claim] = ()) -> None:
        """Note which claims are worked on from now on and which no longer."""


class AtWork:
    """Shared by the threads of a run."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._ended: dict[int, Claim] = {}
        self._noting = threading.Lock()

    @contextmanager
    def on(self, claims: Sequence[Claim]) -> Iterator[None]:
        """The length of the work on these claims. That it ended is told with whatever begins next.

        Raises RetryLater when the ledger stays away: then nothing was begun.
        """
        with self._noting:  # so that no older word comes after a newer one
            for claim in claims:
                self._ended.pop(claim.ledger_id, None)
            self._ledger.note_work(claims, tuple(self._ended.values()))
            self._ended.clear()
        try:
            yield
        finally:
            with self._noting:
                self._ended.update({claim.ledger_id: claim for claim in claims})
