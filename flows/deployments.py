"""The flows as Prefect knows them: the same path, recorded. ``prefect.yaml`` deploys these.

Nothing else imports Prefect but the event of ``firstread listen``; a command imports this where the site has a Prefect
API. A flow is a run, a task a batch of one lane; parameters are names, dates and ledger ids, and what leaves a flow is
an error of ours without patient data, because Prefect stores its text.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import date
from functools import cache
from typing import Any, TypeVar

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import sweep as plain
from flows.environment.recorder import RECORDER
from flows.tally import Tally
from pipeline.unexpected import only_ours

Batch = TypeVar("Batch")
Outcome = TypeVar("Outcome")


class InPrefect:
    """The recorder that keeps a task run for every batch of a stage."""

    async def do(self, stage: Callable[[Batch], Awaitable[Outcome]], batch: Batch) -> Outcome:
        """The outcome of ``stage``, recorded as a task run under its name."""
        outcome: Outcome = await _task(stage)(batch)
        return outcome

    def place_at(self, archive: str) -> AbstractAsyncContextManager[None]:
        """One slot of the global concurrency limit ``archive-NAME``, where the site made one."""
        return _slot(f"archive-{archive}")


@cache
def _task(stage: Callable[[Any], Awaitable[Any]]) -> Any:
    name = getattr(stage, "__name__", "stage")
    return task(name=name, cache_policy=NO_CACHE, persist_result=False)(only_ours(name)(stage))


@asynccontextmanager
async def _slot(limit: str) -> AsyncIterator[None]:
    from prefect.concurrency.asyncio import concurrency

    async with concurrency(limit, occupy=1, lease_duration=60):
        yield


@flow(name="sweep", persist_result=False)
async def sweep(
    archive: str = "main",
    since: date | None = None,
    until: date | None = None,
    days: int | None = None,
    config: str = "",
    model: str = "",
    language: str = "",
) -> Tally:
    """See ``flows.sweep.sweep``."""
    return await _recorded(plain.sweep(archive, since, until, days, config, model, language))


@flow(name="draft", persist_result=False)
async def draft(
    archive: str = "main",
    study: str = "",
    ledger_ids: list[int] | None = None,
    config: str = "",
    model: str = "",
    language: str = "",
) -> Tally:
    """See ``flows.sweep.draft``."""
    return await _recorded(plain.draft(archive, study, ledger_ids, config, model, language))


@flow(name="backfill", persist_result=False)
async def backfill(
    since: date,
    until: date,
    archive: str = "main",
    window_days: int = 7,
    config: str = "",
    model: str = "",
    language: str = "",
) -> Tally:
    """See ``flows.sweep.backfill``."""
    return await _recorded(plain.backfill(since, until, archive, window_days, config, model, language))


@only_ours("the run")
async def _recorded(run: Awaitable[Tally]) -> Tally:
    """The run with Prefect as its recorder. Only errors of ours leave it: Prefect stores their text."""
    RECORDER.set(InPrefect())
    return await run
