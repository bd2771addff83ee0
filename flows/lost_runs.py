"""Flow runs whose process is gone: Prefect calls them Running for ever, the ledger knows better.

Each run says in its tags on which ledger it works and which process it is (``pipeline.store.presence``: Postgres drops
the sign of life with the process, however that ended). The next run ends the record of those that are gone as Crashed,
and has those started that a worker took and never began: on its own Prefect leaves them Pending.

Prefect is a record: whatever it answers here, the work goes on.
"""

import asyncio
import logging
from datetime import UTC, datetime

from prefect import runtime
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled, Crashed, Scheduled

from pipeline.store.store import Store
from pipeline.store.values import Processes

log = logging.getLogger(__name__)

OURS = "firstread"
"""The tag of every run of ours; ``prefect.yaml`` gives it to the runs of deployments before they begin."""
_LEDGER = "firstread-ledger-"
_PROCESS = "firstread-process-"
BEGIN_SECONDS = 900.0
"""A run that a worker took so long ago and that has not begun is lost."""
TAGS_SECONDS = 60.0
"""A run that a person started once more has the tags of its former process until it begins."""
_GONE = "its process is gone; the ledger has taken its studies up again"
_UNFINISHED = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]


async def note_and_mend(
    store: Store, begin_seconds: float = BEGIN_SECONDS, tags_seconds: float = TAGS_SECONDS
) -> None:
    """Note in Prefect who does this run, and put right what Prefect says of runs that are gone."""
    processes = await asyncio.to_thread(store.processes)
    try:
        async with get_client() as client:
            ours = await client.read_flow_run(runtime.flow_run.id)
            tags = {tag for tag in ours.tags if not tag.startswith((_LEDGER, _PROCESS))}
            tags |= {OURS, _LEDGER + processes.ledger, f"{_PROCESS}{processes.ours}"}
            await client.update_flow_run(ours.id, tags=sorted(tags))
            unfinished = FlowRunFilter(
                tags=FlowRunFilterTags(all_=[OURS]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNFINISHED)),
            )
            for run in await client.read_flow_runs(flow_run_filter=unfinished):
                if run.id != ours.id and _is_lost(run, processes, begin_seconds, tags_seconds):
                    await _mend(client, run)
    except Exception as error:  # noqa: BLE001 - whatever keeps Prefect from answering
        log.warning("Prefect was not told of runs that are gone (%s)", type(error).__name__)


def _is_lost(run: FlowRun, processes: Processes, begin_seconds: float, tags_seconds: float) -> bool:
    if run.state is None:
        return False
    waited = (datetime.now(UTC) - run.state.timestamp).total_seconds()
    process = next((tag.removeprefix(_PROCESS) for tag in run.tags if tag.startswith(_PROCESS)), "")
    if run.state.type == StateType.PENDING or not process:
        return waited > begin_seconds
    here = _LEDGER + processes.ledger in run.tags
    return here and waited > tags_seconds and int(process) not in processes.living


async def _mend(client: PrefectClient, run: FlowRun) -> None:
    if run.state is not None and run.state.type == StateType.PENDING:
        log.warning("a flow run was taken by a worker and never began; it is scheduled again")
        await client.set_flow_run_state(run.id, Scheduled(), force=True)
    elif run.state is not None and run.state.type == StateType.CANCELLING:
        await client.set_flow_run_state(run.id, Cancelled(message=_GONE), force=True)
    else:
        log.warning("a flow run is Running in Prefect and its process is gone; it is Crashed now")
        await client.set_flow_run_state(run.id, Crashed(message=_GONE), force=True)
