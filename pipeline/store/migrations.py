"""Bringing the schema up (``firstread db upgrade``) and knowing which one this code was written for.

Alembic and SQLAlchemy are needed only where there is something to do; everything else in the store speaks psycopg.
"""

import importlib.util
import re
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from pipeline.errors import StopRun
from pipeline.store.connections import libpq_url
from pipeline.store.refusals import NO_ROLES, translated
from pipeline.store.session import pin

_OWNED = """
SELECT NOT EXISTS (SELECT FROM pg_class
                   WHERE relnamespace = to_regnamespace('firstread') AND relkind IN ('r', 'v', 'm', 'S')
                     AND relname <> 'alembic_version' AND pg_get_userbyid(relowner) <> 'firstread_owner')
   AND NOT EXISTS (SELECT FROM pg_proc
                   WHERE pronamespace = to_regnamespace('firstread')
                     AND pg_get_userbyid(proowner) <> 'firstread_owner')
"""
"""A login that restores a dump and may not give things away owns them itself: no role binds it then."""
_ROLES_ARE_WHOLE = """
SELECT count(*) = 5,
       coalesce(bool_and(has_table_privilege(rolname, CASE rolname WHEN 'firstread_viewer' THEN 'firstread.report_row'
                                                    ELSE 'firstread.reports' END, 'SELECT')), false),
       coalesce(bool_and(rolname <> 'firstread_machine'
                         OR has_table_privilege(rolname, 'firstread.ledger', 'UPDATE')), false)
FROM pg_roles
WHERE rolname IN ('firstread_owner', 'firstread_machine', 'firstread_signer', 'firstread_reader', 'firstread_viewer')
"""


def upgrade(url: str) -> str:
    """Bring the database to this code's schema and give its revision; does nothing where it is there already.

    Safe when two start at once. Raises StopRun where the database's schema is newer than this code, or where
    the login lacks the rights, RetryLater when the database is away.
    """
    if not _is_at_head(url):
        from pipeline.store.alembic_upgrade import (
            run_migrations,  # Alembic and SQLAlchemy take a third of a second
        )

        session = _session(url)
        try:
            run_migrations(session, migrations_folder())
        finally:
            session.close()
        _refuse_without_roles(url)
    return head()


@cache
def head() -> str:
    """The revision that this code needs: the one of the package ``sql.versions`` that no other one follows."""
    files = (migrations_folder() / "versions").glob("[0-9]*_*.py")
    texts = {path.name.partition("_")[0]: path.read_text(encoding="utf-8") for path in files}
    followed = re.findall(r'^down_revision = "(\w+)"', "\n".join(texts.values()), re.MULTILINE)
    (last,) = texts.keys() - set(followed)
    return last


def migrations_folder() -> Path:
    """Where the package ``sql`` lies. Raises StopRun where it is not installed."""
    package = importlib.util.find_spec("sql")
    if package is None or package.origin is None:
        raise StopRun("schema", "the package sql with the migrations is not installed beside pipeline")
    return Path(package.origin).parent


def _is_at_head(url: str) -> bool:
    """Whether there is nothing to do; any login that works with the schema may ask."""
    session = _session(url)
    try:
        session.execute("SET ROLE firstread_machine")
        found = session.execute("SELECT version_num FROM firstread.alembic_version").fetchone()
        owned = session.execute(_OWNED).fetchone()
    except psycopg.Error:
        return False  # no role or no table yet, or no right: the upgrade itself says which
    finally:
        session.close()
    return found == (head(),) and owned == (True,)


def _refuse_without_roles(url: str) -> None:
    """Raises StopRun("database-roles") where the schema's roles are not on this server, lack rights or do not own it.

    The revision says nothing of them: a dump of the database brings the tables, and roles belong to the server.
    """
    session = _session(url)
    try:
        found = [session.execute(query).fetchone() for query in (_ROLES_ARE_WHOLE, _OWNED)]
    except psycopg.Error as error:
        raise translated(error) from None
    finally:
        session.close()
    if not all(row is not None and all(row) for row in found):
        raise StopRun("database-roles", NO_ROLES)


def _session(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    """A pinned session in autocommit, as the login itself. Raises as ``translated`` and ``pin``."""
    with ExitStack() as stack:
        try:
            session = psycopg.connect(libpq_url(url), connect_timeout=10, autocommit=True)
            stack.callback(session.close)
            pin(session)
        except psycopg.Error as error:
            raise translated(error) from None
        stack.pop_all()
    return session
