"""Many studies through the path at the same time: retrieve and decode, encode, write, store, each in its own lane.

Lanes are joined by short queues, so memory stays flat however long the backlog is. What is recorded of a run
(``environment.recorder``) is a batch of a lane, never an instance, and names no study.

No lane may wait for ever: whatever one of them raises cancels the others, so nothing here may swallow a cancellation.
``asyncio.wait_for`` does on Python 3.11 where its item comes at the same moment; ``asyncio.timeout`` does not.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from flows import stages
from flows.environment.observer import OBSERVER
from flows.environment.recorder import RECORDER
from flows.environment.stopping import LaneThreads
from flows.environment.workplace import Workplace
from flows.path import RetrievedStudy
from flows.tally import Tally, count
from pipeline.errors import StopRun
from pipeline.ledger import Claim, LedgerState, ReportOutcome, SettledOutcome, WorkFilter

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

RETRIEVING_BATCHES = 2
AHEAD_LEAST = 4
FILL_SECONDS = 0.2
LANE_THREADS = 8
LAST_ANSWER_SECONDS = 3.0
"""How long a run that ends waits for claims on their way; what comes later is freed by the end of its process."""


class _Lanes:
    """The queues between the lanes, the claims in flight and the outcomes so far."""

    def __init__(self, batch: int) -> None:
        """``batch`` studies in a batch."""
        self.batch = batch
        # Decoded films, megabytes each, wait in memory: no more than keep the next batch filling while one is encoded.
        self.brought: asyncio.Queue[RetrievedStudy | None] = asyncio.Queue(max(AHEAD_LEAST, batch // 4))
        self.encoded: asyncio.Queue[stages.ModelBatch | None] = asyncio.Queue(1)
        self.outcomes: asyncio.Queue[Sequence[ReportOutcome | SettledOutcome] | None] = asyncio.Queue(4)
        self.claims: dict[int, Claim] = {}
        self.idle = asyncio.Event()
        """Nothing is claimed."""
        self.idle.set()
        self.settled: list[LedgerState | None] = []

    def hold(self, claims: Sequence[Claim]) -> None:
        """Claims that are ours until their outcome is stored or they are given back."""
        self.claims.update({claim.ledger_id: claim for claim in claims})
        if claims:
            self.idle.clear()

    def done(
        self, outcomes: Sequence[ReportOutcome | SettledOutcome], states: Sequence[LedgerState | None]
    ) -> None:
        """Outcomes that are stored, with where their studies came to rest."""
        self.settled.extend(states)
        for outcome in outcomes:
            self.claims.pop(outcome.claim.ledger_id, None)
        if not self.claims:
            self.idle.set()


async def drain(workplace: Workplace, *wanted: WorkFilter) -> Tally:
    """Work until no wanted row of one archive can be claimed; returns the tally of what came to rest.

    The model is opened by the first batch that has to be encoded, while the next studies are retrieved.

    Raises StopRun when the run is unsound, RetryLater when Postgres stays away; claims are given back either way.
    """
    concurrency = workplace.settings.archives[wanted[0].archive or ""].concurrency
    asyncio.get_running_loop().set_default_executor(LaneThreads(concurrency + LANE_THREADS))
    if held := await asyncio.to_thread(workplace.store.until_free):
        log.info("what a process that has died holds can be had in %.0f s", held)
        await asyncio.sleep(held)
    begun = await asyncio.to_thread(workplace.store.now)
    lanes = _Lanes(workplace.settings.model.generate_batch)
    workplace.over = False
    try:
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(_renew(workplace, lanes))
            group.create_task(
                _retrieve(workplace, [replace(one, begun=begun) for one in wanted], concurrency, lanes)
            )
            group.create_task(_encode(workplace, lanes))
            group.create_task(_write(workplace, lanes))
            await group.create_task(_store(workplace, lanes))
            renewing.cancel()
    except BaseException as error:
        workplace.over = True
        if isinstance(error, BaseExceptionGroup):
            raise _first(error) from None
        raise
    finally:
        count(Tally().plus(lanes.settled))
        if lanes.claims:
            await asyncio.to_thread(workplace.store.release, list(lanes.claims.values()))
    return Tally().plus(lanes.settled)


async def _retrieve(
    workplace: Workplace, wanted: Sequence[WorkFilter], concurrency: int, lanes: _Lanes
) -> None:
    """Claim batch after batch, two in flight so that one stalled study holds nobody up.

    Those over whom a process died come last, each alone: the next death is nobody else's.
    """
    studies = asyncio.Semaphore(concurrency)
    batches = asyncio.Semaphore(RETRIEVING_BATCHES)

    async def deliver(arrived: RetrievedStudy | SettledOutcome) -> None:
        OBSERVER.get().retrieved(1)
        if isinstance(arrived, RetrievedStudy):
            await lanes.brought.put(arrived)
        else:
            await lanes.outcomes.put([arrived])

    async def retrieve(claims: Sequence[Claim]) -> None:
        try:
            await RECORDER.get().do(
                stages.retrieve, stages.RetrieveBatch(workplace, claims, studies, deliver)
            )
        finally:
            batches.release()

    async with asyncio.TaskGroup() as group:
        while True:
            await batches.acquire()
            claims = await _claimed(workplace, wanted, lanes)
            if not claims:
                break
            OBSERVER.get().claimed(len(claims))
            group.create_task(retrieve(claims))
    for alone in await asyncio.to_thread(_suspects, workplace, wanted):
        await lanes.idle.wait()
        if claims := await _claimed(workplace, [alone], lanes):
            log.warning(
                "ledger row %d: a process died while it worked on it; it is tried alone", claims[0].ledger_id
            )
            OBSERVER.get().claimed(len(claims))
            await batches.acquire()
            await retrieve(claims)
    await lanes.brought.put(None)


async def _claimed(workplace: Workplace, wanted: Sequence[WorkFilter], lanes: _Lanes) -> list[Claim]:
    """The next batch of claims, held. Those whose answer comes with a cancellation are held too, to be given back."""
    return await _kept(asyncio.to_thread(_claim, workplace, wanted, lanes.batch), lanes.hold)


async def _kept(work: Coroutine[Any, Any, Answer], keep: Callable[[Answer], None]) -> Answer:
    """The answer of ``work``, kept, also where a cancellation comes while it is on its way: it is done all the same."""
    working = asyncio.ensure_future(work)
    try:
        answer = await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working}, timeout=LAST_ANSWER_SECONDS)
        if working.done() and not working.cancelled() and working.exception() is None:
            keep(working.result())
        raise
    keep(answer)
    return answer


async def _encode(workplace: Workplace, lanes: _Lanes) -> None:
    """Batch what has been brought; a batch is full, or nothing more arrived for a moment."""
    ended = False
    while not ended:
        batch, ended = await _fill(lanes)
        if batch:
            for encoded in await RECORDER.get().do(stages.encode, stages.ModelBatch(workplace, batch)):
                if encoded.outcomes:
                    await lanes.outcomes.put(encoded.outcomes)
                else:
                    await lanes.encoded.put(encoded)
    await lanes.encoded.put(None)


async def _fill(lanes: _Lanes) -> tuple[list[RetrievedStudy], bool]:
    batch: list[RetrievedStudy] = []
    while len(batch) < lanes.batch:
        try:
            async with asyncio.timeout(FILL_SECONDS if batch else None):
                brought = await lanes.brought.get()
        except TimeoutError:
            return batch, False
        if brought is None:
            return batch, True
        batch.append(brought)
    return batch, False


async def _write(workplace: Workplace, lanes: _Lanes) -> None:
    """Write batch after batch, as many at the same time as the model joins into one."""
    encoded = await lanes.encoded.get()
    if encoded is not None:  # so the model is open
        await _write_from(encoded, asyncio.Semaphore(workplace.drafter.batches_together), lanes)
    await lanes.outcomes.put(None)


async def _write_from(first: stages.ModelBatch, free: asyncio.Semaphore, lanes: _Lanes) -> None:
    async def write(encoded: stages.ModelBatch) -> None:
        try:
            await lanes.outcomes.put(await RECORDER.get().do(stages.write, encoded))
        finally:
            free.release()

    encoded: stages.ModelBatch | None = first
    async with asyncio.TaskGroup() as group:
        await free.acquire()
        while encoded is not None:
            group.create_task(write(encoded))
            await free.acquire()
            encoded = await lanes.encoded.get()


async def _store(workplace: Workplace, lanes: _Lanes) -> None:
    while (outcomes := await lanes.outcomes.get()) is not None:
        done = partial(lanes.done, outcomes)
        await _kept(RECORDER.get().do(stages.store, stages.OutcomeBatch(workplace, outcomes)), done)
        OBSERVER.get().settled(len(outcomes))


async def _renew(workplace: Workplace, lanes: _Lanes) -> None:
    """Keep the leases of what is in flight; a lost one is refused by its token when it is stored."""
    lease = workplace.settings.policy.lease_seconds
    while True:
        await asyncio.sleep(lease / 3)
        if lanes.claims:
            lost = await asyncio.to_thread(workplace.store.renew, list(lanes.claims.values()), lease)
            if lost:
                log.warning("%d leases were lost; their studies are worked on elsewhere", len(lost))


def _claim(workplace: Workplace, wanted: Sequence[WorkFilter], limit: int) -> list[Claim]:
    """The next rows of the first of ``wanted`` that has any."""
    for one in wanted:
        claims = workplace.store.claim(
            workplace.recipe_of(one.archive or ""),
            one,
            owner=workplace.owner,
            limit=limit,
            lease_seconds=workplace.settings.policy.lease_seconds,
        )
        if claims:
            return claims
    return []


def _suspects(workplace: Workplace, wanted: Sequence[WorkFilter]) -> list[WorkFilter]:
    """Each study over which a process may have died, as a filter of its own; a claim says whether it did."""
    suspects: dict[int, WorkFilter] = {}
    for one in wanted:
        for ledger_id in workplace.store.suspects(workplace.recipe_of(one.archive or ""), one):
            suspects.setdefault(ledger_id, replace(one, ledger_ids=(ledger_id,), alone=True))
    return list(suspects.values())


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ends the run: a StopRun before another error, and that before what asks the process to end."""
    found: list[BaseException] = []

    def gather(group: Iterable[BaseException]) -> None:
        for error in group:
            if isinstance(error, BaseExceptionGroup):
                gather(error.exceptions)
            else:
                found.append(error)

    gather(errors.exceptions)
    stops = [error for error in found if isinstance(error, StopRun)]
    faults = [error for error in found if isinstance(error, Exception)]
    return (stops or faults or found)[0]
