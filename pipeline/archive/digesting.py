"""Digests of instances on their way to disk: by the thread that writes, or one piece behind it in another."""

from concurrent.futures import Executor, Future
from typing import Protocol

from pipeline.archive.content_digest import ContentDigest


class RunningDigest(Protocol):
    """What a part file needs of a digest."""

    def update(self, piece: bytes | memoryview) -> None:
        """The next bytes of the file."""

    def hexdigest(self) -> str:
        """The digest, when every byte was given; "" where the whole file has to be asked."""
        ...

    def close(self) -> None:
        """Give up; afterwards no piece is looked at any more."""


class InlineDigest(ContentDigest):
    """A ``ContentDigest`` taken by the thread that writes."""

    def close(self) -> None:
        """See ``RunningDigest.close``."""


class OverlappedDigest:
    """Takes the digest in a thread of ``pool`` while the next piece is read and written.

    A piece must stay as it is until the next call of any method: ``MultipartReader`` changes buffers for that.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._digest = ContentDigest()
        self._pending: Future[None] | None = None

    def update(self, piece: bytes | memoryview) -> None:
        """See ``RunningDigest.update``. Returns when the piece before this one was taken."""
        self.close()
        self._pending = self._pool.submit(self._digest.update, piece)

    def hexdigest(self) -> str:
        """See ``RunningDigest.hexdigest``."""
        self.close()
        return self._digest.hexdigest()

    def close(self) -> None:
        """See ``RunningDigest.close``."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None
