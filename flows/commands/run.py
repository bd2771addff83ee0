"""Commands that run a flow in this process, recorded in Prefect where the site has its API, and show what came out."""

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands import table as display
from flows.commands.progress import counting, progress_bars
from flows.environment.outliving import is_begun, note_begun, whole
from flows.environment.person import login_name
from flows.environment.prefect_api import check_site_api, site_api
from flows.tally import Tally
from pipeline.errors import ConfigurationError, FailStudy
from pipeline.folders import make_writable
from pipeline.ledger import SETTLED, LedgerState
from pipeline.settings import Settings, archive_named
from pipeline.store.values import SettledFilter
from pipeline.study import StudyQuery

if TYPE_CHECKING:
    from flows.environment.workplace import Workplace

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """What a command asks of a sweep: study dates, both inclusive, and what it overrides of the configuration.

    ``again`` drafts named studies anew though nothing changed; ``asked_by`` is who asks, for the audit.
    """

    since: date | None = None
    until: date | None = None
    config: str = ""
    model: str = ""
    language: str = ""
    again: bool = False
    asked_by: str = ""


def run_sweep(
    settings: Settings, archive: str, asked: SweepOptions, studies: tuple[str, ...] = (), *, show: bool
) -> Tally:
    """Sweep by dates, or discover the named studies and draft those; returns the tally.

    Raises what the flow raised: ConfigurationError, StopRun, or RetryLater where Postgres or the archive stayed away;
    FailStudy("not-in-archive") for a named study that is not there, after the others were drafted.
    """
    archive_named(settings, archive)
    if asked.again and not studies:
        raise ConfigurationError("run-again", "--again needs --study: which studies are to be drafted anew")
    make_writable("data_dir", settings.data_dir)  # before Prefect, which prints a traceback of any end
    studies, absent = tuple(dict.fromkeys(studies)), 0
    with progress_bars(show):
        runs = _runs(settings)
        if studies:
            tally, absent = asyncio.run(_named(runs, archive, studies, asked))
        else:
            tally = asyncio.run(
                runs(
                    "sweep",
                    archive=archive,
                    since=asked.since,
                    until=asked.until,
                    config=asked.config,
                    model=asked.model,
                    language=asked.language,
                )
            )
    tally = whole(tally)
    if show and (absent < len(studies) or not studies):
        display.tally_table(tally)
    if absent:
        raise _not_there(archive, absent, len(studies), tally)
    return tally


def _runs(settings: Settings) -> Callable[..., Coroutine[Any, Any, Tally]]:
    """Runs by name: as Prefect flows where the site has an API (it is imported only then), else the plain ones."""
    if site := site_api(settings):
        check_site_api(site)
        from flows import deployments

        return lambda name, **asked: deployments.tally_of(getattr(deployments, name), **asked)
    from flows import sweep

    log.info("no Prefect API is configured: this run is recorded in the ledger alone")

    def plain(name: str, **asked: Any) -> Coroutine[Any, Any, Tally]:
        run: Coroutine[Any, Any, Tally] = getattr(sweep, name)(**asked)
        return run

    return plain


def _not_there(archive: str, absent: int, named: int, tally: Tally) -> FailStudy:
    which = "the study is" if named == 1 else f"{absent} of {named} named studies are"
    rest = f"; the others: {tally.reported} reported, {tally.skipped} skipped, {tally.failed} failed"
    message = f"{which} not in this archive ({archive}): check the Study Instance UID and --archive"
    return FailStudy("not-in-archive", message + (rest if absent < named else ""))


async def _named(
    runs: Callable[..., Coroutine[Any, Any, Tally]],
    archive: str,
    studies: tuple[str, ...],
    asked: SweepOptions,
) -> tuple[Tally, int]:
    """The tally, and how many of the studies neither archive nor ledger knows.

    UIDs never become flow parameters: they are looked up here, and the flow is given ledger ids.
    """
    from flows import sweep
    from flows.discover import discover_studies

    started = time.monotonic()
    with sweep.open_workplace(asked.config, asked.model, asked.language) as workplace:
        discovered = await discover_studies(workplace, archive, StudyQuery(study_instance_uids=studies))
        ledger_ids = workplace.store.ledger_ids(archive, workplace.recipe_of(archive), studies)
        reopened = reopen_named(workplace, archive, ledger_ids, asked)
    if not ledger_ids:
        return Tally(seconds=time.monotonic() - started), len(studies)
    drafted = await runs(
        "draft",
        archive=archive,
        ledger_ids=list(ledger_ids),
        config=asked.config,
        model=asked.model,
        language=asked.language,
    )
    found = replace(discovered, failed=max(discovered.failed - reopened, 0))
    tally = drafted.of(found, time.monotonic() - started, reinstated=drafted.reinstated)
    return tally, len(studies) - len(ledger_ids)


def reopen_named(
    workplace: "Workplace", archive: str, ledger_ids: tuple[int, ...], asked: SweepOptions
) -> int:
    """Named studies are tried again where they failed; all of them ``again``. Gives how many had failed.

    Once in a command: what a process that died has drafted since is not drafted again, nor what killed it tried again.
    """
    from flows.standing import reopen

    if is_begun():
        return 0

    states = SETTLED if asked.again else (LedgerState.FAILED,)
    rows = workplace.store.standing.settled(
        SettledFilter(states, archive, workplace.recipe_of(archive), ledger_ids=tuple(ledger_ids))
    )
    reopen(workplace, rows, asked.asked_by or login_name(), "firstread run --study", again=asked.again)
    note_begun()
    return sum(1 for row in rows if row.state is LedgerState.FAILED)


def run_discover(settings: Settings, archive: str, asked: SweepOptions, *, show: bool) -> Tally:
    """Write what the archive has to the ledger; no flow, nothing is drafted."""
    from flows.discover import discover_studies
    from flows.environment.workplace import Workplace

    archive_named(settings, archive)
    started = time.monotonic()
    with Workplace(settings, model=asked.model) as workplace, progress_bars(show):
        modalities = archive_named(settings, archive).modalities
        query = StudyQuery(since=asked.since, until=asked.until, modalities=modalities)
        discovered = asyncio.run(discover_studies(workplace, archive, query))
    seconds = time.monotonic() - started
    tally = Tally(
        discovered=discovered.studies, seconds=seconds, passed_over=sum(discovered.passed_over.values())
    )
    if show:
        display.tally_table(tally)
    return tally


def run_simulate(studies: int, out: Path, seed: int, *, as_json: bool) -> None:
    """Write simulated studies to ``out``, with progress. Raises ConfigurationError where it cannot be written."""
    from flows.commands.simulate import simulate

    started = time.monotonic()
    try:
        with counting("simulated", studies, show=not as_json) as progress:
            simulate(studies, out, seed, progress=progress)
    except OSError as error:
        raise ConfigurationError("simulate", f"{out}: cannot be written ({error.strerror})") from None
    seconds = time.monotonic() - started
    if as_json:
        sys.stdout.write(f'{{"studies":{studies},"seconds":{seconds:.3f}}}\n')
    else:
        sys.stdout.write(
            f"{studies} simulated studies in {out} ({seconds:.1f} s); what is on them: truth.jsonl\n"
        )
