"""FHIR date search values (R4 section 3.1.1.4.7) as ranges of instants."""

import re
from datetime import UTC, datetime, timedelta

from pipeline.lookup import InstantRange

_VALUE = re.compile(
    r"(?P<prefix>eq|ne|gt|lt|ge|le|sa|eb)?"
    r"(?P<year>\d{4})(?:-(?P<month>\d{2})(?:-(?P<day>\d{2})"
    r"(?:T(?P<hour>\d{2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.(?P<fraction>\d{1,9}))?)?"
    r"(?P<zone>Z|[+ -]\d{2}:\d{2})?)?)?)?",
    re.ASCII,
)


def instant_range(value: str) -> InstantRange:
    """The instants that satisfy ``value``: an optional prefix, then a date as exact as it is written.

    A date without a zone is read in UTC. ``eq`` (no prefix) holds for the whole day, month or year. Raises
    ValueError for anything else, ``ap`` included.
    """
    match = _VALUE.fullmatch(value)
    if match is None:
        raise ValueError("not a FHIR date, dateTime or instant with a known prefix")
    start, end = _period(match)
    prefix = match["prefix"] or "eq"
    if prefix in ("eq", "ne"):
        return InstantRange(start, end, outside=prefix == "ne")
    if prefix in ("ge", "gt", "sa"):
        return InstantRange(since=start if prefix == "ge" else end)
    return InstantRange(until=end if prefix == "le" else start)


def _period(match: re.Match[str]) -> tuple[datetime, datetime]:
    zone = (match["zone"] or "Z").replace(" ", "+")  # a "+" that a client left unescaped in the URL
    micro = int((match["fraction"] or "0")[:6].ljust(6, "0"))
    text = (
        f"{match['year']}-{match['month'] or '01'}-{match['day'] or '01'}"
        f"T{match['hour'] or '00'}:{match['minute'] or '00'}:{match['second'] or '00'}.{micro:06d}{zone}"
    )
    try:
        start = datetime.fromisoformat(text).astimezone(UTC)
        return start, _end(match, start)
    except OverflowError:
        raise ValueError("a date beyond the calendar") from None


def _end(match: re.Match[str], start: datetime) -> datetime:
    """The first instant after the period, as long as the value is exact."""
    if match["fraction"]:
        return start + timedelta(milliseconds=1)
    if match["second"]:
        return start + timedelta(seconds=1)
    if match["hour"]:
        return start + timedelta(minutes=1)
    if match["day"]:
        return start + timedelta(days=1)
    if match["month"]:
        return (start.replace(day=1) + timedelta(days=32)).replace(day=1)
    return (start + timedelta(days=366)).replace(month=1, day=1)
