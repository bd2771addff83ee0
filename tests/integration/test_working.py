"""``firstread work``: what is pushed is drafted within seconds by one warm process, and pushed again it is no work."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from flows.announcing import AGAIN_SECONDS, UNCLAIMED_SECONDS, Announcing
from flows.commands.simulate import WrittenStudy, simulate
from flows.environment.prefect_api import QUIET as PREFECT_QUIET
from flows.environment.workplace import Workplace
from flows.handing_over import HandingOver
from pipeline.ledger import WorkFilter
from pipeline.settings import load
from tests.servers import Peer, free_port, store
from tests.sites import environment, firstread, rows, running, until, write_site

QUIET = 1.0


@dataclass(frozen=True)
class Site:
    folder: Path
    config: Path
    url: str
    port: int
    studies: tuple[WrittenStudy, ...]

    def push(self, *studies: WrittenStudy) -> None:
        store(Peer("FIRSTREAD", self.port), *(path for study in studies for path in study.paths))

    def reports(self) -> list[tuple[str, int]]:
        return rows(self.url, "SELECT study_instance_uid, version FROM firstread.reports ORDER BY 1")


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Site:
    """An archive that already has what is pushed, as a PACS has that forwards."""
    port = free_port()
    studies = simulate(6, tmp_path / "films", seed=21).studies
    config = write_site(
        tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path / "films")}},
        listen={"port": port, "quiet_seconds": QUIET, "min_free_gib": 0.1},
    )  # fmt: skip
    return Site(tmp_path, config, database_url, port, studies)


@contextmanager
def at_work(site: Site, command: str, ready: str, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
    words = [str(Path(sys.executable).with_name("firstread")), command, "-v", "--config", str(site.config)]
    log = site.folder / f"{command}.log"
    log.unlink(missing_ok=True)
    with running(words, log, cwd=site.folder, env=environment(**more)) as process:
        until(lambda: ready in log.read_text() or process.poll() is not None, f"the start of {command}")
        assert process.poll() is None, log.read_text()
        yield process


def heard_on(process: "subprocess.Popen[bytes]") -> set[int]:
    """The ports that a process and all that it has started listen on."""
    first = psutil.Process(process.pid)
    every = [one for each in (first, *first.children(recursive=True)) for one in each.net_connections("inet")]
    return {one.laddr.port for one in every if one.status == psutil.CONN_LISTEN}


def test_a_pushed_study_is_drafted_in_seconds_and_pushed_again_it_is_no_work(site: Site) -> None:
    with (
        at_work(site, "listen", "listening as") as listener,
        at_work(site, "work", "ready to draft") as worker,
    ):
        site.push(site.studies[0])
        until(lambda: len(site.reports()) == 1, "the first draft")
        # What another account of this machine finds of us: no door but the listener's own, no server of Prefect.
        assert (heard_on(listener), heard_on(worker)) == ({site.port}, set())
        site.push(*site.studies[1:])
        shown = firstread("status", "--json", "--config", str(site.config), cwd=site.folder)
        (waiting,) = json.loads(shown.stdout)["received"] or [{"studies": 0}]
        assert waiting["studies"] <= len(site.studies) - 1
        begun = time.monotonic()
        until(lambda: len(site.reports()) == len(site.studies), "the drafts of the batch")
        seconds = time.monotonic() - begun
        inbox = site.folder / "data" / "inbox"
        until(lambda: not list(inbox.rglob("*.dcm")), "the removal of what the reports rest on")
        before = rows(site.url, "SELECT ledger_id, state, updated_at, token FROM firstread.ledger ORDER BY 1")
        site.push(site.studies[2])
        until(
            lambda: (
                rows(site.url, "SELECT count(*) FROM firstread.instance WHERE settled_code = 'unchanged'")
                == [(1,)]
            ),
            "the settling of what came again",
        )
        until(lambda: not list(inbox.rglob("*.dcm")), "the removal of what came again")
        after = rows(site.url, "SELECT ledger_id, state, updated_at, token FROM firstread.ledger ORDER BY 1")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
    assert after == before, "nothing was reopened, nothing claimed"
    assert {version for _, version in site.reports()} == {1}
    told = rows(site.url, "SELECT event FROM firstread.audit_event WHERE event::text LIKE '%110104%'")
    assert len([one for one in told if site.studies[2].study_instance_uid in json.dumps(one)]) >= 2, (
        "each arrival is in the audit"
    )
    assert seconds < 60, "a warm process drafts five studies; a process each would take minutes"
    assert firstread("audit", "verify", "--config", str(site.config), cwd=site.folder).returncode == 0


def test_only_what_was_pushed_is_drafted(site: Site) -> None:
    found = firstread("discover", "--json", "--config", str(site.config), cwd=site.folder)
    assert found.returncode == 0, found.stderr
    with at_work(site, "listen", "listening as"), at_work(site, "work", "ready to draft") as worker:
        (at_the_model,) = psutil.Process(worker.pid).children()
        at_the_model.kill()  # as a fault of the model's would: another one takes its place
        site.push(site.studies[3])
        until(lambda: len(site.reports()) == 1, "the draft")
        assert "ended by SIGKILL" in (site.folder / "work.log").read_text()
    states = dict(rows(site.url, "SELECT state::text, count(*) FROM firstread.ledger GROUP BY 1"))
    assert states == {"reported": 1, "discovered": 5}


def test_a_paused_site_waits_and_goes_on(site: Site) -> None:
    pause = firstread("pause", "--why", "a test", "--config", str(site.config), cwd=site.folder)
    assert pause.returncode == 0, pause.stderr
    with at_work(site, "listen", "listening as"), at_work(site, "work", "ready to draft"):
        site.push(site.studies[0])
        until(
            lambda: (
                rows(site.url, "SELECT count(*) FROM firstread.instance WHERE handed_over_at IS NOT NULL")
                == [(1,)]
            ),
            "the hand-over",
        )
        time.sleep(3)
        assert site.reports() == []
        firstread("resume", "--config", str(site.config), cwd=site.folder)
        until(lambda: len(site.reports()) == 1, "the draft")


def test_prefect_records_the_batches_and_is_not_needed(site: Site, prefect_url: str) -> None:
    silent = f"http://127.0.0.1:{free_port()}/api"
    with at_work(site, "listen", "listening as"):
        with at_work(site, "work", "ready to draft", PREFECT_API_URL=prefect_url, **PREFECT_QUIET):
            site.push(site.studies[0])
            until(lambda: len(site.reports()) == 1, "the recorded draft")
            until(lambda: "1 reported" in (site.folder / "work.log").read_text(), "its end")
        with at_work(site, "work", "ready to draft", PREFECT_API_URL=silent, **PREFECT_QUIET):
            site.push(site.studies[1])
            until(lambda: len(site.reports()) == 2, "the draft without a record")
    assert "not recorded" in (site.folder / "work.log").read_text()
    assert "Completed: 1 reported" in _messages(prefect_url)


def _messages(api: str) -> str:
    request = urllib.request.Request(
        f"{api}/flow_runs/filter", b'{"sort": "START_TIME_DESC"}', {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        runs = json.load(answer)
    return " | ".join(f"{one['state']['name']}: {one['state']['message']}" for one in runs)


def test_one_announcement_stands_for_all_that_waits(site: Site) -> None:
    """Not for what a warm worker takes at once; again where nobody came, ever more seldom."""
    told: list[int] = []
    with Workplace(load(site.config)) as workplace:
        recipe = workplace.recipe_of("main")
        announcing = Announcing(workplace, lambda: recipe, told.append)
        handing_over = HandingOver(workplace, lambda: recipe)
        _receive_and_hand_over(site, workplace, handing_over, site.studies[:3])
        announcing.look(0.0)
        assert told == [], "a moment for a warm worker"
        time.sleep(UNCLAIMED_SECONDS + 0.1)
        announcing.look(1.0)
        announcing.look(2.0)
        assert len(told) == 1
        announcing.look(1.0 + AGAIN_SECONDS)
        assert told == told[:1] * 2
        announcing.look(2.0 + 2 * AGAIN_SECONDS)
        assert len(told) == 2, "twice as long the second time"
        claims = workplace.store.claim(
            recipe, WorkFilter("main", received=True), owner=workplace.owner, limit=9, lease_seconds=60
        )
        assert len(claims) == 3
        announcing.look(5000.0)
        assert len(told) == 2, "claimed"
        _receive_and_hand_over(site, workplace, handing_over, site.studies[3:4])
        time.sleep(UNCLAIMED_SECONDS + 0.1)
        announcing.look(5001.0)
        assert len(told) == 3
        assert told[2] not in told[:2]
        workplace.store.release(claims)


def _receive_and_hand_over(
    site: Site, workplace: Workplace, handing_over: HandingOver, studies: tuple[WrittenStudy, ...]
) -> None:
    with at_work(site, "listen", "listening as"):
        site.push(*studies)
    for quiet in workplace.store.inbox.quiet_studies(0, "main"):
        handing_over.consider(quiet)
