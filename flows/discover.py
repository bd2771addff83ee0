"""Discover: what the archive has, written to the ledger. Nothing is retrieved here."""

import asyncio
import logging
from collections.abc import Iterator

from flows.observer import OBSERVER
from flows.workplace import Workplace
from pipeline.errors import SkipStudy
from pipeline.study import FoundStudy, StudyQuery, announced_digest

log = logging.getLogger(__name__)

PAGE = 500


async def discover_studies(place: Workplace, archive: str, query: StudyQuery) -> int:
    """Find the studies of ``query`` and record them for this model's recipe; gives how many there are.

    A study at rest whose demographics or instances changed goes back to work. Raises RetryLater or StopRun as the
    archive does.
    """
    observer = OBSERVER.get()
    total = 0
    pages = _pages(place.archive(archive).find(query))
    while page := await asyncio.to_thread(next, pages, None):
        await asyncio.to_thread(_record, place, archive, page)
        total += len(page)
        observer.found(len(page))
    return total


def _pages(found: Iterator[FoundStudy]) -> Iterator[list[FoundStudy]]:
    page: list[FoundStudy] = []
    for study in found:
        page.append(study)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


def _record(place: Workplace, archive: str, page: list[FoundStudy]) -> None:
    """Write one page to the ledger; where the archive announces no counts, list the instances of what is at rest."""
    recipe = place.drafter.recipe
    place.store.record_found(archive, recipe, page)
    for resting in place.store.needs_listing(archive, recipe, page):
        try:
            announced = place.archive(archive).instances(resting.study_instance_uid)
        except SkipStudy:
            continue  # gone since it was found: its stored report stays as it is
        place.store.record_announced(resting.ledger_id, announced_digest(announced), len(announced))
