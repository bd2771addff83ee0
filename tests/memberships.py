"""Membership of the test's login in a role of the schema, on every Postgres."""

from typing import Any

import psycopg


def let_act_as(connection: "psycopg.Connection[Any]", role: str) -> None:
    """Let the login of ``connection`` SET ROLE to ``role``, without its rights before that (from Postgres 16 on)."""
    options = " WITH INHERIT FALSE, SET TRUE" if connection.info.server_version >= 160_000 else ""
    connection.execute(f"GRANT {role} TO CURRENT_USER{options}".encode())
