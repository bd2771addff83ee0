"""No lane of ``flows.drain`` waits for ever: whatever is raised, wherever, the run ends at once with that error.

The stages and the store are stand-ins that raise at one point of one stage: before it works, between two of its
awaits, after its work, at the first batch or a later one, and at every number of steps of the loop, so that the error
meets every await of the other lanes.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flows import drain, stages
from pipeline.errors import ConfigurationError, RetryLater, StopRun
from pipeline.ledger import Claim, LedgerState, WorkFilter

STUDIES, BATCH = 12, 2
ENDS_WITHIN = 20.0
STAGES = ("claim", "received", "bring", "encode", "write", "store", "renew")
ERRORS: tuple[Callable[[], Exception], ...] = (
    lambda: StopRun("weights", "not what they were"),
    lambda: ConfigurationError("unknown-question", "the model cannot answer this"),
    lambda: RetryLater("database-away", "away"),
    lambda: RuntimeError("a fault of ours"),
)


@dataclass
class Trouble:
    """Raises at the ``at``-th call of ``stage``, after ``steps`` turns of the loop."""

    stage: str
    at: int
    steps: int
    error: Callable[[], Exception]
    calls: dict[str, int] = field(default_factory=dict)
    raised: Exception | None = None

    def due(self, stage: str) -> bool:
        self.calls[stage] = self.calls.get(stage, 0) + 1
        return stage == self.stage and self.calls[stage] == self.at

    def call(self, stage: str) -> None:
        if self.due(stage):
            self.raised = self.error()
            raise self.raised

    async def pause(self, stage: str) -> None:
        if self.due(stage):
            for _ in range(self.steps):
                await asyncio.sleep(0)
            self.raised = self.error()
            raise self.raised
        await asyncio.sleep(0)


class Ledger:
    """Stands for the store: hands out claims, and knows which were given back."""

    def __init__(self, trouble: Trouble) -> None:
        self.trouble, self.next, self.held = trouble, 0, set[int]()

    def claim(self, recipe: str, wanted: WorkFilter, *, limit: int, **_: Any) -> list[Claim]:
        numbers = range(self.next, min(self.next + limit, STUDIES))
        self.next += len(numbers)
        self.held.update(numbers)
        self.trouble.call("claim")
        return [claim(number) for number in numbers]

    def suspects(self, *_: Any) -> tuple[int, ...]:
        return ()

    def until_free(self) -> float:
        return 0.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def renew(self, *_: Any) -> tuple[Claim, ...]:
        self.trouble.call("renew")
        return ()

    def release(self, claims: Sequence[Claim]) -> tuple[Claim, ...]:
        self.held.difference_update(one.ledger_id for one in claims)
        return ()


def claim(number: int) -> Claim:
    return Claim(number, "main", f"1.2.{number}", "recipe", "me", 1, 1, datetime.now(UTC), "", None)


def place(trouble: Trouble) -> Any:
    model = SimpleNamespace(generate_batch=BATCH)
    policy = SimpleNamespace(lease_seconds=0.003)
    archives = {"main": SimpleNamespace(concurrency=2)}
    drafter = SimpleNamespace(recipe="recipe", batches_together=2)
    settings = SimpleNamespace(model=model, policy=policy, archives=archives)
    return SimpleNamespace(
        settings=settings,
        drafter=drafter,
        recipe_of=lambda _: "recipe",
        owner="me",
        store=Ledger(trouble),
        over=False,
    )


def stand_in(monkeypatch: pytest.MonkeyPatch, trouble: Trouble) -> None:
    async def retrieve(batch: stages.RetrieveBatch) -> None:
        await trouble.pause("received")
        for one in batch.claims:
            await trouble.pause("bring")
            arrived: Any = SimpleNamespace(claim=one)
            monkeypatch.setattr(drain, "RetrievedStudy", SimpleNamespace)
            await batch.deliver(arrived)

    async def encode(batch: stages.ModelBatch) -> list[stages.ModelBatch]:
        await trouble.pause("encode")
        return [batch]

    async def write(batch: stages.ModelBatch) -> list[Any]:
        await trouble.pause("write")
        return list(batch.brought)

    async def store(batch: stages.OutcomeBatch) -> list[LedgerState | None]:
        await trouble.pause("store")
        at: Any = batch.workplace
        at.store.held.difference_update(outcome.claim.ledger_id for outcome in batch.outcomes)
        return [LedgerState.REPORTED for _ in batch.outcomes]

    for stage in (retrieve, encode, write, store):
        monkeypatch.setattr(stages, stage.__name__, stage)
    monkeypatch.setattr(drain, "FILL_SECONDS", 0.001)


def run(trouble: Trouble, monkeypatch: pytest.MonkeyPatch) -> tuple[Exception | None, Any, float]:
    """What the run raised, its place, and how long it took; fails where it does not end."""
    at = place(trouble)
    stand_in(monkeypatch, trouble)

    async def bounded(work: Awaitable[Any]) -> Any:
        running = asyncio.ensure_future(work)
        done, _ = await asyncio.wait({running}, timeout=ENDS_WITHIN)
        if not done:
            running.cancel()
            pytest.fail(f"the run still waits {ENDS_WITHIN:.0f} s after {trouble}")
        return running.result()

    started = time.monotonic()
    raised: Exception | None = None
    try:
        asyncio.run(bounded(drain.drain(at, WorkFilter("main"))))
    except Exception as error:
        raised = error
    return raised, at, time.monotonic() - started


@pytest.mark.parametrize("error", range(len(ERRORS)))
@pytest.mark.parametrize("at", [1, 2, 4])
@pytest.mark.parametrize("stage", STAGES)
def test_the_run_ends_with_the_error(
    stage: str, at: int, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for steps in (0, 1, 2, 3, 5, 8):
        trouble = Trouble(stage, at, steps, ERRORS[error])
        raised, ended, seconds = run(trouble, monkeypatch)
        assert seconds < ENDS_WITHIN
        if trouble.raised is None:
            assert stage == "renew", f"{stage} was called {trouble.calls.get(stage)} times"
            assert raised is None
        else:
            assert raised is trouble.raised
        assert not ended.store.held or stage == "claim", "what was claimed is given back"


def test_a_run_without_trouble_ends_well(monkeypatch: pytest.MonkeyPatch) -> None:
    raised, ended, _ = run(Trouble("", 0, 0, ERRORS[0]), monkeypatch)
    assert raised is None
    assert ended.store.next == STUDIES


@pytest.mark.parametrize("stage", ["encode", "write"])
def test_what_a_lane_meets_after_the_run_has_ended_is_no_fault_of_its_studies(
    stage: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Found by the chaos run: a full disk ended it, and a batch on its way met a model that was closed."""
    works = {"encode": stages.encode, "write": stages.write}[stage]
    at = place(Trouble("", 0, 0, ERRORS[0]))
    stand_in(monkeypatch, at.store.trouble)
    begun, closed, calls = threading.Event(), threading.Event(), list[int]()

    def meets_what_is_closed(*_: Any) -> None:
        calls.append(1)
        begun.set()
        assert closed.wait(20)
        raise RuntimeError("cannot schedule new futures after shutdown")

    at.drafter = SimpleNamespace(batches_together=1, encode=meets_what_is_closed, write=meets_what_is_closed)
    at.drafter_for, at.at_work = lambda _: at.drafter, SimpleNamespace(on=lambda _: nullcontext())

    async def one(batch: stages.ModelBatch) -> Any:
        studies: Any = [SimpleNamespace(claim=one.claim, image_set=None, told=SimpleNamespace(context=None))
                        for one in batch.brought]  # fmt: skip
        return await works(stages.ModelBatch(at, studies, encoded=cast(Any, object())))

    async def full(*_: Any) -> None:
        await asyncio.to_thread(begun.wait, 20)
        raise StopRun("disk-full", "no room")

    monkeypatch.setattr(stages, stage, one)
    monkeypatch.setattr(drain, "_renew", full)
    with pytest.raises(StopRun, match="disk-full"):
        asyncio.run(drain.drain(at, WorkFilter("main")))
    closed.set()
    for thread in threading.enumerate():
        if thread.name.startswith("lane"):
            thread.join(20)
    assert calls == [1], "nobody is tried alone after the end"
    assert not caplog.records


def test_an_item_that_comes_with_the_cancellation_does_not_swallow_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The moment that hung a run on Python 3.11: a study arrives while the lane is being cancelled."""

    async def moment() -> None:
        lanes = drain._Lanes(batch=4)
        monkeypatch.setattr(drain, "FILL_SECONDS", 60.0)
        filling = asyncio.create_task(drain._fill(lanes))
        study: Any = SimpleNamespace()
        lanes.brought.put_nowait(study)
        for _ in range(5):
            await asyncio.sleep(0)
        lanes.brought.put_nowait(study)
        filling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await filling

    asyncio.run(moment())
