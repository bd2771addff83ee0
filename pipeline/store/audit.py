"""The audit chain: appending, proving and writing it out.

The proof recomputes every digest here, from the rows alone: a function changed in the database cannot vouch for itself.
What a database owner can do without being seen is to rewrite a chain to its end together with its head; the
heads that ``verify`` gives, noted elsewhere and compared later, close that gap.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import orjson

from pipeline.store.audit_content import content_fault, heads_fault
from pipeline.store.codec import as_json
from pipeline.store.connections import Connection
from pipeline.store.statements import statement
from pipeline.store.values import AuditVerdict, ChainHead

ACCESS_CHAIN = "access"
"""What was read, searched and started, by whom."""
ROWS_AT_ONCE = 1000


class Row(NamedTuple):
    """One audit row as text; digests in hex."""

    seq: int
    chain: str
    place: int
    recorded: str
    ledger_id: str
    event: str
    previous: str
    digest: str

    def recomputed(self) -> str:
        """The digest that this row's content must have (sql/versions/0001/audit.sql, audit_hash)."""
        lines = (self.previous, self.chain, str(self.place), self.recorded, self.ledger_id, self.event)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def append(
    connection: Connection, chain: str, events: Sequence[Mapping[str, Any]], *, viewing: bool = False
) -> None:
    """Append AuditEvents to ``chain`` in their order; repeated after a lost answer it may write them twice.

    ``viewing``: the session may append to the chain of accesses alone.
    """
    asked = statement("audit", "append_access" if viewing else "append")
    connection.execute(asked, {"chain": chain, "events": as_json(events)})


def verify(connection: Connection, *, content: bool = False, noted: Sequence[ChainHead] = ()) -> AuditVerdict:
    """Prove every chain, in one snapshot, holding a thousand rows at a time.

    ``content`` proves the report rows against their events too, ``noted`` are heads that were kept elsewhere.
    """
    total = 0
    faults: list[tuple[int, str]] = []
    ends: dict[str, Row] = {}
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        heads = tuple(ChainHead(*row) for row in connection.execute(statement("audit", "heads")))
        broken: set[str] = set()
        for row in _rows(connection, "rows"):
            total += 1
            fault = "" if row.chain in broken else _fault(row, ends.get(row.chain))
            if fault:
                broken.add(row.chain)
                faults.append((row.seq, fault))
            ends[row.chain] = row
        beyond = heads_fault(connection, noted) or (content_fault(connection) if content else None)
    tails = [
        found
        for head in heads
        if head.chain not in broken and (found := _tail_fault(head, ends.get(head.chain)))
    ]
    headless = set(ends) - {head.chain for head in heads}
    tails += [(ends[chain].seq, f"chain {chain} has rows and no head") for chain in sorted(headless)]
    if faults:
        seq, reason = min(faults)
        return AuditVerdict(False, total, seq, reason, heads)
    if tails:
        last, reason = min(tails, key=lambda tail: (tail[0] is None, tail))
        return AuditVerdict(False, total, last, reason, heads)
    if beyond:
        return AuditVerdict(False, total, *beyond, heads)
    return AuditVerdict(True, total, None, "every chain is whole", heads)


def export(connection: Connection, out: BinaryIO) -> int:
    """Write every row as one JSON line, in the order of writing, with all that the proof needs; returns how many."""
    written = 0
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for row in _rows(connection, "rows_as_written"):
            out.write(
                orjson.dumps(
                    {
                        "seq": row.seq,
                        "chain": row.chain,
                        "place": row.place,
                        "recorded": row.recorded,
                        "ledgerId": int(row.ledger_id) if row.ledger_id else None,
                        "previousHash": row.previous,
                        "hash": row.digest,
                        "event": orjson.Fragment(row.event),
                    },
                    option=orjson.OPT_APPEND_NEWLINE,
                )
            )
            written += 1
    return written


def _fault(row: Row, before: Row | None) -> str:
    """What is wrong with ``row`` as the successor of ``before``, or ""."""
    expected_place = before.place + 1 if before else 1
    expected_previous = before.digest if before else ""
    if row.place > expected_place:
        return f"chain {row.chain}: row {row.place - 1} before this one was removed"
    if row.place < expected_place:
        return f"chain {row.chain}: row {row.place} is there twice"
    if row.recomputed() != row.digest:
        return f"chain {row.chain}: row {row.place} was changed or moved"
    if row.previous != expected_previous:
        return f"chain {row.chain}: row {row.place} does not follow the row before it"
    return ""


def _tail_fault(head: ChainHead, last: Row | None) -> tuple[int | None, str] | None:
    if last is None:
        return (None, f"chain {head.chain}: all {head.rows} rows were removed") if head.rows else None
    if head.rows > last.place:
        return (
            last.seq,
            f"chain {head.chain}: {head.rows - last.place} rows after row {last.place} were removed",
        )
    if head.rows < last.place or head.digest != last.digest:
        return last.seq, f"chain {head.chain}: row {last.place} is not the one that was written last"
    return None


def _rows(connection: Connection, name: str) -> Iterator[Row]:
    with connection.cursor(name="firstread_audit") as cursor:
        cursor.itersize = ROWS_AT_ONCE
        cursor.execute(statement("audit", name))
        for row in cursor:
            yield Row(*row)
