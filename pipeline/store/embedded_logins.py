"""The logins of the embedded server, least rights first, and how a server of release 0.1.0 gets them.

- ``firstread_serve``: what ``serve`` logs in as; a member of ``firstread_viewer`` and of nothing else
- ``firstread``: what ``run`` and ``listen`` log in as; a member of ``firstread_machine`` and of nothing else
- ``firstread_migrator``: owns the schema and makes roles; used by migrations alone
- ``postgres``: the superuser; makes logins and databases

Each has a password of its own in a file of its own, so that a copied URL of the program opens no other door. Release
0.1.0 had one password, and a login that made itself whatever it liked.
"""

import logging
import secrets
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

log = logging.getLogger(__name__)

ADMIN = "postgres"
APPLICATION = "firstread"
SERVE = "firstread_serve"
MIGRATOR = "firstread_migrator"
DATABASE = "firstread"
_FILES = {
    APPLICATION: "password",
    SERVE: "serve-password",
    MIGRATOR: "migrator-password",
    ADMIN: "superuser-password",
}

Connection = psycopg.Connection[tuple[Any, ...]]


class Passwords:
    """The passwords of one server, each in a file of mode 0600 that is made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, login: str) -> str:
        """The password of ``login``."""
        path = self._folder / _FILES[login]
        if not path.exists():
            aside = path.with_name(f"{path.name}.new")
            aside.unlink(missing_ok=True)
            aside.touch(mode=0o600)
            aside.write_text(secrets.token_hex(24) + "\n", encoding="ascii")
            aside.rename(path)
        return path.read_text(encoding="ascii").strip()


def administrator(passwords: Passwords, conninfo: str) -> Connection:
    """A session of the superuser, in autocommit; a context manager.

    Where it still has the application's password, as release 0.1.0 made it, it is given its own.
    """
    try:
        return psycopg.connect(conninfo, autocommit=True)
    except psycopg.OperationalError as error:
        if "password authentication failed" not in str(error):
            raise
    former = psycopg.conninfo.make_conninfo(conninfo, password=passwords.of(APPLICATION))
    connection = psycopg.connect(former, autocommit=True)
    connection.execute(
        sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(ADMIN), sql.Literal(passwords.of(ADMIN)))
    )
    return connection


def make_logins(connection: Connection, passwords: Passwords) -> None:
    """See to it that the logins are there, with the attributes that they may have and no others."""
    for login, attributes in (
        (MIGRATOR, "CREATEROLE"),
        (APPLICATION, "NOCREATEROLE"),
        (SERVE, "NOCREATEROLE"),
    ):
        known = connection.execute(
            "SELECT rolcreaterole, rolcreatedb, rolsuper FROM pg_roles WHERE rolname = %s", [login]
        ).fetchone()
        wanted = (attributes == "CREATEROLE", False, False)
        if known is None:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN {} PASSWORD {}").format(
                    sql.Identifier(login), sql.SQL(attributes), sql.Literal(passwords.of(login))
                )
            )
        elif known != wanted:
            _hand_over(connection, passwords)  # first: its attributes say that it is done
            connection.execute(
                sql.SQL("ALTER ROLE {} NOSUPERUSER NOCREATEDB {}").format(
                    sql.Identifier(login), sql.SQL(attributes)
                )
            )


def create_database(connection: Connection, name: str) -> None:
    """The database ``name``, owned by the migrating login, unless it is there."""
    known = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone()
    if known is not None:
        return
    try:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(MIGRATOR))
        )
    except (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateDatabase):
        log.debug("another command has just created the same database")


def limit_logins(connection: Connection) -> None:
    """Make each of the program's logins a member of its role, and of no other."""
    for login, wanted in ((APPLICATION, "firstread_machine"), (SERVE, "firstread_viewer")):
        held = _memberships(connection, login)
        if held == {(wanted, ADMIN)}:
            continue
        for role, grantor in sorted(held):
            connection.execute(
                sql.SQL("REVOKE {} FROM {} GRANTED BY {} CASCADE").format(
                    *map(sql.Identifier, (role, login, grantor))
                )
            )
        connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(wanted), sql.Identifier(login)))


def _hand_over(connection: Connection, passwords: Passwords) -> None:
    """What release 0.1.0 made as the program's login belongs to the migrating one."""
    database = psycopg.conninfo.make_conninfo(
        connection.info.dsn, password=passwords.of(ADMIN), dbname=DATABASE
    )
    with psycopg.connect(database, autocommit=True) as inside:
        inside.execute(
            sql.SQL("REASSIGN OWNED BY {} TO {}").format(
                sql.Identifier(APPLICATION), sql.Identifier(MIGRATOR)
            )
        )
        for role, _ in sorted(_memberships(inside, APPLICATION)):
            inside.execute(
                sql.SQL("GRANT {} TO {} WITH ADMIN OPTION").format(
                    sql.Identifier(role), sql.Identifier(MIGRATOR)
                )
            )


def _memberships(connection: Connection, login: str) -> set[tuple[str, str]]:
    rows = connection.execute(
        "SELECT roleid::regrole::text, grantor::regrole::text FROM pg_auth_members WHERE member = %s::regrole",
        [login],
    )
    return {(role.strip('"'), grantor.strip('"')) for role, grantor in rows}
