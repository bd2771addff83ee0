"""Whether the database has the schema that this program was written for."""

import psycopg

from pipeline.errors import StopRun
from pipeline.store.connections import Connection
from pipeline.store.statements import statement


def require_revision(connection: Connection, wanted: str) -> None:
    """Raises StopRun("schema") where the schema is of another revision than ``wanted``, or there is none."""
    try:
        row = connection.execute(statement("reading", "schema_revision")).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        row = None
    found = str(row[0]) if row else ""
    if found != wanted:
        raise StopRun(
            "schema",
            f"the database's schema is revision {found or 'none'}, this program needs {wanted}; "
            "run firstread db upgrade",
        )
