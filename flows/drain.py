"""Many studies through the path at the same time: retrieve and decode, encode, write, store, each in its own lane.

Lanes are joined by short queues, so memory stays flat however long the backlog is. One Prefect task handles
one batch of one lane. Its argument is an object in memory, so that Prefect never stores what names a study.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, datetime

from flows import stages
from flows.environment.observer import OBSERVER
from flows.environment.workplace import Workplace
from flows.path import RetrievedStudy
from flows.tally import Tally
from pipeline.errors import StopRun
from pipeline.ledger import Claim, LedgerState, ReportOutcome, RestOutcome

log = logging.getLogger(__name__)

RETRIEVING_BATCHES = 2
FILL_SECONDS = 0.2
LANE_THREADS = 8


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which ledger rows to work on: of one archive, within study dates, or named by ledger id.

    What failed after ``begun`` (the server's time) waits for another run.
    """

    archive: str
    since: date | None = None
    until: date | None = None
    ledger_ids: tuple[int, ...] | None = None
    begun: datetime | None = None


class _Lanes:
    """The queues between the lanes, the claims in flight and the outcomes so far."""

    def __init__(self, batch: int, together: int) -> None:
        """``batch`` studies in a batch, ``together`` batches written at the same time."""
        self.batch, self.together = batch, together
        self.brought: asyncio.Queue[RetrievedStudy | None] = asyncio.Queue(2 * batch)
        self.encoded: asyncio.Queue[stages.ModelBatch | None] = asyncio.Queue(1)
        self.outcomes: asyncio.Queue[Sequence[ReportOutcome | RestOutcome] | None] = asyncio.Queue(4)
        self.claims: dict[int, Claim] = {}
        self.rested: list[LedgerState | None] = []


async def drain(place: Workplace, wanted: Wanted) -> Tally:
    """Work until no wanted row can be claimed; returns the tally of what came to rest.

    Raises StopRun when the run is unsound, RetryLater when Postgres stays away; claims are given back either way.
    """
    threads = place.settings.archives[wanted.archive].concurrency + LANE_THREADS
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(threads, thread_name_prefix="lane"))
    drafter = await asyncio.to_thread(lambda: place.drafter)  # loaded before anything is claimed
    begun = await asyncio.to_thread(place.store.now)
    lanes = _Lanes(place.settings.model.generate_batch, drafter.batches_together)
    try:
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(_renew(place, lanes))
            group.create_task(_retrieve(place, replace(wanted, begun=begun), lanes))
            group.create_task(_encode(place, lanes))
            group.create_task(_write(place, lanes))
            await group.create_task(_store(place, lanes))
            renewing.cancel()
    except BaseExceptionGroup as errors:
        raise _first(errors) from None
    finally:
        if lanes.claims:
            await asyncio.to_thread(place.store.release, list(lanes.claims.values()))
    return Tally().plus(lanes.rested)


async def _retrieve(place: Workplace, wanted: Wanted, lanes: _Lanes) -> None:
    """Claim batch after batch, two in flight so that one stalled study holds nobody up."""
    settings = place.settings.archives[wanted.archive]
    studies = asyncio.Semaphore(settings.concurrency)
    batches = asyncio.Semaphore(RETRIEVING_BATCHES)

    async def deliver(arrived: RetrievedStudy | RestOutcome) -> None:
        OBSERVER.get().retrieved(1)
        if isinstance(arrived, RetrievedStudy):
            await lanes.brought.put(arrived)
        else:
            await lanes.outcomes.put([arrived])

    async def retrieve(claims: Sequence[Claim]) -> None:
        try:
            await stages.retrieve(stages.RetrieveBatch(place, claims, studies, deliver))
        finally:
            batches.release()

    async with asyncio.TaskGroup() as group:
        while True:
            await batches.acquire()
            claims = await asyncio.to_thread(_claim, place, wanted, lanes.batch)
            if not claims:
                break
            lanes.claims.update({claim.ledger_id: claim for claim in claims})
            OBSERVER.get().claimed(len(claims))
            group.create_task(retrieve(claims))
    await lanes.brought.put(None)


async def _encode(place: Workplace, lanes: _Lanes) -> None:
    """Batch what has been brought; a batch is full, or nothing more arrived for a moment."""
    ended = False
    while not ended:
        batch, ended = await _fill(lanes)
        if batch:
            for parcel in await stages.encode(stages.ModelBatch(place, batch)):
                if parcel.outcomes:
                    await lanes.outcomes.put(parcel.outcomes)
                else:
                    await lanes.encoded.put(parcel)
    await lanes.encoded.put(None)


async def _fill(lanes: _Lanes) -> tuple[list[RetrievedStudy], bool]:
    batch: list[RetrievedStudy] = []
    while len(batch) < lanes.batch:
        try:
            brought = await (
                lanes.brought.get() if not batch else asyncio.wait_for(lanes.brought.get(), FILL_SECONDS)
            )
        except TimeoutError:
            return batch, False
        if brought is None:
            return batch, True
        batch.append(brought)
    return batch, False


async def _write(place: Workplace, lanes: _Lanes) -> None:
    """Write batch after batch, as many at the same time as the model joins into one."""
    free = asyncio.Semaphore(lanes.together)

    async def write(parcel: stages.ModelBatch) -> None:
        try:
            await lanes.outcomes.put(await stages.write(parcel))
        finally:
            free.release()

    async with asyncio.TaskGroup() as group:
        while True:
            await free.acquire()
            if (parcel := await lanes.encoded.get()) is None:
                break
            group.create_task(write(parcel))
    await lanes.outcomes.put(None)


async def _store(place: Workplace, lanes: _Lanes) -> None:
    while (outcomes := await lanes.outcomes.get()) is not None:
        states = await stages.store(stages.OutcomeBatch(place, outcomes))
        lanes.rested.extend(states)
        for outcome in outcomes:
            lanes.claims.pop(outcome.claim.ledger_id, None)
        OBSERVER.get().rested(len(outcomes))


async def _renew(place: Workplace, lanes: _Lanes) -> None:
    """Keep the leases of what is in flight; a lost one is refused by its token when it is stored."""
    lease = place.settings.policy.lease_seconds
    while True:
        await asyncio.sleep(lease / 3)
        if lanes.claims:
            lost = await asyncio.to_thread(place.store.renew, list(lanes.claims.values()), lease)
            if lost:
                log.warning("%d leases were lost; their studies are worked on elsewhere", len(lost))


def _claim(place: Workplace, wanted: Wanted, limit: int) -> list[Claim]:
    return place.store.claim(
        place.drafter.recipe,
        owner=place.owner,
        limit=limit,
        lease_seconds=place.settings.policy.lease_seconds,
        archive=wanted.archive,
        ledger_ids=wanted.ledger_ids,
        since=wanted.since,
        until=wanted.until,
        begun=wanted.begun,
    )


def _first(errors: BaseExceptionGroup[BaseException]) -> Exception:
    """The error that ends the run: a StopRun before anything else."""
    found: list[Exception] = []

    def gather(group: Iterable[BaseException]) -> None:
        for error in group:
            if isinstance(error, BaseExceptionGroup):
                gather(error.exceptions)
            elif isinstance(error, Exception):
                found.append(error)

    gather(errors.exceptions)
    stops = [error for error in found if isinstance(error, StopRun)]
    return (stops or found)[0]
