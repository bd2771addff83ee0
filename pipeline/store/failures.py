"""The studies that failed, as the review page lists them: ``Store.failures``. Each call is one transaction."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pipeline.lookup import FailedPage, FailedStudy
from pipeline.store.codec import as_json
from pipeline.store.connections import Connections
from pipeline.store.place import place_of, token_of
from pipeline.store.statements import statement

_KIND: Final = "fs"


class Failures:
    """See the module. What an older recipe failed with is not among them."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def count(self) -> int:
        """How many."""
        return int(self._rows("counted", {})[0][0])

    def page(self, limit: int, after: str = "") -> FailedPage:
        """One page, the last failed first. Raises ValueError for a page token that this store did not write."""
        before, number = _place(after)
        values = {"before_time": before, "before_id": number, "limit": limit + 1}
        rows = [FailedStudy(*row) for row in self._rows("page", values)]
        page = tuple(rows[:limit])
        more = len(rows) > limit and page
        return FailedPage(
            page, token_of(_KIND, (page[-1].failed_at,), str(page[-1].ledger_id)) if more else ""
        )

    def find(self, ledger_id: int) -> FailedStudy | None:
        """One of them, or None."""
        rows = self._rows("one", {"ledger_id": ledger_id})
        return FailedStudy(*rows[0]) if rows else None

    def draft_anew(self, ledger_id: int, event: Mapping[str, Any]) -> bool:
        """Have it drafted anew, with the event that says who asked; False where it has not failed (any more), is worked
        on, or a person has taken a report of it over.
        """
        return bool(self._rows("draft_anew", {"ledger_id": ledger_id, "event": as_json(event)})[0][0])

    def _rows(self, name: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        text = statement("failures", name)
        return self._connections.run(lambda c: c.execute(text, values, prepare=False).fetchall())


def _place(after: str) -> tuple[datetime | None, int | None]:
    if not after:
        return None, None
    (failed_at,), number = place_of(_KIND, after)
    if failed_at is None or not (number.isascii() and number.isdigit() and len(number) < 19):
        raise ValueError("not a page token")
    return failed_at, int(number)
