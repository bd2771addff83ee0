"""Alembic over a session that is already open: ``migrations.upgrade`` imports this where there is something to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from pipeline.errors import RetryLater, StopRun

SCHEMA_RIGHTS = (
    "the database login may not create the schema or its roles: let an administrator run sql/roles.sql once, with "
    "psql -v login=THE_LOGIN -f sql/roles.sql THE_DATABASE, and run db upgrade again "
    "(docs/running.md#the-sites-own-postgres)"
)
UPGRADE_LOCK = 0x46524541  # "FREA": two upgrades at once take turns


def run_migrations(session: psycopg.Connection[tuple[Any, ...]], folder: Path) -> None:
    """Bring the schema up over ``session``, with the migrations of ``folder``. Raises as ``migrations.upgrade``."""
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with _connected(session) as connection:
        connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": UPGRADE_LOCK})
        try:
            if not connection.scalar(text("SELECT to_regnamespace('firstread') IS NOT NULL")):
                connection.execute(text("CREATE SCHEMA firstread"))
            connection.commit()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:number)"), {"number": UPGRADE_LOCK})
            connection.commit()


@contextmanager
def _connected(session: psycopg.Connection[tuple[Any, ...]]) -> Iterator[Connection]:
    session.autocommit = False
    engine = create_engine("postgresql+psycopg://", creator=lambda: session, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    except CommandError:
        raise StopRun(
            "schema-newer",
            "the database's schema is newer than this program; update the program, not the database",
        ) from None
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        if state == "42501":
            raise StopRun("schema-rights", SCHEMA_RIGHTS) from None
        if error.connection_invalidated or state is None:
            raise RetryLater("database-away", "the database cannot be reached; see [database] url") from None
        raise StopRun("schema", f"the schema could not be brought up (SQLSTATE {state})") from None
    finally:
        engine.dispose()
