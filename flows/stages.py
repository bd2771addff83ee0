"""The stages: each does one batch, in threads. A recorder may keep a record of the batch (``environment.recorder``).

Arguments and results are opaque parcels held in memory. A record holds the text of an exception, so only our own
errors, free of patient data, may leave a stage.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from flows import path
from flows.environment.outliving import stored, storing
from flows.environment.recorder import RECORDER
from flows.environment.workplace import Workplace
from flows.path import RetrievedStudy
from flows.received import remove_received
from models.drafter import Encoded
from pipeline.errors import LostClaim, StopRun
from pipeline.ledger import Claim, LedgerState, ReportOutcome, SettledOutcome

log = logging.getLogger(__name__)

Outcome = ReportOutcome | SettledOutcome
Answer = TypeVar("Answer")


class RetrieveBatch:
    """A batch of claims to retrieve, the limit on studies at once, and where each goes as it arrives."""

    def __init__(
        self,
        workplace: Workplace,
        claims: Sequence[Claim],
        studies: asyncio.Semaphore,
        deliver: Callable[[RetrievedStudy | SettledOutcome], Awaitable[None]],
    ) -> None:
        self.workplace = workplace
        self.claims = claims
        self.studies = studies
        self.deliver = deliver


class ModelBatch:
    """A batch on its way through the model: brought, then encoded; or the outcomes of what could not be encoded."""

    def __init__(
        self,
        workplace: Workplace,
        brought: Sequence[RetrievedStudy],
        encoded: Encoded | None = None,
        outcomes: Sequence[Outcome] = (),
    ) -> None:
        self.workplace = workplace
        self.brought = brought
        self.encoded = encoded
        self.outcomes = outcomes


class OutcomeBatch:
    """Outcomes to be committed."""

    def __init__(self, workplace: Workplace, outcomes: Sequence[Outcome]) -> None:
        self.workplace = workplace
        self.outcomes = outcomes


async def retrieve(batch: RetrieveBatch) -> None:
    """Bring each study of the batch; the limit that a site sets for all its runs at this archive is respected."""
    store, archive = batch.workplace.store, batch.claims[0].archive
    uids = [claim.study_instance_uid for claim in batch.claims]
    pushed = await asyncio.to_thread(store.inbox.studies_among, archive, uids)

    async def one(claim: Claim) -> None:
        async with batch.studies:
            in_inbox = claim.study_instance_uid in pushed
            arrived = await asyncio.to_thread(_bring, batch.workplace, claim, in_inbox)
            await batch.deliver(arrived)

    async with RECORDER.get().place_at(archive):
        await asyncio.gather(*(one(claim) for claim in batch.claims))


async def encode(batch: ModelBatch) -> list[ModelBatch]:
    """Encode the batch; where it fails as a whole each study is tried alone: one cannot take the others down."""
    return await asyncio.to_thread(_at_work, batch, _encode)


async def write(batch: ModelBatch) -> list[Outcome]:
    """Draft, check and build the resources of an encoded batch."""
    return await asyncio.to_thread(_at_work, batch, _write)


async def store(batch: OutcomeBatch) -> list[LedgerState | None]:
    """Store each outcome, whole or not at all; returns the resting states, None for what was unchanged."""
    return await asyncio.to_thread(_store, batch)


def _bring(workplace: Workplace, claim: Claim, pushed: bool) -> RetrievedStudy | SettledOutcome:
    with workplace.at_work.on([claim]):
        return path.bring(workplace, claim, pushed=pushed)


def _at_work(batch: ModelBatch, work: Callable[[ModelBatch], Answer]) -> Answer:
    with batch.workplace.at_work.on([one.claim for one in batch.brought]):
        return work(batch)


def _encode(batch: ModelBatch) -> list[ModelBatch]:
    """Encoded batches, each of one model's studies."""
    by_model: dict[int, list[RetrievedStudy]] = {}
    for one in batch.brought:
        by_model.setdefault(id(batch.workplace.drafter_for(one.image_set)), []).append(one)
    return [
        part for studies in by_model.values() for part in _encode_alike(ModelBatch(batch.workplace, studies))
    ]


def _encode_alike(batch: ModelBatch) -> list[ModelBatch]:
    workplace, brought = batch.workplace, batch.brought
    try:
        encoded = _encoded(workplace, brought)
    except StopRun:
        raise
    except Exception as error:  # isolated below, recorded per study
        if workplace.over:
            raise
        if len(brought) > 1:
            return [part for one in brought for part in _encode_alike(ModelBatch(workplace, [one]))]
        return [_refused(workplace, brought, {0: error})]
    read = [one for row, one in enumerate(brought) if row not in encoded.refused]
    parts = [ModelBatch(workplace, read, encoded)] if read else []
    return [*parts, _refused(workplace, brought, encoded.refused)] if encoded.refused else parts


def _refused(
    workplace: Workplace, brought: Sequence[RetrievedStudy], refused: Mapping[int, Exception]
) -> ModelBatch:
    """What the studies at these places come to, without the writer."""
    named = [(brought[row], error) for row, error in refused.items()]
    outcomes = [path.settled(workplace, one.claim, error, one.completeness) for one, error in named]
    return ModelBatch(workplace, (), outcomes=outcomes)


def _encoded(workplace: Workplace, brought: Sequence[RetrievedStudy]) -> Encoded:
    drafter = workplace.drafter_for(brought[0].image_set)
    return drafter.encode([one.image_set for one in brought], [one.told.context for one in brought])


def _write(batch: ModelBatch) -> list[Outcome]:
    workplace, brought = batch.workplace, batch.brought
    if batch.encoded is None:
        return list(batch.outcomes)
    try:
        drafts = workplace.drafter_for(brought[0].image_set).write(batch.encoded)
    except StopRun:
        raise
    except Exception as error:  # isolated below, recorded per study
        if workplace.over:
            raise
        if len(brought) == 1:
            return [path.settled(workplace, brought[0].claim, error, brought[0].completeness)]
        alone = (part for one in brought for part in _encode(ModelBatch(workplace, [one])))
        return [outcome for part in alone for outcome in _write(part)]
    workplace.store.advance([one.claim for one in brought], LedgerState.DRAFTED)
    return [path.outcome_of(workplace, one, draft) for one, draft in zip(brought, drafts, strict=True)]


def _store(batch: OutcomeBatch) -> list[LedgerState | None]:
    workplace = batch.workplace
    named = {outcome.claim.ledger_id for outcome in batch.outcomes if outcome.received}
    reports = [outcome for outcome in batch.outcomes if isinstance(outcome, ReportOutcome)]
    others = [outcome for outcome in batch.outcomes if isinstance(outcome, SettledOutcome)]
    states: list[LedgerState | None] = []
    done: list[Claim] = []
    archive = batch.outcomes[0].claim.archive if batch.outcomes else ""
    storing(one.claim for one in batch.outcomes if not _is_unchanged(one))
    for outcome, saved in zip(reports, workplace.store.save_many(reports), strict=True):
        if isinstance(saved, LostClaim):
            states.append(None)
        elif isinstance(saved, Exception):
            others.append(
                path.settled(workplace, outcome.claim, saved, outcome.completeness, outcome.received)
            )
        else:
            states.append(LedgerState.REPORTED)
            done.append(outcome.claim)
    for other, refused in zip(others, workplace.store.settle_many(others), strict=True):
        lost = isinstance(refused, LostClaim)
        states.append(None if lost or _is_unchanged(other) else other.state)
        if refused is None and other.state is not LedgerState.FAILED:
            done.append(other.claim)
    stored(states)  # at once: what is stored when another thread ends this process is still to be counted
    remove_received(
        workplace.store, archive, [claim.study_instance_uid for claim in done if claim.ledger_id in named]
    )
    return states


def _is_unchanged(outcome: Outcome) -> bool:
    return isinstance(outcome, SettledOutcome) and outcome.code == path.UNCHANGED
