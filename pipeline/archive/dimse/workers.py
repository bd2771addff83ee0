"""The threads of our Storage SCP that talk with callers."""

import logging
import queue
import threading
import time
from collections.abc import Callable

from pipeline.archive.dimse.caller import Caller

log = logging.getLogger(__name__)

_AT_START = 4


class Workers:
    """Threads that converse, as many as there is work for; where no more can be started, those that there are do it."""

    def __init__(self, work: Callable[[Caller], None], most: int) -> None:
        self._work = work
        self._most = most
        self._jobs: queue.SimpleQueue[Caller | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._free = 0
        for _ in range(min(_AT_START, most)):
            self._start()

    @property
    def lacking(self) -> bool:
        """True while a caller waits for a thread."""
        return self._jobs.qsize() > self._free

    def give(self, caller: Caller) -> None:
        """Have a caller talked to."""
        self._jobs.put(caller)
        if self.lacking and len(self._threads) < self._most:
            try:
                self._start()
            except RuntimeError as error:  # no thread can be started
                log.warning("the Storage SCP goes on with %d threads: %s", len(self._threads), error)

    def close(self, seconds: float) -> None:
        """End the threads; one that waits for the database is left after so many seconds, it ends with the process."""
        for _ in self._threads:
            self._jobs.put(None)
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="storage-scp-a", daemon=True)
        with self._lock:
            self._free += 1
        try:
            thread.start()
        except BaseException:
            with self._lock:
                self._free -= 1
            raise
        self._threads.append(thread)

    def _run(self) -> None:
        while (caller := self._jobs.get()) is not None:
            with self._lock:
                self._free -= 1
            try:
                self._work(caller)
            except Exception as error:  # noqa: BLE001 - one caller never ends a thread that others need
                log.error("an association with the Storage SCP ended by %s", type(error).__name__)
            finally:
                with self._lock:
                    self._free += 1
