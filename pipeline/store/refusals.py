"""What an error of Postgres or libpq means for the caller. The server's words may hold values: they are dropped."""

import re

import psycopg
from psycopg import errors

from pipeline.errors import FailStudy, FirstreadError, RetryLater, StopRun

_URL = "check [database] url"
_RESOLVE = "the host name does not resolve (in a password @ : / and # have to be percent-encoded)"
NO_ROLES = (
    "the schema is here, and its roles (firstread_owner, firstread_machine, ...), what they own or their rights are "
    "not, as after a restore of the database alone or by a login that is no administrator: restore the roles, then the "
    "dump, as an administrator (docs/running.md#backup-and-restore)"
)
_CONNECTING: tuple[tuple[str, str, str], ...] = (
    (
        "root certificate file",
        "database-tls",
        "sslmode asks for a root certificate: name its file by sslrootcert",
    ),
    (
        "certificate verify failed",
        "database-tls",
        "the certificate is not trusted: name its authority by sslrootcert",
    ),
    ("does not match host name", "database-tls", "the server's certificate is for another host name"),
    ("server does not support SSL", "database-tls", "the server speaks no TLS, and sslmode asks for it"),
    ("SSL error", "database-tls", "no TLS session came about: check sslmode and the certificates"),
    ("password authentication failed", "database-refused", "the password or the login is wrong"),
    ("no password supplied", "database-refused", "the server wants a password, and the URL has none"),
    (
        "no pg_hba.conf entry",
        "database-refused",
        "pg_hba.conf of the server does not let this login in from here",
    ),
    ("is not permitted to log in", "database-refused", "the login may not log in"),
    ("could not translate host name", "database-host", _RESOLVE),
    ("failed to resolve host", "database-host", _RESOLVE),
)
"""Words of libpq while connecting, where it gives no SQLSTATE; the code, and what to do. None heals by waiting."""


def translated(error: psycopg.Error) -> FirstreadError:
    """The error of ours that says what to do about ``error``."""
    state = error.sqlstate or ""
    if state == "FR001":
        return FailStudy(
            "report-signed",
            "a person has taken over this report, and its study has changed since: look at both",
        )
    if state in ("FR002", "FR003", "FR004", "FR005"):
        return FailStudy("store-refused", f"the database refused the write by its own rules ({state})")
    if state in ("53100", "53200"):
        return StopRun(
            "database-full", "the database server is out of disk or memory; make room and run again"
        )
    if state == "25006":
        return RetryLater(
            "database-read-only", "the database takes no writes at the moment; the work is kept"
        )
    if state in ("42501", "28000", "28P01", "3D000"):
        return StopRun(
            "database-refused", "the database refuses this login; check [database] url and run db upgrade"
        )
    if state == "22023" and "does not exist" in str(
        error
    ):  # SET ROLE: roles belong to the server, not to the dump
        return StopRun("database-roles", NO_ROLES)
    if state[:2] == "42" or state in ("3F000", "22023"):
        return StopRun(
            "schema", f"the database's schema is not the one expected (SQLSTATE {state}); run db upgrade"
        )
    if isinstance(error, errors.QueryCanceled):
        return FailStudy("database-slow", "the database did not answer in time; ask for less at once")
    if state in ("40001", "40P01", "55P03"):
        return RetryLater("database-busy", "two writers met in the database; try again")
    if state == "53300":
        return RetryLater("database-busy", "the database server has no connection left; try again")
    if isinstance(error, psycopg.OperationalError):
        return _refused_at_login(error) if not state else _away()
    if isinstance(error, psycopg.NotSupportedError | psycopg.InterfaceError) and not state:
        return StopRun(
            "database-session", "the session with the database is not what it has to be; report this"
        )
    return FailStudy("not-storable", f"the database cannot store this (SQLSTATE {state or 'unknown'})")


def _refused_at_login(error: psycopg.Error) -> FirstreadError:
    words = str(error)
    for known, code, advice in _CONNECTING:
        if known in words:
            what = "refuses this login" if code == "database-refused" else "cannot be opened"
            return StopRun(code, f"the database {what}: {advice}; {_URL}")
    if (
        "session is read-only" in words
    ):  # target_session_attrs=read-write, and no host of the list takes writes
        return RetryLater(
            "database-read-only", "no host of [database] url takes writes at the moment: name the primary"
        )
    if "FATAL:" in words and "does not exist" in words:
        what = "role" if re.search(r'role "', words) else "database"
        return StopRun("database-refused", f"the server has no such {what}; {_URL}, or make it")
    return _away(_address(words))


def _address(words: str) -> str:
    """Host and port of a server that does not answer, as libpq names them."""
    found = re.search(r'connection to server at "([^"@\s]+)"(?: \([^)]*\))?, port (\d+) failed', words)
    return f" at {found[1]}:{found[2]}" if found else ""


def _away(where: str = "") -> RetryLater:
    message = f"the database{where} is away or restarting; the work is kept, try again"
    return RetryLater("database-away", message)
