"""Fixtures every kind of test may use: a fresh, migrated database on a real Postgres server."""

import gc
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql

from pipeline.store import embedded
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.migrations import upgrade
from tests.chromium import browser
from tests.fhir_peers import npm_folder, pypi_folder
from tests.model_server import model_server, served_image_model, served_text_model
from tests.sites import prefect_url

__all__ = [
    "browser",
    "model_server",
    "npm_folder",
    "prefect_url",
    "pypi_folder",
    "served_image_model",
    "served_text_model",
]

SHARED = "firstread_shared"
settings.register_profile("long", max_examples=50_000, deadline=None)
"""What `make fuzz` runs tests/unit/test_fuzz_parsers.py by."""


def pytest_collection_finish() -> None:
    """What the test modules imported stays: no collection looks at its million objects again.

    Each model that is closed collects what only circles of references keep, and there are hundreds in a session.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """One embedded server for the whole session; it does not wait for the disk, nothing of it is kept.

    TEST_POSTGRES_BIN names a folder with the programs of another Postgres, which is then this server.
    """
    if other := os.environ.get("TEST_POSTGRES_BIN"):
        embedded._binaries = lambda: Path(other)
    folder = Path(tempfile.mkdtemp(prefix="firstread-test-"))
    try:
        with EmbeddedPostgres.ensure(folder, {"fsync": "off"}) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _shared_database_url(postgres_server: EmbeddedPostgres) -> str:
    url = postgres_server.database_url_for(SHARED, "psycopg")
    upgrade(url)
    return url


@pytest.fixture
def database_url(postgres_server: EmbeddedPostgres, _shared_database_url: str) -> Iterator[str]:
    """A migrated, empty database as ``postgresql+psycopg://``; emptied after the test.

    Its schema is shared: a test that changes that takes ``own_database_url``.
    """
    yield _shared_database_url
    with psycopg.connect(postgres_server.admin_conninfo(SHARED), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        tables = connection.execute(
            "SELECT string_agg(format('firstread.%I', tablename), ', ') FROM pg_tables "
            "WHERE schemaname = 'firstread' AND tablename <> 'alembic_version'"
        ).fetchone()
        connection.execute("SET session_replication_role TO replica")  # the triggers refuse to be emptied
        connection.execute(f"TRUNCATE {tables[0] if tables else ''} RESTART IDENTITY")


@pytest.fixture
def work_url(postgres_server: EmbeddedPostgres, database_url: str) -> str:
    """The same database as the program's own login: a member of the machine's role and of nothing else."""
    return f"{postgres_server.url.rpartition('/')[0]}/{database_url.rpartition('/')[2]}"


@pytest.fixture
def empty_database_url(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """A database of the test's own, without a schema; gone after the test."""
    name = f"test_{secrets.token_hex(6)}"
    yield postgres_server.database_url_for(name, "psycopg")
    with psycopg.connect(postgres_server.admin_conninfo(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def own_database_url(empty_database_url: str) -> str:
    """A migrated database of the test's own, whose schema it may change."""
    upgrade(empty_database_url)
    return empty_database_url
