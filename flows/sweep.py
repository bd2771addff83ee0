"""The main runs: discover what an archive has, draft what is new or changed, and store it.

``sweep`` is what the scheduled deployments and ``firstread run`` call; ``draft`` drains the ledger alone, for studies
that a PACS pushed; ``backfill`` sweeps a long range window by window. Parameters are names, dates and ledger ids.
Prefect is no part of them: ``flows.deployments`` records the same runs where a site has it.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from flows import study_event
from flows.discover import discover_studies
from flows.drain import drain
from flows.environment.recorder import RECORDER
from flows.environment.workplace import Workplace
from flows.received import reconcile
from flows.standing import reinstate_hidden, reopen_mended
from flows.tally import Discovered, Tally
from flows.vanished import look_for_vanished
from pipeline import settings as configuration
from pipeline.errors import ConfigurationError, FailStudy, StopRun
from pipeline.ledger import WorkFilter
from pipeline.setting_archives import FolderArchive
from pipeline.settings import archive_named
from pipeline.store.values import SweepBegun
from pipeline.study import FoundStudy, StudyQuery

log = logging.getLogger(__name__)


MOST_DAYS = 36_500
MOST_WINDOW = 3_660
OVERLAP = timedelta(days=1)
"""Asked again of what is covered: what was dated late, and where the archive's time zone is not told."""


async def sweep(
    archive: str = "main",
    since: date | None = None,
    until: date | None = None,
    days: int | None = None,
    config: str = "",
    model: str = "",
    language: str = "",
    due: datetime | None = None,
) -> Tally:
    """Find the archive's studies of these dates, draft what is new or changed.

    With ``days`` it goes on from what sweeps have covered, a day of overlap included, and asks at least so many days
    before today, in the archive's time zone; a run that was ``due`` before another such sweep began has nothing to do.
    Raises ConfigurationError for dates that cannot be.
    """
    check_dates(since, until, days)
    started = time.monotonic()
    with open_workplace(config, model, language) as workplace:
        await begin(workplace, archive)
        if days is None:
            return _timed(await sweep_window(workplace, archive, since, until), started)
        if due is not None and await asyncio.to_thread(
            workplace.store.sweeps.swept_since, archive, workplace.recipe_of(archive), due
        ):
            log.warning("archive %s: swept since this run was due; nothing to do", archive)
            return Tally()
        since = await asyncio.to_thread(onward_since, workplace, archive, days)
        undated = await asyncio.to_thread(_undated_is_due, workplace, archive)
        return _timed(
            await sweep_window(workplace, archive, since, None, onward=True, undated=undated), started
        )


async def draft(
    archive: str = "main",
    study: str = "",
    ledger_ids: list[int] | None = None,
    config: str = "",
    model: str = "",
    language: str = "",
) -> Tally:
    """Draft what the ledger holds, without asking the archive what is new.

    ``study`` is the resource id of an event (``firstread.study.<ledger id>``), whose row says which archive; whatever
    else was pushed there and waits is drafted with it. ``ledger_ids`` name rows of ``archive``; neither means all.
    Raises FailStudy for an event without a row.
    """
    wanted = [WorkFilter(archive, ledger_ids=tuple(ledger_ids) if ledger_ids is not None else None)]
    started = time.monotonic()
    with open_workplace(config, model, language) as workplace:
        if study:
            archive, named = await asyncio.to_thread(row_of_event, workplace, study)
            wanted = [WorkFilter(archive, ledger_ids=named), WorkFilter(archive, received=True)]
        tally = await draft_wanted(workplace, archive, wanted)
    return _timed(tally, started)


async def draft_wanted(workplace: Workplace, archive: str, wanted: Sequence[WorkFilter]) -> Tally:
    """Draft what the ledger holds of ``wanted``, and let the drafts of this recipe stand."""
    started = time.monotonic()
    await begin(workplace, archive)
    tally = await drain(workplace, *wanted)
    reinstated = await asyncio.to_thread(reinstate_hidden, workplace, archive)
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
    check_dates(since, until)
    if not 1 <= window_days <= MOST_WINDOW:
        raise ConfigurationError("window-days", f"window_days must be 1 to {MOST_WINDOW}")
    total, started = Tally(), time.monotonic()
    with open_workplace(config, model, language) as workplace:
        await begin(workplace, archive)
        start = since
        while start <= until:
            end = min(start + timedelta(days=window_days - 1), until)
            total = total + await sweep_window(workplace, archive, start, end)
            start = end + timedelta(days=1)
    return _timed(total, started)


async def begin(workplace: Workplace, archive: str) -> None:
    """Ask whether drafting is paused; put right what a crash left, and take up again what may have been mended."""
    await RECORDER.get().began(workplace.store)
    if pause := await asyncio.to_thread(workplace.store.sweeps.paused):
        raise StopRun(
            "paused",
            f"drafting is paused since {pause.paused_at:%Y-%m-%d %H:%M} UTC by {pause.paused_by} ({pause.reason}); "
            "`firstread resume` ends that",
        )
    await asyncio.to_thread(reconcile, workplace)
    await asyncio.to_thread(reopen_mended, workplace, archive)


async def sweep_window(
    workplace: Workplace,
    archive: str,
    since: date | None,
    until: date | None,
    *,
    onward: bool = False,
    undated: bool = False,
) -> Tally:
    """Discover, draft, and let the drafts of this recipe stand; its days are covered when all of it is done.

    One window of study dates is drafted, and what was pushed whatever its date; ``onward`` all that is open.
    ``undated`` asks for the studies without a date, too. A reported study of the window that the archive lists no more
    is looked at again.
    """
    started = time.monotonic()
    sweep_id = await asyncio.to_thread(_noted, workplace, archive, since, until, onward, undated)
    busy = asyncio.Event()
    asking = asyncio.create_task(_asked(workplace, archive, since, until, sweep_id, busy, undated=undated))
    drained = Tally()
    try:
        waiting = asyncio.create_task(busy.wait())
        await asyncio.wait({asking, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not asking.done():  # the archive is busy: what the ledger holds is drafted meanwhile
            drained = await drain(workplace, *_work(workplace, archive, since, until, onward))
        discovered = await asking
    finally:
        asking.cancel()
    drained += await drain(workplace, *_work(workplace, archive, since, until, onward))
    reinstated = await asyncio.to_thread(reinstate_hidden, workplace, archive)
    await asyncio.to_thread(workplace.store.sweeps.end, sweep_id)
    return drained.of(discovered, time.monotonic() - started, reinstated=reinstated)


async def _asked(
    workplace: Workplace,
    archive: str,
    since: date | None,
    until: date | None,
    sweep_id: int,
    busy: asyncio.Event,
    *,
    undated: bool,
) -> Discovered:
    """What the archive has of the window, what it has no more, and what was passed over, which is noted."""
    seen: set[int] = set()
    modalities = archive_named(workplace.settings, archive).modalities
    query = StudyQuery(since=since, until=until, modalities=modalities)
    discovered = await discover_studies(workplace, archive, query, busy, seen)
    if undated:
        log.info("archive %s: asked for studies without a date", archive)
        without = StudyQuery(undated=True, modalities=modalities)
        discovered = discovered.and_also(await discover_studies(workplace, archive, without, busy))
    unlisted = await asyncio.to_thread(look_for_vanished, workplace, archive, since, until, seen)
    discovered = replace(discovered, passed_over={**discovered.passed_over, **unlisted})
    await asyncio.to_thread(workplace.store.sweeps.note_passed_over, sweep_id, discovered.passed_over)
    return discovered


def _undated_is_due(workplace: Workplace, archive: str) -> bool:
    """Whether a sweep has to ask for studies without a date: a folder finds them by every search."""
    configured = archive_named(workplace.settings, archive)
    if isinstance(configured, FolderArchive) or not configured.undated_days:
        return False
    moment = datetime.now(UTC) - timedelta(days=configured.undated_days)
    return not workplace.store.sweeps.undated_since(archive, moment)


def _timed(tally: Tally, started: float) -> Tally:
    """With the seconds of the whole run: opening the model is most of it where there is little to draft."""
    return replace(tally, seconds=time.monotonic() - started)


def check_dates(since: date | None, until: date | None, days: int | None = None) -> None:
    """Raises ConfigurationError for dates in the wrong order, and for a number of days that cannot be meant."""
    if since is not None and until is not None and since > until:
        raise ConfigurationError("dates", "since is after until: no day lies between them")
    if days is not None and not 0 <= days <= MOST_DAYS:
        raise ConfigurationError("days", f"days must be 0 to {MOST_DAYS}")
    if days is not None and (since is not None or until is not None):
        raise ConfigurationError("days", "give days, or since and until, not both")


def onward_since(workplace: Workplace, archive: str, days: int) -> date:
    """The first day that a sweep has to ask for: so many before today, or earlier where a day is not covered."""
    wanted = _today(workplace, archive) - timedelta(days=days)
    covered = workplace.store.sweeps.covered_until(archive)
    if covered is None:
        return wanted
    uncovered = covered + timedelta(days=1)
    if uncovered < wanted:
        log.warning("archive %s: no sweep covered %s to %s; caught up now", archive, uncovered, wanted)
    return min(wanted, uncovered - OVERLAP)


def row_of_event(workplace: Workplace, study: str) -> tuple[str, tuple[int, ...]]:
    """Archive and ledger row of an event, of the recipe in use. Raises FailStudy where there is no such row."""
    ledger_id = study_event.ledger_id(study)
    row = workplace.store.study(ledger_id)
    if row is None:
        raise FailStudy("unknown-study", f"the event names ledger row {ledger_id}, which does not exist")
    uid = row.study_instance_uid
    named = workplace.store.ledger_ids(row.archive, workplace.recipe_of(row.archive), [uid])
    if not named:  # it was received while another model, language or version was in use
        found = FoundStudy(uid, row.study_date, (), row.accession_number, None, "")
        workplace.store.record_found(row.archive, workplace.recipe_of(row.archive), [found])
        named = workplace.store.ledger_ids(row.archive, workplace.recipe_of(row.archive), [uid])
    return row.archive, named


def _today(workplace: Workplace, archive: str) -> date:
    return datetime.now(ZoneInfo(archive_named(workplace.settings, archive).time_zone)).date()


def _noted(
    workplace: Workplace, archive: str, since: date | None, until: date | None, onward: bool, undated: bool
) -> int:
    over = _today(workplace, archive) - timedelta(days=1)
    whole = over if until is None else min(over, until)
    begun = SweepBegun(
        archive, workplace.recipe_of(archive), since, until, onward, whole, datetime.now(UTC), undated
    )
    return workplace.store.sweeps.begin(begun)


def _work(
    workplace: Workplace, archive: str, since: date | None, until: date | None, onward: bool
) -> tuple[WorkFilter, ...]:
    """What a sweep drafts. What was pushed is found by no query where its archive does not know it or its date."""
    store, recipe = workplace.store, workplace.recipe_of(archive)
    if unknown := store.sweeps.received_unknown(archive, recipe):
        store.record_found(archive, recipe, [FoundStudy(uid, None, (), "", None, "") for uid in unknown])
    if onward or (since is None and until is None):
        return (WorkFilter(archive),)
    return (WorkFilter(archive, since=since, until=until), WorkFilter(archive, received=True))


def open_workplace(config: str, model: str, language: str) -> Workplace:
    """The workplace of a run, from the configuration file it names."""
    settings = configuration.load(Path(config) if config else None)
    return Workplace(settings, model=model, language=language)
