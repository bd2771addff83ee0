"""How many bytes of whole volumes this process holds at once: a further one waits until there is room.

A study's volume lives until its draft is written, and a run brings studies ahead of the model. Whoever lets one go
counts nothing, so each gives its room back when it is forgotten.
"""

import gc
import threading
import time
import weakref

from pipeline.errors import RetryLater

MOST_BYTES = 1 << 30
"""One volume is let in whatever its size where there is no other."""
LONGEST_WAIT = 3600.0
_LOOK_AGAIN = 5.0


class Room:
    """Bytes that are held, and those who wait for some. Its methods may be called from several threads."""

    def __init__(self, most: int) -> None:
        """``most`` bytes at once."""
        self._most, self._held = most, 0
        self._changed = threading.Condition(threading.RLock())

    def take(self, size: int, longest: float = LONGEST_WAIT) -> None:
        """Wait until ``size`` bytes fit. Raises RetryLater("no-room") after ``longest`` seconds."""
        end = time.monotonic() + longest
        with self._changed:
            while self._held and self._held + size > self._most:
                left = end - time.monotonic()
                if left <= 0:
                    raise RetryLater("no-room", "other volumes were worked on all the while")
                if not self._changed.wait(min(left, _LOOK_AGAIN)):
                    gc.collect()  # one that only a circle of references keeps
            self._held += size

    def give(self, size: int) -> None:
        """``size`` bytes are free again."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()

    def give_with(self, holder: object, size: int) -> None:
        """Give ``size`` bytes back when ``holder`` is forgotten."""
        weakref.finalize(holder, self.give, size)


VOLUMES = Room(MOST_BYTES)
