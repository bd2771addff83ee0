"""Membership of the test's login in a role of the schema, on every Postgres."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pipeline.store.connections import libpq_url


def let_act_as(connection: "psycopg.Connection[Any]", role: str) -> None:
    """Let the login of ``connection`` SET ROLE to ``role``, without its rights before that (from Postgres 16 on)."""
    options = " WITH INHERIT FALSE, SET TRUE" if connection.info.server_version >= 160_000 else ""
    connection.execute(f"GRANT {role} TO CURRENT_USER{options}".encode())


@pytest.fixture
def database(database_url: str) -> Iterator["psycopg.Connection[tuple[Any, ...]]"]:
    """A plain session, as the login that migrated; it may take every role but the signer's."""
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        let_act_as(connection, "firstread_signer")
        connection.execute("SET search_path TO firstread")
        yield connection
