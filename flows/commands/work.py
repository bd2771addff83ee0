"""``firstread work``: keep the model open and draft what a PACS pushes, as soon as it is handed over.

One warm process instead of one for each study: it is woken by the ledger, claims what waits in batches, and sleeps
again. Where the site has a Prefect API each batch is recorded there; without its answer the work goes on unrecorded.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from flows import sweep
from flows.environment.prefect_api import check_site_api, site_api
from flows.environment.workplace import Workplace
from flows.tally import Tally
from pipeline.errors import RetryLater, StopRun
from pipeline.ledger import WorkFilter
from pipeline.settings import Settings, archive_named

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""The longest sleep between two looks at the ledger: a study is handed over a moment after its row woke us."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0

Batch = Callable[[], Coroutine[Any, Any, Tally]]


def work_forever(settings: Settings, archive: str, config: str) -> None:
    """Draft what is pushed to ``archive`` ("" is that of [listen]) until interrupted; ``config`` is the file, if named.

    Raises ConfigurationError for an unknown archive, StopRun when drafting is unsound; waits where Postgres or the
    archive is away, and while a person has paused drafting.
    """
    archive = archive or settings.listen.archive
    archive_named(settings, archive)
    recorded = _recorder(settings, config)
    try:
        with Workplace(settings) as workplace:
            runner = workplace.drafter.runner
            sys.stderr.write(f"ready to draft what is pushed to {archive}, on {runner} (stop with Ctrl-C)\n")
            sys.stderr.flush()
            _work_on(workplace, archive, recorded)
    except KeyboardInterrupt:
        log.info("stopped; claims are given back")


def _work_on(workplace: Workplace, archive: str, recorded: Callable[[Batch], Tally]) -> None:
    pause = FIRST_PAUSE
    begun = False
    while True:
        try:
            if workplace.store.sweeps.paused():
                time.sleep(LOOK_SECONDS)
                continue
            if not begun or workplace.store.sweeps.received_ready(archive, workplace.recipe_of(archive)):
                tally = recorded(partial(_batch, workplace, archive))
                log.info("%s", tally.sentence())
                begun = True
            else:
                workplace.store.wait_for_work(LOOK_SECONDS)
            pause = FIRST_PAUSE
        except RetryLater as error:
            log.warning("%s; tried again in %.0f s", error, pause)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        except StopRun as error:
            if error.code != "paused":  # since we asked
                raise


async def _batch(workplace: Workplace, archive: str) -> Tally:
    return await sweep.draft_wanted(workplace, archive, [WorkFilter(archive, received=True)])


def _recorder(settings: Settings, config: str) -> Callable[[Batch], Tally]:
    """Runs a batch; as a Prefect flow run where the site has an API that answers now."""
    site = site_api(settings)

    def run(batch: Batch) -> Tally:
        if not site:
            return asyncio.run(batch())
        try:
            check_site_api(site)
            from flows import deployments  # only where there is an API: it imports Prefect

            return asyncio.run(deployments.drafted_warm(batch, config))
        except StopRun as error:
            if error.code != "prefect-away":
                raise
            log.warning("not recorded: %s", error)
            return asyncio.run(batch())  # it has not begun

    return run
