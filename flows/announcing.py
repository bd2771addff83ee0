"""Telling Prefect that pushed studies wait: an event starts a run where no ``firstread work`` takes them by itself.

One event stands for all that waits, since the run that it starts drafts whatever was pushed. So a batch of arrivals is
one run, a study that a warm worker has claimed at once is none, and an event that got lost is sent again.
"""

import logging
import threading
import time
from collections.abc import Callable

from flows.environment.workplace import Workplace
from pipeline.errors import FirstreadError

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
UNCLAIMED_SECONDS = 2.0
"""How long a study that was handed over may stay unclaimed before it is announced: a warm worker takes one second."""
AGAIN_SECONDS = 60.0
LONGEST_SECONDS = 3600.0
"""A study that nobody takes is announced again, after twice as long each time: each event is a run that will come."""


class Announcing:
    """Looks for pushed studies that nobody works on, from ``start`` to ``stop``, and calls ``announce`` with one row.

    ``recipe`` says for which recipe, once it is known, else "".
    """

    def __init__(
        self, workplace: Workplace, recipe: Callable[[], str], announce: Callable[[int], None]
    ) -> None:
        self._workplace = workplace
        self._recipe = recipe
        self._announce = announce
        self._stop = threading.Event()
        self._told: int | None = None
        self._again_at = 0.0
        self._pause = AGAIN_SECONDS

    def start(self) -> None:
        """Begin to look, in a thread that ends with the process."""
        threading.Thread(target=self._look_on, name="announces", daemon=True).start()

    def stop(self) -> None:
        """Announce nothing more."""
        self._stop.set()

    def look(self, now: float) -> None:
        """Announce what waits, where no earlier announcement still stands; ``now`` is monotonic, in seconds."""
        recipe = self._recipe()
        if not recipe:
            return
        archive = self._workplace.settings.listen.archive
        waiting = self._workplace.store.sweeps.received_ready(archive, recipe, UNCLAIMED_SECONDS)
        if self._told not in waiting:
            self._told, self._again_at, self._pause = None, now, AGAIN_SECONDS
        if waiting and now >= self._again_at:
            if self._told is not None:
                log.warning("%d received studies wait and nobody drafts them; announced again", len(waiting))
                self._pause = min(2 * self._pause, LONGEST_SECONDS)
            self._told, self._again_at = waiting[0], now + self._pause
            self._announce(self._told)

    def _look_on(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look(time.monotonic())
            except FirstreadError as error:
                log.warning("received studies are not announced: %s", error)
            except Exception as error:  # noqa: BLE001 - its text may hold a value; the next look may do better
                log.error("received studies are not announced: %s", type(error).__name__)
