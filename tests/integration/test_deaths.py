"""A process that dies over one study: its neighbours are drafted, it is tried alone, and then no more."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.commands.simulate import SYNTAXES, simulate
from pipeline.dicom_writer import JPEG_LS_LOSSLESS
from pipeline.ledger import LedgerState, WorkFilter
from pipeline.mending import DEATHS_ALLOWED
from pipeline.store.store import Store
from tests.deadly_decoder import alive, deadly, frame_of, seen, write_study
from tests.integration.test_crashes import folder_site
from tests.sites import environment, firstread, rows, summary, until
from tests.store_samples import RECIPE, claim, completeness, discover, outcome, settled, study_uid


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with Store(database_url) as opened:
        yield opened


ROOT = Path(__file__).resolve().parents[2]
STUDIES = 8
BATCH = 4


def died_over(store: Store, ids: tuple[int, ...], *at_work: int, **options: Any) -> None:
    """Claim these rows for an instant, work on some of them, and be gone."""
    held = [one for row in ids for one in claim(store, 1, lease_seconds=0.01, ledger_ids=(row,), **options)]
    store.note_work([one for one in held if one.ledger_id in at_work])
    time.sleep(0.02)


def test_an_attempt_counts_for_what_was_begun(store: Store) -> None:
    ids = discover(store, 3)
    died_over(store, ids, ids[1])
    assert [(one.ledger_id, one.attempts, one.deaths) for one in claim(store)] == [
        (ids[0], 1, 0),
        (ids[2], 1, 0),
    ]
    assert store.suspects(RECIPE, claimable()) == (ids[1],)
    (alone,) = claim(store, alone=True)
    assert (alone.ledger_id, alone.attempts, alone.deaths) == (ids[1], 2, 1)


def test_what_ended_is_no_suspect(store: Store) -> None:
    (ledger_id,) = discover(store, 1)
    (held,) = claim(store, lease_seconds=0.01)
    store.note_work([held])
    store.note_work([], [held])
    time.sleep(0.02)
    (again,) = claim(store)
    assert (again.ledger_id, again.deaths) == (ledger_id, 0)


def test_an_older_claim_says_nothing_of_a_newer_one(store: Store) -> None:
    discover(store, 1)
    (stale,) = claim(store, lease_seconds=0.01)
    time.sleep(0.02)
    (fresh,) = claim(store)
    store.note_work([stale])
    assert store.suspects(RECIPE, claimable()) == ()
    store.note_work([fresh])
    assert len(store.suspects(RECIPE, claimable())) == 1
    assert claim(store, alone=True) == [], "its process lives"


def test_those_who_died_least_come_first(store: Store) -> None:
    ids = discover(store, 2)
    died_over(store, ids, *ids)
    died_over(store, ids[:1], ids[0], alone=True)
    assert store.suspects(RECIPE, claimable()) == (ids[1], ids[0])


def test_a_given_back_claim_stays_as_suspect_as_it_was(store: Store) -> None:
    ids = discover(store, 2)
    died_over(store, ids, ids[0])
    (plain,), (alone,) = claim(store), claim(store, alone=True)
    store.note_work([plain, alone])
    store.release([plain, alone])
    assert [one.ledger_id for one in claim(store)] == [ids[1]]
    assert [(one.ledger_id, one.deaths) for one in claim(store, alone=True)] == [(ids[0], 1)]


def test_rest_absolves_and_a_failure_does_not(store: Store) -> None:
    ids = discover(store, 3)
    for _ in range(2):
        for row in ids:
            died_over(store, (row,), row, alone=bool(store.suspects(RECIPE, claimable(row))))
    held = {one.ledger_id: one for row in ids for one in claim(store, alone=True, ledger_ids=(row,))}
    assert {one.deaths for one in held.values()} == {2}
    store.save(outcome(held[ids[0]]))
    store.settle(settled(held[ids[1]]))
    short = completeness(study_uid(2), missing=("2.25.9",))
    store.settle(settled(held[ids[2]], LedgerState.FAILED, code="process-died", completeness=short))
    store.standing.reopen(ids, [{"resourceType": "AuditEvent", "n": number} for number in range(3)])
    assert [one.ledger_id for one in claim(store)] == [ids[0], ids[1]]
    assert [(one.ledger_id, one.deaths) for one in claim(store, alone=True)] == [(ids[2], 1)], (
        "one more chance"
    )


def claimable(*ledger_ids: int) -> WorkFilter:
    return WorkFilter(ledger_ids=ledger_ids or None)


def test_a_study_that_kills_the_model_costs_its_run_nothing_but_itself(
    database_url: str, tmp_path: Path
) -> None:
    """One command: its neighbours are drafted, it is tried alone, and rests as process-died."""
    number = signal.SIGSEGV
    simulate(BATCH, tmp_path / "films", seed=11)
    config = folder_site(tmp_path, database_url, tmp_path / "films")
    firstread("discover", "--config", str(config), cwd=tmp_path)
    ((deadly, culprit),) = rows(
        database_url, "SELECT study_instance_uid, ledger_id FROM firstread.ledger ORDER BY ledger_id LIMIT 1"
    )
    run = subprocess.run(
        [sys.executable, "-m", "tests.poisoned_run", number.name, deadly, str(config)],
        cwd=ROOT, env=environment(), capture_output=True, timeout=200, check=False, text=True,
    )  # fmt: skip
    assert run.returncode == 1, run.stderr + run.stdout
    told = summary(run)
    assert (told["discovered"], told["failed"], told["still_failed"]) == (BATCH, 1, 0)
    assert (told["reported"], told["unchanged"]) == (BATCH - 1, 0), (
        "what was stored in the moment of a death, too"
    )
    followed = [line for line in run.stderr.splitlines() if f"ended by {number.name}" in line]
    assert len(followed) == DEATHS_ALLOWED
    assert rows(
        database_url,
        "SELECT ledger_id, code, attempts, deaths FROM firstread.ledger WHERE state <> 'reported'",
    ) == [(culprit, "process-died", DEATHS_ALLOWED + 1, DEATHS_ALLOWED)]
    assert rows(database_url, "SELECT count(*), max(version) FROM firstread.report_version") == [
        (BATCH - 1, 1)
    ]
    shown = firstread("status", "--config", str(config), cwd=tmp_path)
    assert "process-died" in shown.stdout
    ((well,),) = rows(database_url, "SELECT min(study_instance_uid) FROM firstread.reports")
    again = subprocess.run(
        [sys.executable, "-m", "tests.poisoned_run", number.name, deadly, str(config), "--study", deadly,
         "--study", well, "--again"],
        cwd=ROOT, env=environment() | {"POISONED_STORE": str(tmp_path / "stored-once")},
        capture_output=True, timeout=200, check=False, text=True,
    )  # fmt: skip
    told = summary(again)
    assert (again.returncode, told["reported"], told["unchanged"], told["failed"]) == (1, 1, 0, 1), (
        again.stderr
    )
    deaths = [again.stderr.count(f"ended by {name}") for name in ("SIGBUS", "SIGSEGV")]
    assert deaths == [1, 2], "stored and not heard of; two more tries, alone"
    assert rows(
        database_url, f"SELECT max(version) FROM firstread.report_version WHERE study_instance_uid = '{well}'"
    ) == [(2,)], "drafted anew once, though its command died twice since"
    retried = firstread("retry", "--code", "process-died", "--config", str(config), cwd=tmp_path)
    assert retried.returncode == 0, retried.stderr
    healthy = firstread("run", "--json", "--config", str(config), cwd=tmp_path)
    assert (healthy.returncode, summary(healthy)["reported"]) == (0, 1), healthy.stderr
    with Store(database_url) as store:
        assert store.audit_verify().ok
    assert not list((tmp_path / "data" / "work").rglob("*.dcm"))


def test_a_film_that_kills_its_decoder_takes_nobody_along(database_url: str, tmp_path: Path) -> None:
    simulated = simulate(STUDIES, tmp_path / "films", seed=12).studies
    config = folder_site(tmp_path, database_url, tmp_path / "films")
    (film,) = simulated[SYNTAXES.index(JPEG_LS_LOSSLESS)].paths
    poison = deadly(tmp_path / "hook", frame_of(film), "os.kill(os.getpid(), signal.SIGSEGV)")
    run = firstread("run", "--json", "--config", str(config), cwd=tmp_path, **poison)
    assert run.returncode == 1, run.stderr + run.stdout
    assert (summary(run)["reported"], summary(run)["failed"]) == (STUDIES - 1, 1)
    assert len(seen(tmp_path / "hook")) == 1
    assert rows(
        database_url, "SELECT code, attempts, deaths FROM firstread.ledger WHERE state = 'failed'"
    ) == [("decoder-died", 1, 0)]
    assert rows(database_url, "SELECT max(token) FROM firstread.ledger") == [(1,)], "nobody was tried again"
    told = firstread("status", "--config", str(config), cwd=tmp_path)
    assert "decoder-died" in told.stdout
    firstread("retry", "--code", "decoder-died", "--config", str(config), cwd=tmp_path)
    well = firstread("run", "--json", "--config", str(config), cwd=tmp_path)
    assert (well.returncode, summary(well)["reported"]) == (0, 1), well.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_ends_leaves_no_decoder(number: signal.Signals, database_url: str, tmp_path: Path) -> None:
    film = write_study(tmp_path / "films", 0)
    config = folder_site(tmp_path, database_url, tmp_path / "films")
    poison = deadly(tmp_path / "hook", frame_of(film), "while True: pass")
    command = [str(Path(sys.executable).with_name("firstread")), "run", "--json", "--config", str(config)]
    with (tmp_path / "log").open("wb") as log:
        run = subprocess.Popen(command, env=environment(**poison), stdout=log, stderr=log, cwd=tmp_path)
    with run:
        until(lambda: bool(seen(tmp_path / "hook")), "the decoder at work", 120.0)
        run.send_signal(number)
    (decoder,) = seen(tmp_path / "hook")
    until(lambda: not alive(decoder), "the end of the decoder", 30.0)
