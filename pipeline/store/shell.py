"""A small prompt for SQL where there is no ``psql``: it reads the views and changes nothing."""

from collections.abc import Iterator
from typing import TextIO

import psycopg
from psycopg import sql

from pipeline.store.connections import libpq_url
from pipeline.store.refusals import translated

PROMPT = "firstread=> "


def read_and_run(url: str, source: TextIO, out: TextIO, said: TextIO) -> int:
    """Run each statement of ``source`` in a read-only session, its rows to ``out`` separated by tabs.

    Returns 1 if a statement failed and nobody is at the keyboard, else 0. Raises as ``translated`` where the database
    cannot be reached.
    """
    try:
        connection = psycopg.connect(libpq_url(url), autocommit=True, connect_timeout=10)
    except psycopg.Error as error:
        raise translated(error) from None
    failed = False
    with connection:
        connection.read_only = True
        connection.execute("SET default_transaction_read_only TO on")
        connection.execute("SET search_path TO firstread")
        for statement in _statements(source, said):
            try:
                _run(connection, statement, out)
            except psycopg.Error as error:
                failed = True
                said.write(f"{error}\n")
    return int(failed and not source.isatty())


def _run(connection: "psycopg.Connection[tuple[object, ...]]", statement: str, out: TextIO) -> None:
    cursor = connection.execute(sql.SQL(statement))  # what a person typed
    if cursor.description:
        out.write("\t".join(column.name for column in cursor.description) + "\n")
        for row in cursor:
            out.write("\t".join("" if value is None else str(value) for value in row) + "\n")
    out.flush()


def _statements(source: TextIO, said: TextIO) -> Iterator[str]:
    """What stands between two semicolons at the end of a line."""
    held: list[str] = []
    while True:
        if source.isatty():
            said.write(PROMPT if not held else "firstread-> ")
            said.flush()
        line = source.readline()
        held.append(line)
        whole = "".join(held).strip()
        if whole and (not line or line.rstrip().endswith(";")):
            yield whole.rstrip(";")
            held = []
        if not line:
            return
