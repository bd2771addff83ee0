"""What a session with Postgres must be before anything is believed of it: pinned where it can be, else refused.

What a value means on a connection depends on settings of the server, the database, the role, the login's environment
and a pooler between (PostgreSQL documentation, 20.11 Client Connection Defaults). None of them is believed.
"""

from typing import Any

import psycopg

from pipeline.errors import RetryLater, StopRun

PINNED = {
    "client_encoding": "UTF8",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "standard_conforming_strings": "on",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "default_transaction_isolation": "read committed",
}
"""Settings of every session of ours, whatever the server, the database, the role or PGOPTIONS say."""
_FACTS = (
    "SELECT pg_backend_pid(), current_setting('server_encoding'),"
    " current_setting('transaction_read_only') = 'on' OR pg_is_in_recovery()"
)

Connection = psycopg.Connection[tuple[Any, ...]]


def pin(connection: Connection, *, role: str = "", search_path: str = "") -> None:
    """Check and pin a new session in autocommit; then act as ``role``, if one is named.

    Raises StopRun("database-pooler") behind a pooler that gives each transaction another session, before anything was
    left behind in one; StopRun("database-encoding") for a database that cannot hold every name; and
    RetryLater("database-read-only") on a server that takes no writes, which a failover heals.
    """
    backend, encoding, read_only = connection.execute(_FACTS).fetchone() or (0, "", False)
    if backend != connection.info.backend_pid and _is_shared(connection):
        raise StopRun(
            "database-pooler",
            "a pooler between gives each transaction another session (pool_mode = transaction): name the server itself "
            "in [database] url, or a pool in session mode",
        )
    if encoding != "UTF8":
        raise StopRun(
            "database-encoding",
            f"the database is encoded in {encoding} and cannot hold every name: make one WITH ENCODING 'UTF8' "
            "TEMPLATE template0 and name it in [database] url",
        )
    if read_only:
        raise RetryLater(
            "database-read-only",
            "the database takes no writes (a replica, or default_transaction_read_only is on): name the primary in "
            "[database] url",
        )
    with connection.pipeline():
        if role:
            connection.execute(f"SET ROLE {role}")
        if search_path:
            connection.execute(f"SET search_path TO {search_path}")
        for name, value in PINNED.items():
            connection.execute(f"SET {name} TO '{value}'")


def _is_shared(connection: Connection) -> bool:
    """Whether the server's session behind ``connection`` is lent to others between two of its transactions.

    While another client of ours is inside a transaction, a pooler in transaction mode has given it the session that
    we just used, or gives us another one than before.
    """
    with psycopg.connect(connection.info.dsn, password=connection.info.password, autocommit=True) as other:
        for _ in range(3):
            before = _backend(connection)
            with other.transaction():
                if _backend(other) == before or _backend(connection) != before:
                    return True
    return False


def _backend(connection: Connection) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return int(row[0]) if row else 0
