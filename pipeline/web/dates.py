"""FHIR date search values (R4 section 3.1.1.4.6) as a prefix and the range of instants that they name."""

import re
from datetime import UTC, datetime, timedelta

_VALUE = re.compile(
    r"(?P<prefix>eq|ne|gt|lt|ge|le|sa|eb|ap)?"
    r"(?P<year>\d{4})(?:-(?P<month>\d{2})(?:-(?P<day>\d{2})"
    r"(?:T(?P<hour>\d{2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.(?P<fraction>\d{1,9}))?)?"
    r"(?P<zone>Z|[+ -]\d{2}:\d{2})?)?)?)?",
    re.ASCII,
)
LAST = datetime.max.replace(tzinfo=UTC)
"""The end of the calendar: 9999-12-31 is often written for "whenever"."""


def date_range(value: str) -> tuple[str, datetime, datetime]:
    """The prefix of ``value`` ("eq" where it has none), and the first instant of what it names and the first after it.

    Both are in UTC where the value names a zone, else without one: the clock on the wall is meant. Raises ValueError
    for anything else.
    """
    match = _VALUE.fullmatch(value)
    if match is None:
        raise ValueError("not a FHIR date, dateTime or instant with a known prefix")
    start = _start(match)
    try:
        end = _end(match, start)
    except (OverflowError, ValueError):
        end = LAST.replace(tzinfo=start.tzinfo)
    if end <= start:
        raise ValueError("a date beyond the calendar")
    return match["prefix"] or "eq", start, end


def widened(start: datetime, end: datetime, now: datetime) -> tuple[datetime, datetime]:
    """What "ap" means of a range: a tenth of the time between ``now`` and it, on both sides (R4 section 3.1.1.4.6)."""
    moment = now.astimezone(UTC).replace(tzinfo=start.tzinfo)
    tenth = max(start - moment, moment - end, timedelta(0)) / 10
    first, last = datetime.min.replace(tzinfo=start.tzinfo), LAST.replace(tzinfo=start.tzinfo)
    return start - min(tenth, start - first), end + min(tenth, last - end)


def _start(match: re.Match[str]) -> datetime:
    zone = (match["zone"] or "").replace(" ", "+")  # a "+" that a client left unescaped in the URL
    micro = int((match["fraction"] or "0")[:6].ljust(6, "0"))
    text = (
        f"{match['year']}-{match['month'] or '01'}-{match['day'] or '01'}"
        f"T{match['hour'] or '00'}:{match['minute'] or '00'}:{match['second'] or '00'}.{micro:06d}{zone}"
    )
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if zone else moment
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
    return start.replace(year=start.year + 1)
