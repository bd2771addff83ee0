"""The stages: each does one batch, in threads. A recorder may keep a record of the batch (``environment.recorder``).

Arguments and results are opaque parcels held in memory. A record holds the text of an exception, so only our own
errors, free of patient data, may leave a stage.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from flows import path
from flows.environment.recorder import RECORDER
from flows.environment.workplace import Workplace
from flows.path import RetrievedStudy
from flows.received import remove_received
from models.drafter import Encoded
from pipeline.errors import LostClaim, StopRun
from pipeline.ledger import Claim, LedgerState, ReportOutcome, RestOutcome

log = logging.getLogger(__name__)

Outcome = ReportOutcome | RestOutcome


class RetrieveBatch:
    """A batch of claims to retrieve, the limit on studies at once, and where each goes as it arrives."""

    def __init__(
        self,
        place: Workplace,
        claims: Sequence[Claim],
        studies: asyncio.Semaphore,
        deliver: Callable[[RetrievedStudy | RestOutcome], Awaitable[None]],
    ) -> None:
        self.place = place
        self.claims = claims
        self.studies = studies
        self.deliver = deliver


class ModelBatch:
    """A batch on its way through the model: brought, then encoded; or the outcomes of what could not be encoded."""

    def __init__(
        self,
        place: Workplace,
        brought: Sequence[RetrievedStudy],
        encoded: Encoded | None = None,
        outcomes: Sequence[Outcome] = (),
    ) -> None:
        self.place = place
        self.brought = brought
        self.encoded = encoded
        self.outcomes = outcomes


class OutcomeBatch:
    """Outcomes to be committed."""

    def __init__(self, place: Workplace, outcomes: Sequence[Outcome]) -> None:
        self.place = place
        self.outcomes = outcomes


async def retrieve(errand: RetrieveBatch) -> None:
    """Bring each study of the batch; the limit that a site sets for all its runs at this archive is respected."""
    store, archive = errand.place.store, errand.claims[0].archive
    uids = [claim.study_instance_uid for claim in errand.claims]
    pushed = await asyncio.to_thread(store.received_among, archive, uids)

    async def one(claim: Claim) -> None:
        async with errand.studies:
            in_inbox = claim.study_instance_uid in pushed
            arrived = await asyncio.to_thread(path.bring, errand.place, claim, pushed=in_inbox)
            await errand.deliver(arrived)

    async with RECORDER.get().place_at(archive):
        await asyncio.gather(*(one(claim) for claim in errand.claims))


async def encode(parcel: ModelBatch) -> list[ModelBatch]:
    """Encode the batch; where it fails as a whole each study is tried alone: one cannot take the others down."""
    return await asyncio.to_thread(_encode, parcel)


async def write(parcel: ModelBatch) -> list[Outcome]:
    """Draft, check and build the resources of an encoded batch."""
    return await asyncio.to_thread(_write, parcel)


async def store(ledgerful: OutcomeBatch) -> list[LedgerState | None]:
    """Commit each outcome in its own transaction; returns the resting states, None for what was unchanged."""
    return await asyncio.to_thread(_store, ledgerful)


def _encode(parcel: ModelBatch) -> list[ModelBatch]:
    place, brought = parcel.place, parcel.brought
    try:
        return [ModelBatch(place, brought, _encoded(place, brought))]
    except StopRun:
        raise
    except Exception as error:  # noqa: BLE001 - isolated below, recorded per study
        if len(brought) > 1:
            return [part for one in brought for part in _encode(ModelBatch(place, [one]))]
        return [
            ModelBatch(
                place, (), outcomes=[path.rest(place, brought[0].claim, error, brought[0].completeness)]
            )
        ]


def _encoded(place: Workplace, brought: Sequence[RetrievedStudy]) -> Encoded:
    return place.drafter.encode([one.image_set for one in brought], [one.given for one in brought])


def _write(parcel: ModelBatch) -> list[Outcome]:
    place, brought = parcel.place, parcel.brought
    if parcel.encoded is None:
        return list(parcel.outcomes)
    try:
        drafts = place.drafter.write(parcel.encoded)
    except StopRun:
        raise
    except Exception as error:  # noqa: BLE001 - isolated below, recorded per study
        if len(brought) == 1:
            return [path.rest(place, brought[0].claim, error, brought[0].completeness)]
        alone = (part for one in brought for part in _encode(ModelBatch(place, [one])))
        return [outcome for part in alone for outcome in _write(part)]
    place.store.advance([one.claim for one in brought], LedgerState.DRAFTED)
    return [path.outcome_of(place, one, draft) for one, draft in zip(brought, drafts, strict=True)]


def _store(ledgerful: OutcomeBatch) -> list[LedgerState | None]:
    place = ledgerful.place
    named = {outcome.claim.ledger_id for outcome in ledgerful.outcomes if outcome.received}
    reports = [outcome for outcome in ledgerful.outcomes if isinstance(outcome, ReportOutcome)]
    rests = [outcome for outcome in ledgerful.outcomes if isinstance(outcome, RestOutcome)]
    states: list[LedgerState | None] = []
    done: list[Claim] = []
    archive = ledgerful.outcomes[0].claim.archive if ledgerful.outcomes else ""
    for outcome, saved in zip(reports, place.store.save_many(reports), strict=True):
        if isinstance(saved, LostClaim):
            states.append(None)
        elif isinstance(saved, Exception):
            rests.append(path.rest(place, outcome.claim, saved, outcome.completeness, outcome.received))
        else:
            states.append(LedgerState.REPORTED)
            done.append(outcome.claim)
    for rest, refused in zip(rests, place.store.rest_many(rests), strict=True):
        lost = isinstance(refused, LostClaim)
        states.append(None if lost or rest.code == path.UNCHANGED else rest.state)
        if refused is None and rest.state is not LedgerState.FAILED:
            done.append(rest.claim)
    remove_received(
        place.store, archive, [claim.study_instance_uid for claim in done if claim.ledger_id in named]
    )
    return states
