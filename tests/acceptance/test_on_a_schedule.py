"""README, "When a PACS pushes, or on a schedule": its lines, typed into an empty shell, draft by the nightly sweep.

The process that sweeps dies once, as by native code, as soon as its report is stored: the run goes on (decision 51).
"""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from flows.commands.simulate import simulate
from tests import readme
from tests.servers import free_port
from tests.sites import environment, rows, running, until, write_site

DEADLY = """
import os, pathlib, signal
if os.environ.get("PREFECT__FLOW_RUN_ID"):
    from pipeline.store.store import Store
    save_many, once = Store.save_many, pathlib.Path(__file__).with_name("died")
    def deadly(store, many):
        saved = save_many(store, many)
        if saved and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGBUS)
        return saved
    Store.save_many = deadly
"""


@pytest.fixture
def shell(database_url: str, tmp_path: Path) -> dict[str, str]:
    """The variables of a shell in which nothing of Prefect was ever set."""
    simulate(1, tmp_path / "films", seed=4)
    films = str(tmp_path / "films")
    config = write_site(tmp_path, database_url, {"main": {"kind": "folder", "path": films}})
    home = tmp_path / "home"
    home.mkdir()
    (home / "sitecustomize.py").write_text(DEADLY)
    return environment(
        PYTHONPATH=str(home),
        HOME=str(home),
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        PREFECT_SERVER_API_PORT=str(free_port()),
        DO_NOT_TRACK="1",
        FIRSTREAD_DATA_DIR=str(config.parent / "data"),
        FIRSTREAD_DATABASE__URL=database_url,
        FIRSTREAD_ARCHIVES__MAIN__KIND="folder",
        FIRSTREAD_ARCHIVES__MAIN__PATH=films,
    )


def typed(words: list[str], shell: dict[str, str]) -> str:
    port = shell["PREFECT_SERVER_API_PORT"]
    done = subprocess.run(
        [word.replace("4200", port) for word in words],
        cwd=readme.ROOT, env=shell, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_works_as_printed(shell: dict[str, str], database_url: str, tmp_path: Path) -> None:
    serve, *setting_up, work = readme.commands("prefect")
    with running(serve, tmp_path / "server.log", cwd=readme.ROOT, env=shell):
        until(lambda: _asked(shell, "health") is True, "the server's answer")
        for words in setting_up:
            typed(words, shell)
        with running(work, tmp_path / "worker.log", cwd=readme.ROOT, env=shell):
            typed(["prefect", "deployment", "run", "sweep/nightly-sweep", "--param", "days=36500"], shell)
            until(
                lambda: rows(database_url, "SELECT count(*) FROM firstread.reports") == [(1,)], "the report"
            )
            until(lambda: "Completed: 1 reported" in _messages(shell), "the message of the run")
    assert (tmp_path / "home" / "died").exists()
    assert "was ended by SIGBUS; another one goes on" in (tmp_path / "worker.log").read_text()


def _asked(shell: dict[str, str], path: str, body: bytes | None = None) -> Any:
    url = f"http://127.0.0.1:{shell['PREFECT_SERVER_API_PORT']}/api/{path}"
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, body, {"Content-Type": "application/json"}), timeout=10
        ) as answer:
            return json.load(answer)
    except OSError:
        return None


def _messages(shell: dict[str, str]) -> str:
    runs = _asked(shell, "flow_runs/filter", b"{}") or []
    return " | ".join(f"{run['state']['name']}: {run['state']['message']}" for run in runs if run["state"])
