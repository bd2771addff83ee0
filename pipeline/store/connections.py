"""Connections to Postgres: a small pool, the machine role, and patience while the database is away.

Every connection gives up its login's rights for those of one role, mostly ``firstread_machine``, before it is used.
"""

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import orjson
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.types.json import set_json_dumps, set_json_loads

from pipeline.errors import LostClaim, RetryLater, StopRun
from pipeline.store.refusals import translated
from pipeline.store.session import pin

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
MACHINE = "firstread_machine"
VIEWER = "firstread_viewer"
"""What `serve` reads with: nothing is written but the access itself."""
READ_SECONDS = 60.0
"""How long one statement of a reader may take: who may search holds no connection from others for longer."""
READ_ONLY = "database-read-only"

Connection = psycopg.Connection[tuple[Any, ...]]


def libpq_url(url: str) -> str:
    """``url`` as libpq takes it: ``postgresql+psycopg://`` becomes ``postgresql://``."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)


class Connections:
    """A pool of at most ``most`` connections, opened when needed, shared by threads; a context manager."""

    def __init__(
        self,
        url: str,
        *,
        name: str = "firstread",
        role: str = MACHINE,
        most: int = 8,
        patience_seconds: float = 60.0,
        connect_seconds: int = 10,
    ) -> None:
        self._conninfo = make_conninfo(
            libpq_url(url), application_name=name, connect_timeout=connect_seconds,
            keepalives=1, keepalives_idle=20, keepalives_interval=5, keepalives_count=4,
        )  # fmt: skip
        self.role = role
        self._patience_seconds = patience_seconds
        self._idle: deque[Connection] = deque()
        self._places = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._closed = False
        self._served = False  # whether this server ever did what was asked

    def open(self) -> Connection:
        """A new connection outside the pool, in autocommit, in the role of the pool."""
        connection = psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=2)
        try:
            set_json_dumps(orjson.dumps, connection)
            set_json_loads(orjson.loads, connection)
            pin(connection, role=self.role, search_path="firstread, pg_temp")
            if self.role == VIEWER:
                connection.execute(f"SET statement_timeout TO {int(READ_SECONDS * 1000)}")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def borrow(self) -> Iterator[Connection]:
        """A connection in autocommit for the length of the block; a broken one is not given to anybody again."""
        with self._places:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            connection = connection or self.open()
            try:
                yield connection
            except psycopg.OperationalError:
                if connection.closed:
                    self._drop_idle()
                raise
            finally:
                self._give_back(connection)

    def run(self, work: Callable[[Connection], Answer]) -> Answer:
        """Do ``work`` on a connection, again after a lost connection or a deadlock; so it must bear being repeated.

        Raises RetryLater("database-away") when the database stays away longer than the pool's patience, StopRun when it
        refuses us, cannot serve us or has another schema, FailStudy for what it refuses to store.
        """
        deadline = time.monotonic() + self._patience_seconds
        pause = FIRST_PAUSE
        while True:
            try:
                with self.borrow() as connection:
                    answer = work(connection)
                self._served = True
                return answer
            except (psycopg.Error, RetryLater) as error:
                known = translated(error) if isinstance(error, psycopg.Error) else error
                if (
                    known.code == READ_ONLY
                ):  # after a failover the pool still holds sessions of the old primary
                    self._drop_idle()
                    if not self._served or time.monotonic() + pause > deadline:
                        raise StopRun(known.code, known.message) from None
                hopeless = not isinstance(known, RetryLater) or isinstance(known, LostClaim)
                if hopeless or time.monotonic() + pause > deadline:
                    raise known from None
                log.warning("the database is away or busy (%s); trying again", known.code)
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def close(self) -> None:
        """Close what is idle; what is borrowed is closed on its return."""
        self._closed = True
        self._drop_idle()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _give_back(self, connection: Connection) -> None:
        usable = (
            not connection.closed and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        )
        if usable and not self._closed:
            with self._lock:
                self._idle.append(connection)
        else:
            connection.close()

    def _drop_idle(self) -> None:
        """After one connection broke the others are suspect: a restarted server has lost them all."""
        with self._lock:
            idle, self._idle = self._idle, deque()
        for connection in idle:
            connection.close()
