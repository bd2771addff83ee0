"""One chaos run from a seed: faults and traffic, then rest, then the oracles."""

import json
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.chaos import oracles
from tests.chaos.faults import Faults
from tests.chaos.plan import Step, draw, write_plan
from tests.chaos.senders import Sender
from tests.chaos.site import ChaosSite, chaos_site
from tests.chaos.traffic import ArchiveRest, Traffic
from tests.chaos.world import World
from tests.sites import rows

SENDERS = 4
SETTLE_SECONDS = 240.0


@dataclass(slots=True)
class Outcome:
    """What was done and what came of it; ``violations`` is empty where every promise held."""

    seed: int
    seconds: float
    faults: dict[str, int] = field(default_factory=dict)
    traffic: dict[str, int] = field(default_factory=dict)
    studies: int = 0
    instances: int = 0
    sent: int = 0
    acknowledged: int = 0
    killed_senders: int = 0
    refusals: dict[str, int] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    listener_ends: dict[str, int] = field(default_factory=dict)
    reports: int = 0
    versions: int = 0
    failed_before_rest: dict[str, int] = field(default_factory=dict)
    settled_in: float = 0.0
    violations: list[str] = field(default_factory=list)


def chaos(folder: Path, seed: int, seconds: float, *, with_prefect: bool = True) -> Outcome:
    """Run it in ``folder``, which must not exist; the plan, the logs and ``outcome.json`` stay there."""
    outcome = Outcome(seed, seconds)
    with chaos_site(folder, seed, with_prefect=with_prefect) as site:
        try:
            _run(site, outcome)
        finally:
            shutil.copytree(site.data, folder / "data-kept", dirs_exist_ok=True, ignore=_not_kept)
    outcome.violations += oracles.processes_left(site)
    (folder / "outcome.json").write_text(json.dumps(asdict(outcome), indent=1) + "\n", encoding="utf-8")
    return outcome


def _run(site: ChaosSite, outcome: Outcome) -> None:
    faults_planned, traffic_planned = draw(outcome.seed, outcome.seconds)
    write_plan(site.folder / "plan.jsonl", faults_planned, traffic_planned)
    world = World(site.folder / "films", outcome.seed)
    senders = [
        Sender(world, f"MODALITY{number}", site.listen_port, outcome.seed) for number in range(SENDERS)
    ]
    traffic = Traffic(world, ArchiveRest(site.rest), senders, site.listen_port)
    faults = Faults(site)
    for start in (*(one.start for one in senders), *(one.start for one in site.runs), faults.start):
        start()
    begun = time.monotonic()
    over = threading.Event()
    arriving = threading.Thread(
        target=_follow, args=(begun, traffic_planned, traffic.act, outcome.violations, over)
    )
    arriving.start()
    try:
        _follow(begun, faults_planned, faults.happen, outcome.violations, over)
        time.sleep(max(0.0, outcome.seconds - (time.monotonic() - begun)))
    finally:
        over.set()
        faults.finish()
        arriving.join()
        traffic.finish()
        finished = [one.finish(120) for one in senders]
        for run in site.runs:
            run.finish()
    if not all(finished):
        outcome.violations.append("a sender was not served within 120 s after the faults")
    outcome.violations += faults.violations + [error for run in site.runs for error in run.errors]
    _settle(site, outcome)
    outcome.violations += oracles.violations(site, world)
    _count(site, outcome, world, traffic, faults, senders)


def _follow(
    begun: float,
    steps: list[Step],
    act: Callable[[Step], None],
    violations: list[str],
    over: threading.Event,
) -> None:
    """Do each step when it is due, as long as it is not over: on a busy machine the last ones are not done."""
    for step in steps:
        if over.wait(max(0.0, step.at - (time.monotonic() - begun))):
            return
        try:
            act(step)
        except Exception as error:
            violations.append(f"{step.kind}: {type(error).__name__} {error}")


def _settle(site: ChaosSite, outcome: Outcome) -> None:
    """Faults are over: sweeps and a person's ``retry`` until nothing is open, then once more, which finds nothing."""
    begun = time.monotonic()
    outcome.failed_before_rest = dict(
        rows(
            site.database_url, "SELECT code, count(*) FROM firstread.ledger WHERE state = 'failed' GROUP BY 1"
        )
    )
    while not _at_rest(site):
        if time.monotonic() - begun > SETTLE_SECONDS:
            outcome.violations.append(f"not at rest {SETTLE_SECONDS:.0f} s after the faults")
            break
        site.firstread("retry", "--json")
        site.firstread("run", "--json")
        time.sleep(0.5)
    outcome.settled_in = round(time.monotonic() - begun, 1)
    took = site.listener.end(signal.SIGTERM)
    if site.listener.exits[-1] != 0:
        outcome.violations.append(
            f"the listener ends with {site.listener.exits[-1]} after {took:.1f} s, faults over"
        )
    last = site.firstread("run", "--json")
    told = json.loads(last.stdout.splitlines()[-1]) if last.stdout.strip() else {}
    if last.returncode != 0 or told.get("reported") != 0:
        outcome.violations.append(f"a run over what is at rest ends with {last.returncode} and {told}")


def _at_rest(site: ChaosSite) -> bool:
    """Whether every row rests well, and nothing received waits."""
    ((open_rows, waiting),) = rows(
        site.database_url,
        "SELECT (SELECT count(*) FROM firstread.ledger WHERE state NOT IN ('reported', 'skipped')), "
        "(SELECT count(*) FROM firstread.instance WHERE settled_at IS NULL)",
    )
    return bool(open_rows == 0 and waiting == 0)


def _count(
    site: ChaosSite, outcome: Outcome, world: World, traffic: Traffic, faults: Faults, senders: list[Sender]
) -> None:
    outcome.faults, outcome.traffic = dict(sorted(faults.done.items())), dict(sorted(traffic.done.items()))
    outcome.studies = len(world.studies)
    outcome.instances = sum(len(study.films) for study in world.studies)
    outcome.sent, outcome.acknowledged = world.sent, len(world.acknowledged)
    outcome.killed_senders = sum(one.kills for one in senders)
    outcome.refusals = dict(sorted(world.refusals.items()))
    outcome.runs = _by_code([code for run in site.runs for code in run.exits])
    outcome.listener_ends = _by_code(site.listener.exits)
    ((outcome.reports, outcome.versions),) = rows(
        site.database_url,
        "SELECT (SELECT count(*) FROM firstread.reports), (SELECT count(*) FROM firstread.report_version)",
    )


def _by_code(exits: list[int]) -> dict[str, int]:
    return {str(code): count for code, count in sorted(Counter(exits).items())}


def _not_kept(folder: str, names: list[str]) -> list[str]:
    with suppress(ValueError):
        return [name for name in names if name in ("engines", "filler")]
    return []
