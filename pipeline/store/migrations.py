"""Bringing the schema up (``firstread db upgrade``) and checking that it is the one this code was written for.

Alembic over SQLAlchemy; everything else in the store speaks psycopg.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from pipeline.errors import RetryLater, StopRun
from pipeline.store.connections import libpq_url
from pipeline.store.refusals import translated
from pipeline.store.session import pin

SCHEMA_RIGHTS = (
    "the database login may not create the schema or its roles: let an administrator run sql/roles.sql once, with "
    "psql -v login=THE_LOGIN -f sql/roles.sql THE_DATABASE, and run db upgrade again "
    "(docs/running.md#the-sites-own-postgres)"
)
UPGRADE_LOCK = 0x46524541  # "FREA": two upgrades at once take turns


def upgrade(url: str) -> str:
    """Bring the database to this code's schema and give its revision; does nothing where it is there already.

    Safe when two start at once. Raises StopRun where the database's schema is newer than this code, or where
    the login lacks the rights, RetryLater when the database is away.
    """
    config = _config()
    with _connected(url) as connection:
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
    return head()


def head() -> str:
    """The revision that this code needs."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _config() -> Config:
    package = importlib.util.find_spec("sql")
    if package is None or package.origin is None:
        raise StopRun("schema", "the package sql with the migrations is not installed beside pipeline")
    config = Config()
    config.set_main_option("script_location", str(Path(package.origin).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    session = _session(url)
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
        session.close()


def _session(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    """A pinned session as the login itself. Raises as ``translated`` and ``pin``."""
    with ExitStack() as stack:
        try:
            session = psycopg.connect(libpq_url(url), connect_timeout=10, autocommit=True)
            stack.callback(session.close)
            pin(session)
        except psycopg.Error as error:
            raise translated(error) from None
        session.autocommit = False
        stack.pop_all()
    return session
