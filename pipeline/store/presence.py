"""This process's sign of life: an advisory lock on its own number, held by a connection of its own.

Postgres drops the lock the moment the process is gone, however it ended, so that its claims are free at once; the
lease's expiry is the fall-back where a dead peer's connection lingers (a network cut).
"""

import logging
import threading
import time

import psycopg

from pipeline.store.connections import Connection, Connections
from pipeline.store.statements import statement

log = logging.getLogger(__name__)

LOCK_CLASS = 0x46525354
"""First key of the advisory locks ("FRST"); the second is the process number."""
OUR_OLD_LOCK_SECONDS = 2.0
WATCH_SECONDS = 4.0
"""Well below ``store.RESTART_SETTLE_SECONDS``."""


class Presence:
    """Holds the lock from the first ``hold`` until ``close``; takes it again soon after a lost connection."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._closing = threading.Event()
        self._watching: threading.Thread | None = None
        self._connection: Connection | None = None
        self._number = 0
        self._lock = threading.Lock()

    def hold(self) -> int:
        """The number whose lock is held now. Raises psycopg errors while the database is away."""
        with self._lock:
            if self._connection is not None:
                try:
                    self._connection.execute("SELECT")
                    return self._number
                except psycopg.OperationalError:
                    self._connection.close()
                    self._connection = None
            connection = self._connections.open()
            try:
                self._number = self._take(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            if self._watching is None:
                self._watching = threading.Thread(target=self._watch, name="presence", daemon=True)
                self._watching.start()
            return self._number

    def close(self) -> None:
        """Give the lock up."""
        self._closing.set()
        if self._watching is not None:
            self._watching.join()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _watch(self) -> None:
        """A restarted server has forgotten the lock: take it again before others may think that we are gone."""
        while not self._closing.wait(WATCH_SECONDS):
            try:
                self.hold()
            except psycopg.Error:
                log.debug("the database is away; the sign of life waits")

    def _take(self, connection: Connection) -> int:
        """Lock our number, or a new one where the server still takes our lost connection for alive."""
        deadline = time.monotonic() + OUR_OLD_LOCK_SECONDS
        number = self._number
        while True:
            if not number:
                number = int(_one(connection, "next_process_number", {}))
            if _one(connection, "hold_process_number", {"class": LOCK_CLASS, "number": number}):
                return number
            if number != self._number or time.monotonic() > deadline:
                number = 0
            else:
                time.sleep(0.05)


def _one(connection: Connection, name: str, values: dict[str, int]) -> int | bool:
    row = connection.execute(statement("ledger", name), values).fetchone()
    assert row is not None
    answer: int | bool = row[0]
    return answer
