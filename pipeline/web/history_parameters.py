"""Parameters of a history (R4 section 3.1.0.11): ``_since``, ``_count`` and our own ``_page``; others are refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.lookup import HistorySearch
from pipeline.web.dates import date_range
from pipeline.web.outcomes import FhirError
from pipeline.web.search_parameters import DEFAULT_COUNT, LARGEST_COUNT
from pipeline.web.search_values import invalid

_IGNORED = frozenset({"_format", "_pretty"})


@dataclass(frozen=True, slots=True)
class HistoryWanted:
    """A history as understood; ``used`` are the parameters honoured, ``count_only`` asks for no versions."""

    search: HistorySearch
    used: tuple[tuple[str, str], ...] = ()
    count_only: bool = False


def parse_history(
    resource_types: tuple[str, ...], resource_id: str, parameters: Sequence[tuple[str, str]]
) -> HistoryWanted:
    """Read ``parameters``. Raises FhirError 400 naming the one that is not understood."""
    given: dict[str, str] = {}
    for name, value in parameters:
        if name in _IGNORED:
            continue
        if name in given:
            raise invalid(name, "may be given once")
        if name not in ("_since", "_count", "_page"):
            raise FhirError(400, "not-supported", "a history is asked for by _since and _count alone")
        given[name] = value
    count = given.get("_count", str(DEFAULT_COUNT))
    if not (count.isascii() and count.isdigit() and len(count) < 10):
        raise invalid("_count", "not a number from 0 upwards")
    search = HistorySearch(
        resource_types,
        resource_id,
        since=instant_of(given["_since"]) if "_since" in given else None,
        limit=max(1, min(int(count), LARGEST_COUNT)),
        after=given.get("_page", ""),
    )
    return HistoryWanted(search, tuple(given.items()), count_only=int(count) == 0)


def instant_of(value: str) -> datetime:
    """A date without a prefix as its first instant, in UTC where it names no zone. Raises FhirError 400."""
    try:
        prefix, start, _ = date_range(value)
    except ValueError as error:
        raise invalid("_since", str(error)) from None
    if value.startswith(prefix):
        raise invalid("_since", "an instant without a prefix")
    return start if start.tzinfo else start.replace(tzinfo=UTC)
