"""Versions of resources, page by page, the last written first: of one, of a type, of all."""

from datetime import datetime
from typing import Any, Final

from pipeline.ledger import StoredResource
from pipeline.lookup import HistorySearch, ResourcePage
from pipeline.store.connections import Connection
from pipeline.store.place import place_of, token_of
from pipeline.store.statements import statement

_KIND: Final = "hd"
_NEWEST: Final = 2**31 - 1


def history(connection: Connection, wanted: HistorySearch) -> ResourcePage:
    """One page. Raises ValueError for a token that is not ours, or is another history's."""
    name = "page_of_one" if wanted.resource_id else "page"
    values = _values(wanted) | {"limit": wanted.limit + 1}
    rows = connection.execute(statement("histories", name), values, prepare=False).fetchall()
    page = tuple(StoredResource(*row) for row in rows[: wanted.limit])
    following = ""
    if len(rows) > wanted.limit and page:
        last = page[-1]
        key = f"{last.resource_type}/{last.resource_id}/{last.version_id}"
        following = token_of(_KIND, (last.last_updated,), key)
    return ResourcePage(page, following)


def count_history(connection: Connection, wanted: HistorySearch) -> int:
    """How many versions."""
    row = connection.execute(statement("histories", "counted"), _values(wanted), prepare=False).fetchone()
    return int(row[0]) if row else 0


def _values(wanted: HistorySearch) -> dict[str, Any]:
    before: datetime | str | None = "infinity"
    kind, identifier, version = "", "", _NEWEST
    if wanted.after:
        (before,), key = place_of(_KIND, wanted.after)
        parts = key.split("/")
        if len(parts) != 3 or not (parts[2].isascii() and parts[2].isdigit() and len(parts[2]) < 10):
            raise ValueError("not a page token")
        kind, identifier, version = parts[0], parts[1], int(parts[2])
        if before is None or kind not in wanted.resource_types or wanted.resource_id not in ("", identifier):
            raise ValueError("a page token of another history")
    return {
        "types": list(wanted.resource_types),
        "type": wanted.resource_types[0],
        "id": wanted.resource_id,
        "since": wanted.since or "-infinity",
        "before": before,
        "before_type": kind,
        "before_id": identifier,
        "before_version": version,
    }
