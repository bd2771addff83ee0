"""Connections to Postgres: a small pool, the machine role, and patience while the database is away.

Every connection gives up its login's rights for those of ``firstread_machine`` before it is used.
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
from psycopg import errors
from psycopg.conninfo import make_conninfo
from psycopg.types.json import set_json_dumps, set_json_loads

from pipeline.errors import FailStudy, FirstreadError, RetryLater, StopRun

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0

Connection = psycopg.Connection[tuple[Any, ...]]


def libpq_url(url: str) -> str:
    """``url`` as libpq takes it: ``postgresql+psycopg://`` becomes ``postgresql://``."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)


def sqlalchemy_url(url: str) -> str:
    """``url`` as SQLAlchemy takes it, for psycopg."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql+psycopg://", url)


class Connections:
    """A pool of at most ``most`` connections, opened when needed, shared by threads; a context manager."""

    def __init__(
        self, url: str, *, name: str = "firstread", most: int = 8, patience_seconds: float = 60.0
    ) -> None:
        self._conninfo = make_conninfo(
            libpq_url(url), application_name=name, connect_timeout=10,
            keepalives=1, keepalives_idle=20, keepalives_interval=5, keepalives_count=4,
        )  # fmt: skip
        self._patience_seconds = patience_seconds
        self._idle: deque[Connection] = deque()
        self._places = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._closed = False

    def open(self) -> Connection:
        """A new connection outside the pool, in autocommit, as the machine."""
        connection = psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=2)
        try:
            set_json_dumps(orjson.dumps, connection)
            set_json_loads(orjson.loads, connection)
            with connection.pipeline():
                connection.execute("SET ROLE firstread_machine")
                connection.execute("SET search_path TO firstread, pg_temp")
                connection.execute("SET timezone TO 'UTC'")
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
        refuses us or its schema is not ours, FailStudy for what it refuses to store.
        """
        deadline = time.monotonic() + self._patience_seconds
        pause = FIRST_PAUSE
        while True:
            try:
                with self.borrow() as connection:
                    return work(connection)
            except psycopg.Error as error:
                known = translated(error)
                if not isinstance(known, RetryLater) or time.monotonic() + pause > deadline:
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


def translated(error: psycopg.Error) -> FirstreadError:
    """The error of ours that says what to do about ``error``; the server's words may hold values, they are dropped."""
    state = error.sqlstate or ""
    if state == "FR001":
        return FailStudy(
            "report-signed", "a person has taken over this report; the machine does not overwrite it"
        )
    if state in ("FR002", "FR003", "FR004", "FR005"):
        return FailStudy("store-refused", f"the database refused the write by its own rules ({state})")
    if state in ("53100", "53200"):
        return StopRun(
            "database-full", "the database server is out of disk or memory; make room and run again"
        )
    if state in ("42501", "28000", "28P01", "3D000") or _refused_at_login(error):
        return StopRun(
            "database-refused", "the database refuses this login; check [database] url and run db upgrade"
        )
    if state[:2] == "42" or state == "3F000" or state == "22023":
        return StopRun(
            "schema", f"the database's schema is not the one expected (SQLSTATE {state}); run db upgrade"
        )
    if state in ("40001", "40P01", "55P03"):
        return RetryLater("database-busy", "two writers met in the database; try again")
    if isinstance(error, psycopg.OperationalError) and not isinstance(error, errors.QueryCanceled):
        return RetryLater("database-away", "the database is away or restarting; the work is kept, try again")
    return FailStudy("not-storable", f"the database cannot store this (SQLSTATE {state or 'unknown'})")


def _refused_at_login(error: psycopg.Error) -> bool:
    """libpq gives no SQLSTATE for a refusal while connecting; its words are all there is."""
    words = str(error)
    return error.sqlstate is None and (
        "password authentication failed" in words
        or "no pg_hba.conf entry" in words
        or ("FATAL:" in words and "does not exist" in words)
    )
