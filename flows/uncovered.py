"""The days of an archive that no complete sweep covers, for whoever watches over the nights."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from pipeline.settings import Settings
from pipeline.store.store import Store


@dataclass(frozen=True, slots=True)
class UncoveredDays:
    """Both inclusive, in the archive's own time zone."""

    archive: str
    since: date
    until: date


def uncovered_days(
    settings: Settings, store: Store, archive: str | None, now: datetime | None = None
) -> tuple[UncoveredDays, ...]:
    """For each configured archive (or the one named) the days that are over and not covered, where any sweep was.

    An archive that is swept by named dates alone, or by no sweep yet, covers no days and lacks none.
    """
    found = []
    for name, configured in settings.archives.items():
        covered = store.sweeps.covered_until(name) if archive in (None, name) else None
        yesterday = (now or datetime.now(UTC)).astimezone(ZoneInfo(configured.time_zone)).date() - timedelta(
            days=1
        )
        if covered is not None and covered < yesterday:
            found.append(UncoveredDays(name, covered + timedelta(days=1), yesterday))
    return tuple(found)
