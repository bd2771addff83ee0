"""Flow runs whose process is gone, on a real Prefect server: the next run ends their record, and starts what waits."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.sites import environment, running, write_site

NEXT_RUN = """
import asyncio, sys
from prefect import flow
from flows.lost_runs import note_and_mend
from pipeline.store.store import Store

@flow(name="sweep", persist_result=False)
async def sweep():
    with Store(sys.argv[1]) as store:
        await note_and_mend(store, begin_seconds=float(sys.argv[2]), tags_seconds=0)

asyncio.run(sweep())
"""


class Prefect:
    """What a test asks of the server's REST API."""

    def __init__(self, api: str) -> None:
        self._api = api

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{self._api}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def made(self, state: str, *tags: str) -> str:
        """A flow run in ``state``; its id."""
        flow = self.ask("flows/", {"name": "sweep"})["id"]
        run = self.ask("flow_runs/", {"flow_id": flow, "tags": list(tags), "state": {"type": state}})
        return str(run["id"])

    def states(self) -> dict[str, str]:
        return {run["id"]: run["state"]["type"] for run in self.ask("flow_runs/filter", {})}

    def running(self) -> set[str]:
        return {run for run, state in self.states().items() if state == "RUNNING"}


def next_run(database_url: str, api: str, folder: Path, begin_seconds: float) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NEXT_RUN, database_url, str(begin_seconds)],
        env=environment(api), cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "not told" not in done.stderr, done.stderr


def test_a_run_whose_process_was_killed_is_crashed_and_no_other(
    database_url: str, prefect_url: str, tmp_path: Path
) -> None:
    prefect = Prefect(prefect_url)
    before = prefect.running()
    elsewhere = prefect.made("RUNNING", "firstread", "firstread-ledger-another", "firstread-process-1")
    foreign = prefect.made("RUNNING")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/dicom-web"
        config = write_site(
            tmp_path, database_url, {"main": {"kind": "dicomweb", "url": url, "stall_timeout": 900.0}}
        )
        command = [str(Path(sys.executable).with_name("firstread")), "run", "--config", str(config)]
        with running(command, tmp_path / "run.log", cwd=tmp_path, env=environment(prefect_url)) as process:
            silent.settimeout(120)
            question, _ = silent.accept()  # and never an answer
            (ours,) = prefect.running() - before - {elsewhere, foreign}
            next_run(database_url, prefect_url, tmp_path, 900)
            assert prefect.states()[ours] == "RUNNING", "its process lives"
            process.send_signal(signal.SIGKILL)
            process.wait()
        question.close()
        assert prefect.states()[ours] == "RUNNING", "on its own Prefect does not notice"
        next_run(database_url, prefect_url, tmp_path, 900)
    states = prefect.states()
    assert states[ours] == "CRASHED"
    assert states[elsewhere] == "RUNNING"
    assert states[foreign] == "RUNNING"


def test_a_run_that_was_taken_and_never_began_is_scheduled_again(
    database_url: str, prefect_url: str, tmp_path: Path
) -> None:
    prefect = Prefect(prefect_url)
    taken, foreign = prefect.made("PENDING", "firstread"), prefect.made("PENDING")
    vanished = prefect.made("RUNNING", "firstread")
    next_run(database_url, prefect_url, tmp_path, 900)
    assert [prefect.states()[one] for one in (taken, vanished)] == ["PENDING", "RUNNING"], (
        "it may still begin"
    )
    next_run(database_url, prefect_url, tmp_path, 0)
    states = prefect.states()
    assert [states[one] for one in (taken, vanished, foreign)] == ["SCHEDULED", "CRASHED", "PENDING"]
