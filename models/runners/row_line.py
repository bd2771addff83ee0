"""Rows of every call in flight on one waiting line, and the workers that write them.

First come, first served. Between two steps a worker takes its share of the rows that wait and writes them together
with those it has, so that the rows of one call fill the places that rows of another have left. Where nothing waits, a
worker that has no rows left gets half of another's.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Condition

from models.runners.row_batch import RowBatch, TextRow

LEAST_SHARED = 2
"""Open rows of which half are handed over; fewer cost a second core more than they save."""
LEAST_JOINING = 4
"""Rows that join open ones at the same time, where so many wait: the fixed part of reading prompts costs as much as
half a row."""


class RowLine:
    """Writes rows for any number of calling threads. To be closed.

    A worker is a thread with one batch: it begins when rows come or are handed to it, and ends when nothing is left
    for it. A caller waits for its own rows alone and holds no lock then.
    """

    def __init__(self, open_batch: Callable[[], RowBatch], workers: int, most: int) -> None:
        """At most ``workers`` write at once, each at most ``most`` rows in a batch of ``open_batch``."""
        self._open_batch, self._workers, self._most = open_batch, workers, most
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="language")
        self._waiting: deque[TextRow] = deque()
        self._batches: list[RowBatch] = []
        """One for each worker at work."""
        self._resting: list[RowBatch] = []
        """Without rows, with the memory that they grew."""
        self._changed = Condition()
        self._closed = False

    def write(self, rows: Sequence[TextRow]) -> None:
        """Write ``rows`` and return when they are done.

        Raises what stopped the batch that one of them was in, and RuntimeError where this is closed.
        """
        try:
            self._put(rows)
            done, _ = wait([row.written for row in rows], return_when=FIRST_EXCEPTION)
            for written in done:
                written.result()
        finally:
            for row in rows:  # after an error: what still waits is not written, nobody would read it
                row.written.cancel()

    def close(self) -> None:
        """Take no more rows, and wait until those there are have been written. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._batches)
        self._pool.shutdown()

    def _put(self, rows: Sequence[TextRow]) -> None:
        """Rows on the line, dealt so that each worker gets prompts of every length, and a free worker for them."""
        order = sorted(rows, key=lambda row: len(row.prompt))
        with self._changed:
            if self._closed:
                raise RuntimeError("rows to write, but the language model is closed")
            for start in range(self._workers):
                self._waiting.extend(order[start :: self._workers])
            for _ in range(min(self._workers - len(self._batches), len(rows))):
                batch = self._empty_batch()
                self._pool.submit(self._work, batch)
                self._batches.append(batch)

    def _work(self, batch: RowBatch) -> None:
        """Write ``batch`` and what it takes from the line until neither has a row."""
        while self._refill(batch):
            try:
                for row in batch.step():
                    row.written.set_result(None)
                self._share(batch)
            except BaseException as error:  # noqa: BLE001 - told to every call that has a row here
                _fail(batch, error)

    def _refill(self, batch: RowBatch) -> bool:
        """Give ``batch`` its share of what waits; False where it has no row then, and its worker is free."""
        with self._changed:
            room = self._room(batch)
            if not batch.rows or room >= min(LEAST_JOINING, -(-len(self._waiting) // self._workers)):
                batch.join(self._next(room))
            if not batch.rows:
                self._rest(batch)
            return bool(batch.rows)

    def _room(self, batch: RowBatch) -> int:
        """How many rows ``batch`` may take on, for an equal share of all: two idle workers take 8 each of 16."""
        rows = len(self._waiting) + sum(len(one.rows) for one in self._batches)
        return min(-(-rows // self._workers), self._most) - len(batch.rows)

    def _next(self, count: int) -> list[TextRow]:
        """Up to ``count`` rows off the line, without those whose call has gone."""
        taken: list[TextRow] = []
        while self._waiting and len(taken) < count:
            row = self._waiting.popleft()
            if row.written.set_running_or_notify_cancel():
                taken.append(row)
        return taken

    def _share(self, batch: RowBatch) -> None:
        """Half of the rows for a worker that has none, where there is one and nothing waits."""
        with self._changed:
            free = len(self._batches) < self._workers
            if self._waiting or not free or len(batch.rows) < LEAST_SHARED:
                return
            half = self._empty_batch()
            self._batches.append(half)
        try:  # without the lock: half of a cache takes milliseconds to copy
            batch.give_half(half)
            self._pool.submit(self._work, half)
        except BaseException as error:
            _fail(half, error)
            with self._changed:
                self._rest(half)
            raise

    def _empty_batch(self) -> RowBatch:
        return self._resting.pop() if self._resting else self._open_batch()

    def _rest(self, batch: RowBatch) -> None:
        self._batches.remove(batch)
        self._resting.append(batch)
        self._changed.notify_all()


def _fail(batch: RowBatch, error: BaseException) -> None:
    for row in batch.rows:
        row.written.set_exception(error)
    batch.clear()
