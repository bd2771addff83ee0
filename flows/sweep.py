"""The main runs: discover what an archive has, draft what is new or changed, and store it.

``sweep`` is what the scheduled deployments and ``firstread run`` call; ``draft`` drains the ledger alone, for studies
that a PACS pushed; ``backfill`` sweeps a long range window by window. Parameters are names, dates and ledger ids.
Prefect is no part of them: ``flows.deployments`` records the same runs where a site has it.
"""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from flows import study_event
from flows.discover import discover_studies
from flows.drain import Wanted, drain
from flows.environment.workplace import Workplace
from flows.received import reconcile
from flows.standing import reinstate_hidden, reopen_mended
from flows.tally import Tally
from pipeline import settings as configuration
from pipeline.study import StudyQuery


async def sweep(
    archive: str = "main",
    since: date | None = None,
    until: date | None = None,
    days: int | None = None,
    config: str = "",
    model: str = "",
    language: str = "",
) -> Tally:
    """Find the archive's studies of these dates, draft what is new or changed; ``days`` counts back from today."""
    if days is not None:
        since = datetime.now(UTC).date() - timedelta(days=days)
    with open_workplace(config, model, language) as place:
        await begin(place, archive)
        return await sweep_window(place, archive, since, until)


async def draft(
    archive: str = "main",
    study: str = "",
    ledger_ids: list[int] | None = None,
    config: str = "",
    model: str = "",
    language: str = "",
) -> Tally:
    """Draft what the ledger holds, without asking the archive what is new.

    ``study`` is the resource id of an event (``firstread.study.<ledger id>``), ``ledger_ids`` name rows; neither
    means all.
    """
    named = tuple(ledger_ids) if ledger_ids is not None else None
    if study:
        named = (study_event.ledger_id(study),)
    started = time.monotonic()
    with open_workplace(config, model, language) as place:
        await begin(place, archive)
        tally = await drain(place, Wanted(archive, ledger_ids=named))
        reinstated = await asyncio.to_thread(reinstate_hidden, place, archive)
    return replace(tally, seconds=time.monotonic() - started, reinstated=reinstated)


async def backfill(
    since: date,
    until: date,
    archive: str = "main",
    window_days: int = 7,
    config: str = "",
    model: str = "",
    language: str = "",
) -> Tally:
    """Sweep a date range window by window, oldest first; started again it goes on where it stopped."""
    total = Tally()
    with open_workplace(config, model, language) as place:
        await begin(place, archive)
        start = since
        while start <= until:
            end = min(start + timedelta(days=window_days - 1), until)
            total = total + await sweep_window(place, archive, start, end)
            start = end + timedelta(days=1)
    return total


async def begin(place: Workplace, archive: str) -> None:
    """Put right what a crash left, and take up again what an upgrade, a setting or time may have mended."""
    await asyncio.to_thread(reconcile, place)
    await asyncio.to_thread(reopen_mended, place, archive)


async def sweep_window(place: Workplace, archive: str, since: date | None, until: date | None) -> Tally:
    """Discover, draft one window of study dates, and let the drafts of this recipe stand."""
    started = time.monotonic()
    discovered = await discover_studies(place, archive, StudyQuery(since=since, until=until))
    drained = await drain(place, Wanted(archive, since=since, until=until))
    reinstated = await asyncio.to_thread(reinstate_hidden, place, archive)
    return drained.of(discovered, time.monotonic() - started, reinstated=reinstated)


def open_workplace(config: str, model: str, language: str) -> Workplace:
    """The workplace of a run, from the configuration file it names."""
    settings = configuration.load(Path(config) if config else None)
    return Workplace(settings, model=model, language=language)
