"""A digest taken by another thread while a file is still being written, so that it costs the download no time."""

import threading
from concurrent.futures import Executor
from pathlib import Path
from typing import Protocol

from pipeline.archive.part10 import DatasetDigest

_PIECE = 1 << 18
_STEP = 1 << 20


class RunningDigest(Protocol):
    """What a part file needs of a digest."""

    def update(self, piece: bytes | memoryview) -> None:
        """The next bytes, after they were written to the file."""

    def hexdigest(self) -> str:
        """The digest, when every byte was written."""
        ...

    def close(self) -> None:
        """Give up; the file is about to be removed."""


class InlineDigest(DatasetDigest):
    """A ``DatasetDigest`` taken by the thread that writes."""

    def close(self) -> None:
        """See ``RunningDigest.close``."""


class FollowingDigest:
    """Follows the file at ``path`` in a thread of ``pool``, some megabytes behind the thread that writes it."""

    def __init__(self, path: Path, pool: Executor) -> None:
        self._changed = threading.Condition()
        self._written = 0
        self._told = 0
        self._ended = False
        self._result = pool.submit(self._follow, path)

    def update(self, piece: bytes | memoryview) -> None:
        """See ``RunningDigest.update``."""
        self._written += len(piece)
        if self._written - self._told >= _STEP:
            self._tell(ended=False)

    def hexdigest(self) -> str:
        """See ``RunningDigest.hexdigest``. Raises OSError where the file could not be read."""
        self._tell(ended=True)
        return self._result.result()

    def close(self) -> None:
        """See ``RunningDigest.close``."""
        self._tell(ended=True)

    def _tell(self, *, ended: bool) -> None:
        with self._changed:
            self._told = self._written
            self._ended = self._ended or ended
            self._changed.notify()

    def _follow(self, path: Path) -> str:
        digest = DatasetDigest()
        piece = memoryview(bytearray(_PIECE))
        at = 0
        with path.open("rb", buffering=0) as file:
            while (until := self._wait_beyond(at)) > at:
                while at < until and (count := file.readinto(piece[: until - at])):
                    digest.update(piece[:count])
                    at += count
        return digest.hexdigest()

    def _wait_beyond(self, at: int) -> int:
        """How far the file may be read; ``at`` itself when it has ended there."""
        with self._changed:
            while self._told <= at and not self._ended:
                self._changed.wait()
            return self._told
