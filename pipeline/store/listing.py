"""The list of reports for the review page: page by page, and which stands beside which."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from pipeline.lookup import ListOrder, ReportFilter, ReportPage, ReportRow
from pipeline.store.connections import Connection
from pipeline.store.place import place_of, token_of
from pipeline.store.statements import statement

_NEWEST, _CRITICAL, _OTHERS = "rd", "rc", "ro"
"""Where a page ended: among all, among critical drafts, or among the rest behind them."""
_KINDS = {ListOrder.NEWEST: (_NEWEST,), ListOrder.CRITICAL: (_CRITICAL, _OTHERS)}


def report_rows(connection: Connection, limit: int, after: str, wanted: ReportFilter) -> ReportPage:
    """One page of reports in the order that is wanted. Raises ValueError for a token that is not of it."""
    kinds = _KINDS[wanted.order]
    begun = next((kind for kind in kinds if after.startswith(f"{kind}.")), kinds[0])
    place = _place(begun, after)
    rows: list[tuple[str, ReportRow]] = []
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for kind in kinds[kinds.index(begun) :]:
            if len(rows) <= limit:
                values = {"before_time": place[0], "before_id": place[1], "limit": limit + 1 - len(rows)}
                found = listed_rows(connection, _page(kind), values | asdict(wanted))
                rows += [(kind, row) for row in found]
            place = _place(kind)
    page = rows[:limit]
    more = len(rows) > limit and page
    following = token_of(page[-1][0], (page[-1][1].created_at,), page[-1][1].report_id) if more else ""
    return ReportPage(tuple(row for _, row in page), following)


def _place(kind: str, after: str = "") -> tuple[datetime | None, str | None]:
    if not after:
        return None, None
    (created,), report_id = place_of(kind, after)
    return created, report_id


def neighbours(connection: Connection, row: ReportRow, order: ListOrder) -> tuple[str, str]:
    """Ids of the reports above and below ``row`` in the list of all, "" at its ends."""
    beside = {"created_at": row.created_at, "report_id": row.report_id}
    end = {"created_at": None, "report_id": None}
    if order is ListOrder.NEWEST:
        return _beside(connection, "above", _NEWEST, beside), _beside(connection, "below", _NEWEST, beside)
    own = _CRITICAL if row.critical else _OTHERS
    above, below = _beside(connection, "above", own, beside), _beside(connection, "below", own, beside)
    if not above and not row.critical:
        above = _beside(connection, "above", _CRITICAL, end)
    if not below and row.critical:
        below = _beside(connection, "below", _OTHERS, end)
    return above, below


def listed_rows(connection: Connection, text: str, values: dict[str, Any]) -> tuple[ReportRow, ...]:
    """The rows that the statement ``text`` gives."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(text, values, prepare=False)
        return tuple(ReportRow(**row) for row in cursor)


def _page(kind: str) -> str:
    return "\n".join((statement("listing", "head"), *_which(kind), statement("listing", "end")))


def _beside(connection: Connection, side: str, kind: str, values: dict[str, Any]) -> str:
    nearest = statement("listing", "nearest_above" if side == "above" else "nearest_below")
    head = statement("listing", "above" if side == "above" else "below")
    found = connection.execute("\n".join((head, *_which(kind), nearest)), values, prepare=False).fetchone()
    return str(found[0]) if found else ""


def _which(kind: str) -> tuple[str, ...]:
    if kind == _NEWEST:
        return ()
    return (statement("listing", "critical" if kind == _CRITICAL else "others"),)
