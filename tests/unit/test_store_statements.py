"""Named queries, connection strings, and what each database error asks of the caller."""

import re
from pathlib import Path

import psycopg
import pytest

from pipeline.errors import FailStudy, FirstreadError, RetryLater, StopRun
from pipeline.store.connections import libpq_url
from pipeline.store.refusals import translated
from pipeline.store.statements import statement

STORE = Path(__file__).parents[2] / "pipeline" / "store"


def test_every_named_query_exists_and_is_used() -> None:
    named = {
        (file.stem, name)
        for file in (STORE / "statements").glob("*.sql")
        for name in re.findall(r"^-- name: (\w+)$", file.read_text(), re.MULTILINE)
    }
    code = "\n".join(file.read_text() for file in STORE.glob("*.py"))
    for group, name in named:
        assert statement(group, name)
        assert f'"{name}"' in code, f"{group}.{name} is never asked"
    used = set(re.findall(r'statement\(\s*"(\w+)", "(\w+)"', code))
    assert used <= named


def test_an_unknown_query_is_an_error() -> None:
    with pytest.raises(KeyError):
        statement("ledger", "no such query")


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+asyncpg"])
def test_urls(scheme: str) -> None:
    rest = "://u:p%40ss@host:5433/name?sslmode=require"
    assert libpq_url(scheme + rest) == "postgresql" + rest


class Refused(psycopg.OperationalError):
    """As libpq raises it while connecting: words, no SQLSTATE."""


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (psycopg.errors.AdminShutdown(), RetryLater, "database-away"),
        (psycopg.errors.CannotConnectNow(), RetryLater, "database-away"),
        (psycopg.OperationalError("server closed the connection unexpectedly"), RetryLater, "database-away"),
        (psycopg.errors.TooManyConnections(), RetryLater, "database-busy"),
        (psycopg.errors.DeadlockDetected(), RetryLater, "database-busy"),
        (psycopg.errors.SerializationFailure(), RetryLater, "database-busy"),
        (psycopg.errors.DiskFull(), StopRun, "database-full"),
        (psycopg.errors.InsufficientPrivilege(), StopRun, "database-refused"),
        (Refused('FATAL:  password authentication failed for user "x"'), StopRun, "database-refused"),
        (Refused('FATAL:  database "x" does not exist'), StopRun, "database-refused"),
        (psycopg.errors.UndefinedTable(), StopRun, "schema"),
        (psycopg.errors.QueryCanceled(), FailStudy, "database-slow"),
        (psycopg.errors.CardinalityViolation(), FailStudy, "not-storable"),
        (psycopg.errors.CheckViolation("Doe^Jane"), FailStudy, "not-storable"),
        (
            psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"),
            FailStudy,
            "not-storable",
        ),
    ],
)
def test_database_errors_are_named_for_what_to_do(
    error: psycopg.Error, kind: type[FirstreadError], code: str
) -> None:
    known = translated(error)
    assert type(known) is kind
    assert known.code == code
    assert "Doe" not in str(known)
