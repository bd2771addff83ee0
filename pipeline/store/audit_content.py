"""What the audit chain cannot see by itself: report rows that are not as they were when their event was chained.

Every write of a report names what it wrote, by version and SHA-256, in its audit event (sql/versions/0002/audit.sql).
The digests are recomputed here from the rows. Versions written before schema 0002 are named by no event.
"""

import hashlib
from collections.abc import Iterator, Sequence

from pipeline.store.connections import Connection
from pipeline.store.statements import statement
from pipeline.store.values import ChainHead

ROWS_AT_ONCE = 500


def content_fault(connection: Connection) -> tuple[int | None, str] | None:
    """The first audit row whose report rows are not as written, and what is wrong; None where all are.

    The row is None where a current resource is not the newest of its history. Ids of resources are no patient data.
    """
    for name in ("bound_resources", "bound_versions"):
        for seq, chain, named, digest, content in _bound(connection, name):
            if content is None:
                return seq, f"chain {chain}: {_readable(named)} was deleted"
            if hashlib.sha256(content.encode()).hexdigest() != digest:
                return seq, f"chain {chain}: {_readable(named)} was changed"
    drifted = connection.execute(statement("audit", "drifted")).fetchone()
    if drifted is not None:
        return None, f"{drifted[0]}: the current version is not the one in its history"
    return None


def heads_fault(connection: Connection, noted: Sequence[ChainHead]) -> tuple[int | None, str] | None:
    """The first of the heads noted elsewhere that the chains do not go through any more; None where they all do."""
    for head in noted:
        if head.rows == 0:
            continue
        values = {"chain": head.chain, "place": head.rows}
        row = connection.execute(statement("audit", "row_at"), values).fetchone()
        if row is None:
            return None, f"chain {head.chain}: row {head.rows}, which was noted as its head, was removed"
        if row[1] != head.digest:
            return row[0], f"chain {head.chain}: row {head.rows} is not the one that was noted as its head"
    return None


def _bound(connection: Connection, name: str) -> Iterator[tuple[int, str, str, str, str | None]]:
    with connection.cursor(name=f"firstread_{name}") as cursor:
        cursor.itersize = ROWS_AT_ONCE
        cursor.execute(statement("audit", name), {})
        yield from cursor


def _readable(named: str) -> str:
    return named.replace("/_history/", " version ").replace("report_version", "the row report_version")
