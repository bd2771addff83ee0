"""SIGTERM and SIGINT end a run within seconds, in every phase: exit code 3, one line, the summary, nothing left."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.commands.simulate import simulate
from tests.chaos.programs import family
from tests.sites import environment, rows, until, write_site

WITHIN = 30.0
"""Seconds. A stop is many short steps of several processes in turn, which on a busy machine wait for the processor; it
must not wait for what it interrupts: an archive that stalls for ten minutes, a model, a server that comes up."""
STALLED = """
import http.server, sys, time
class Stalled(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(600)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Stalled).serve_forever()
"""


def start(config: Path, prefect_api: str = "") -> "subprocess.Popen[str]":
    command = [str(Path(sys.executable).with_name("firstread")), "run", "--json", "--config", str(config)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(prefect_api),
        cwd=config.parent,
    )


def stopped(run: "subprocess.Popen[str]", number: signal.Signals) -> dict[str, object]:
    """Signal the run; returns its summary, having looked at all that it must not leave or say.

    SIGTERM goes to both of its processes, as systemd does it: one of them hears of it twice.
    """
    children = [str(pid) for pid in family(run.pid)[1:]]
    asked = time.monotonic()
    for pid in family(run.pid)[: 2 if number == signal.SIGTERM else 1]:
        os.kill(pid, number)
    out, error = run.communicate(timeout=60)
    took = time.monotonic() - asked
    print(f"stopped within {took:.2f} s")
    assert took < WITHIN
    assert run.returncode == 3, error
    assert "Traceback" not in error
    assert any(line.startswith("firstread: interrupted: stopped by") for line in error.splitlines())
    until(lambda: not any(map(_lives, children)), "the end of its children", 30.0)
    told: dict[str, object] = json.loads(out.splitlines()[-1])
    assert {"error", "discovered", "reported", "failed"} <= set(told)
    return told


def _lives(pid: str) -> bool:
    """Whether the process is there and no zombie, which an init that reaps nobody leaves."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    simulate(24, folder, seed=3)
    return folder


@pytest.mark.parametrize("recorded", [False, True], ids=["plain", "in-prefect"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_while_drafting(
    number: signal.Signals, recorded: bool, films: Path, database_url: str, prefect_url: str, tmp_path: Path
) -> None:
    archives = {"main": {"kind": "folder", "path": str(films)}}
    config = write_site(tmp_path, database_url, archives, model={"generate_batch": 2})
    run = start(config, prefect_url if recorded else "")
    until(lambda: rows(database_url, "SELECT count(*) FROM firstread.reports")[0][0] > 0, "the first report")
    told = stopped(run, number)
    assert 0 < int(str(told["reported"])) < 24
    assert rows(database_url, "SELECT count(*) FROM firstread.ledger WHERE lease_owner IS NOT NULL") == [(0,)]
    assert rows(database_url, "SELECT max(attempts) FROM firstread.ledger WHERE state = 'discovered'")[0][
        0
    ] in (0, None)
    assert not list((tmp_path / "data" / "work").glob("run-*")), "files of patients are left"


def test_while_the_embedded_database_comes_up(films: Path, tmp_path: Path) -> None:
    config = write_site(tmp_path, "", {"main": {"kind": "folder", "path": str(films)}})
    run = start(config)
    until((tmp_path / "data" / "postgres").exists, "the start of Postgres")
    stopped(run, signal.SIGTERM)


def test_while_an_archive_stalls(database_url: str, tmp_path: Path) -> None:
    from tests.servers import free_port

    port = free_port()
    server = subprocess.Popen([sys.executable, "-c", STALLED, str(port)])
    try:
        url = f"http://127.0.0.1:{port}/rs"
        config = write_site(tmp_path, database_url, {"main": {"kind": "dicomweb", "url": url}})
        run = start(config)
        until(lambda: rows(database_url, "SELECT count(*) FROM firstread.sweep") == [(1,)], "the sweep")
        time.sleep(1.0)
        stopped(run, signal.SIGTERM)
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3])
def test_while_it_still_imports(number: signal.Signals, delay: float, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    config = write_site(tmp_path, "", {"main": {"kind": "folder", "path": str(tmp_path / "films")}})
    run = start(config)
    _await_our_first_line(run.pid)
    time.sleep(delay)
    told = stopped(run, number)
    if not delay:
        assert "while it started" in str(told["error"])


def test_a_service_that_is_stopped_while_it_starts_ends_well(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("firstread")), "listen"]
    listener = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path)
    _await_our_first_line(listener.pid)
    listener.send_signal(signal.SIGTERM)
    _, error = listener.communicate(timeout=20)
    assert listener.returncode == 0
    assert error == "firstread: interrupted: stopped by SIGTERM while it started; nothing was done\n"


def _await_our_first_line(pid: int) -> None:
    """From then on SIGTERM is caught, which the kernel tells in SigCgt."""
    deadline = time.monotonic() + 20
    while True:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
        caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), "0")
        if int(caught, 16) >> (signal.SIGTERM - 1) & 1:
            return
        assert time.monotonic() < deadline
        time.sleep(0.002)
