"""The flows as Prefect knows them: the same path, recorded. ``prefect.yaml`` deploys these.

Nothing else imports Prefect but ``lost_runs`` and the event of ``firstread listen``; a command imports this where the
site has a Prefect API. A flow is a run, a task a batch of one lane; parameters are names, dates and ledger ids, and
what leaves a flow is an error of ours without patient data, because Prefect stores its text.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from prefect import State, flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.concurrency.asyncio import concurrency
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Completed, Failed
from pydantic import Field

from flows import sweep as plain
from flows.environment.outliving import whole
from flows.environment.recorder import RECORDER
from flows.environment.stopping import watch_again
from flows.lost_runs import note_and_mend
from flows.tally import Tally
from pipeline import settings as configuration
from pipeline.errors import FirstreadError, StopRun
from pipeline.store.store import Store
from pipeline.unexpected import only_ours

log = logging.getLogger(__name__)

Batch = TypeVar("Batch")
Outcome = TypeVar("Outcome")


class InPrefect:
    """The recorder that keeps a task run for every batch of a stage."""

    async def do(self, stage: Callable[[Batch], Awaitable[Outcome]], batch: Batch) -> Outcome:
        """The outcome of ``stage``, recorded as a task run under its name."""
        outcome: Outcome = await _task(stage)(batch)
        return outcome

    async def began(self, store: Store) -> None:
        """See ``lost_runs``."""
        await note_and_mend(store)

    def place_at(self, archive: str) -> AbstractAsyncContextManager[None]:
        """One slot of the global concurrency limit ``archive-NAME``, where the site made one."""
        return _slot(f"archive-{archive}")


@cache
def _task(stage: Callable[[Any], Awaitable[Any]]) -> Any:
    name = getattr(stage, "__name__", "stage")
    return task(name=name, cache_policy=NO_CACHE, persist_result=False)(only_ours(name)(stage))


@asynccontextmanager
async def _slot(limit: str) -> AsyncIterator[None]:
    """A slot of the limit where it exists. Prefect is a record: without its answer the work goes on."""
    if not await _exists(limit):
        yield
        return
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(concurrency(limit, occupy=1, lease_duration=60))
        except Exception as error:  # noqa: BLE001 - whatever keeps Prefect from granting it
            log.warning("no slot of %s could be had (%s); the work goes on", limit, type(error).__name__)
        yield


async def _exists(limit: str) -> bool:
    if limit not in _LIMITS:
        try:
            async with get_client() as client:
                await client.read_global_concurrency_limit_by_name(limit)
            _LIMITS[limit] = True
        except ObjectNotFound:
            _LIMITS[limit] = False
        except Exception as error:  # noqa: BLE001 - asked again with the next batch
            log.warning("Prefect cannot be asked for %s (%s); the work goes on", limit, type(error).__name__)
            return False
    return _LIMITS[limit]


_LIMITS: dict[str, bool] = {}
"""Global concurrency limits that this process has asked for."""


@flow(name="sweep", persist_result=False)
async def sweep(
    archive: str = "main",
    since: date | None = None,
    until: date | None = None,
    days: Annotated[int, Field(ge=0, le=plain.MOST_DAYS)] | None = None,
    config: str = "",
    model: str = "",
    language: str = "",
) -> State[Tally]:
    """See ``flows.sweep.sweep``; a scheduled run that comes late has nothing to do where another swept since."""
    due = runtime.flow_run.scheduled_start_time
    return await _recorded(plain.sweep(archive, since, until, days, config, model, language, due), config)


@flow(name="draft", persist_result=False)
async def draft(
    archive: str = "main",
    study: str = "",
    ledger_ids: list[int] | None = None,
    config: str = "",
    model: str = "",
    language: str = "",
) -> State[Tally]:
    """See ``flows.sweep.draft``."""
    return await _recorded(plain.draft(archive, study, ledger_ids, config, model, language), config)


@flow(name="backfill", persist_result=False)
async def backfill(
    since: date,
    until: date,
    archive: str = "main",
    window_days: Annotated[int, Field(ge=1, le=plain.MOST_WINDOW)] = 7,
    config: str = "",
    model: str = "",
    language: str = "",
) -> State[Tally]:
    """See ``flows.sweep.backfill``."""
    run = plain.backfill(since, until, archive, window_days, config, model, language)
    return await _recorded(run, config)


async def drafted_warm(batch: Callable[[], Awaitable[Tally]], config: str) -> Tally:
    """A batch of ``firstread work``, recorded as a run of the flow ``draft`` without parameters."""

    @flow(name="draft", persist_result=False)
    async def draft_pushed() -> State[Tally]:
        return await _recorded(batch(), config)

    return await tally_of(draft_pushed)


@dataclass(slots=True)
class _Ended:
    """What came of a run, whatever Prefect could be told of it."""

    told: Tally | FirstreadError | None = None


_ENDED: ContextVar[_Ended | None] = ContextVar("ended", default=None)


async def tally_of(run: Any, **parameters: Any) -> Tally:
    """Run one of the flows here and return its tally, whatever state it ends in; raises what it raised.

    Prefect is a record: where its API is lost meanwhile, the run ends as it would have. Raises StopRun("prefect-away")
    where it was lost before the run began.
    """
    ended = _Ended()
    _ENDED.set(ended)
    try:
        state = await run(**parameters, return_state=True)
        told = await state.aresult(raise_on_failure=False)
    except FirstreadError as error:
        told = error
    except Exception as error:  # noqa: BLE001 - of Prefect's client, whose words may be an answer of the server
        if ended.told is None:
            told = StopRun(
                "prefect-away", f"the Prefect API did not take this run ({type(error).__name__}): see its log"
            )
        else:
            log.warning(
                "Prefect was not told how this run ended (%s); the ledger has it", type(error).__name__
            )
            told = ended.told
    if isinstance(told, BaseException):
        raise told
    tally: Tally = told
    return tally


@only_ours("the run")
async def _recorded(run: Awaitable[Tally], config: str) -> State[Tally]:
    """The state of a run recorded in Prefect: its message has the counts. A paused site cancels it, with who and why.

    Only errors of ours leave it: Prefect stores their text.
    """
    watch_again()
    RECORDER.set(InPrefect())
    asked = _ENDED.get()
    ended = asked or _Ended()
    try:
        ended.told = tally = await run
        if asked is None:  # a worker's run: nobody else adds what processes of it had done that died
            tally = whole(tally)
    except FirstreadError as error:
        ended.told = error
        if error.code != "paused":
            raise
        return Cancelled(message=error.message, data=error)
    policy = configuration.load(Path(config) if config else None).prefect.failed_studies
    state = Failed if tally.exit_code and policy == "failed" else Completed
    return state(message=tally.sentence(), data=tally)
