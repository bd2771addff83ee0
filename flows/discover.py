"""Discover: what the archive has, written to the ledger. Nothing is retrieved here."""

import asyncio
import logging
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime

from flows.environment.observer import OBSERVER
from flows.environment.workplace import Workplace
from flows.tally import Discovered
from pipeline.errors import RetryLater, SkipStudy
from pipeline.fhir import audit_events
from pipeline.settings import archive_named
from pipeline.study import FoundStudy, StudyQuery, announced_digest

log = logging.getLogger(__name__)

PAGE = 500
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0


async def discover_studies(
    workplace: Workplace,
    archive: str,
    query: StudyQuery,
    busy: asyncio.Event | None = None,
    seen: set[int] | None = None,
) -> Discovered:
    """Find the studies of ``query`` and record them for this model's recipe; returns how many there are.

    A study at rest whose demographics or instances changed goes back to work. An archive that is busy or away is asked
    again for as long as its ``patience``, after what it asks for or a growing pause; ``busy`` is set where it answers
    and has no time; ``seen`` is given the hash of each Study Instance UID that it lists. Raises RetryLater or StopRun
    as the archive does.
    """
    deadline = time.monotonic() + archive_named(workplace.settings, archive).patience
    pause = FIRST_PAUSE
    while True:
        try:
            return await _discover(workplace, archive, query, seen)
        except RetryLater as error:
            wait = min(
                pause if error.after_seconds is None else max(error.after_seconds, FIRST_PAUSE), LONGEST_PAUSE
            )
            if error.code.startswith("database") or time.monotonic() + wait > deadline:
                raise
            log.warning("archive %s: %s; asked again in %.1f s", archive, error, wait)
            if busy is not None and error.code == "archive-busy":
                busy.set()
        await asyncio.sleep(wait)
        pause *= 2


async def _discover(
    workplace: Workplace, archive: str, query: StudyQuery, seen: set[int] | None
) -> Discovered:
    observer = OBSERVER.get()
    total = failed = 0
    await asyncio.to_thread(_audit_query, workplace, archive, query)
    source = workplace.archive(archive)
    source.passed_over.take()  # of a try that ended early
    pages = _pages(source.find(query))
    while page := await asyncio.to_thread(next, pages, None):
        failed += await asyncio.to_thread(_record, workplace, archive, page)
        total += len(page)
        if seen is not None:
            seen.update(hash(study.study_instance_uid) for study in page)
        observer.found(len(page))
    return Discovered(total, failed, source.passed_over.take())


def _pages(found: Iterator[FoundStudy]) -> Iterator[list[FoundStudy]]:
    page: list[FoundStudy] = []
    for study in found:
        page.append(study)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


def _record(workplace: Workplace, archive: str, page: list[FoundStudy]) -> int:
    """Write one page to the ledger; where the archive announces no counts, list the instances of what is at rest.

    Returns how many of the page failed before.
    """
    recipe = workplace.recipe_of(archive)
    counts = workplace.store.record_found(archive, recipe, page)
    for resting in workplace.store.needs_listing(archive, recipe, page):
        try:
            announced = workplace.archive(archive).instances(resting.study_instance_uid)
        except SkipStudy:
            continue  # gone since it was found: its stored report stays as it is
        workplace.store.record_announced(resting.ledger_id, announced_digest(announced), len(announced))
    return counts.failed


def _audit_query(workplace: Workplace, archive: str, query: StudyQuery) -> None:
    """Say in the audit what the archive is asked, before it is asked; never what it answers."""
    if query.study_instance_uids:
        asked = "&".join(f"StudyInstanceUID={uid}" for uid in query.study_instance_uids)
    else:
        asked = "StudyDate=-" if query.undated else f"StudyDate={_day(query.since)}-{_day(query.until)}"
        asked += "".join(f"&ModalitiesInStudy={one}" for one in query.modalities)
    workplace.store.append_audit(
        [audit_events.archive_query(workplace.site(archive), asked, datetime.now(UTC))]
    )


def _day(day: date | None) -> str:
    return f"{day:%Y%m%d}" if day else ""
