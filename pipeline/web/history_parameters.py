"""Parameters of the history of one resource (R4 section 3.1.0.11): ``_since`` and ``_count``; others are refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.ledger import StoredResource
from pipeline.web.dates import date_range
from pipeline.web.outcomes import FhirError
from pipeline.web.search_values import invalid

_IGNORED = frozenset({"_format", "_pretty"})


@dataclass(frozen=True, slots=True)
class HistoryWanted:
    """Versions written at or after ``since``, at most ``most`` of them; None asks for all."""

    since: datetime | None = None
    most: int | None = None
    used: tuple[tuple[str, str], ...] = ()

    def of(self, versions: Sequence[StoredResource]) -> list[StoredResource]:
        """Those of ``versions`` that are wanted, in their order."""
        return self._in_time(versions)[: self.most]

    def total(self, versions: Sequence[StoredResource]) -> int:
        """How many there are without ``most``."""
        return len(self._in_time(versions))

    def _in_time(self, versions: Sequence[StoredResource]) -> list[StoredResource]:
        return [one for one in versions if self.since is None or one.last_updated >= self.since]


def parse_history(parameters: Sequence[tuple[str, str]]) -> HistoryWanted:
    """Read ``parameters``. Raises FhirError 400 naming the one that is not understood."""
    since: datetime | None = None
    most: int | None = None
    used: list[tuple[str, str]] = []
    for name, value in parameters:
        if name in _IGNORED:
            continue
        if name in {one for one, _ in used}:
            raise invalid(name, "may be given once")
        if name == "_since":
            since = _instant(value)
        elif name == "_count":
            if not (value.isascii() and value.isdigit() and len(value) < 10):
                raise invalid(name, "not a number from 0 upwards")
            most = int(value)
        else:
            raise FhirError(400, "not-supported", "a history is asked for by _since and _count alone")
        used.append((name, value))
    return HistoryWanted(since, most, tuple(used))


def _instant(value: str) -> datetime:
    try:
        prefix, start, _ = date_range(value)
    except ValueError as error:
        raise invalid("_since", str(error)) from None
    if value.startswith(prefix):
        raise invalid("_since", "an instant without a prefix")
    return start
