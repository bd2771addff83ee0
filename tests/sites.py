"""A site for tests: a Prefect server shared by the session, configuration files, and the command as installed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flows.environment.prefect_api import QUIET
from flows.tally import Tally
from pipeline.child_process import stop
from pipeline.store.connections import libpq_url
from pipeline.store.embedded import EmbeddedPostgres
from tests.engines import share_graphs
from tests.prefect_server import prefect_server

_OURS = ("PREFECT_", "FIRSTREAD_")
_KEPT = ("FIRSTREAD_MODEL__WEIGHTS",)


@pytest.fixture(scope="session")
def prefect_url(postgres_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API of one Prefect server for the whole session, its database in Postgres."""
    home = tmp_path_factory.mktemp("prefect")
    with prefect_server(postgres_server.database_url_for("prefect"), home) as url:
        yield url


def write_site(
    folder: Path, database_url: str, archives: Mapping[str, Mapping[str, Any]], **tables: Any
) -> Path:
    """Write ``firstread.toml`` for a site and give its path; the exported graphs are shared by all test sites."""
    folder.mkdir(parents=True, exist_ok=True)
    data_dir = folder / "data"
    data_dir.mkdir(exist_ok=True)
    share_graphs(data_dir)
    lines = [f"data_dir = {json.dumps(str(data_dir))}", "[database]", f"url = {json.dumps(database_url)}"]
    for name, table in archives.items():
        lines += [f"[archives.{name}]", *_assignments({"min_free_gib": 0.1, **table})]
    for name, table in tables.items():
        lines += [f"[{name}]", *_assignments(table)]
    path = folder / "firstread.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    path.chmod(0o600)  # the address of the database has a password
    return path


def sweep(config: Path, prefect_api: str = "", archive: str = "main") -> Tally:
    """``firstread run``, recorded where there is a Prefect server; gives its JSON summary."""
    done = firstread(
        "run",
        "--archive",
        archive,
        "--json",
        "--config",
        str(config),
        cwd=config.parent,
        prefect_api=prefect_api,
    )
    assert done.returncode in (0, 1), done.stderr
    return Tally(**summary(done))  # type: ignore[arg-type]


def environment(prefect_api: str = "", **more: str) -> dict[str, str]:
    """The process environment without anything of Prefect or Firstread, then what the test wants."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_OURS) or key in _KEPT}
    if prefect_api:
        kept |= {**QUIET, "PREFECT_API_URL": prefect_api}
    return kept | more


def firstread(
    *arguments: str, cwd: Path, prefect_api: str = "", **more: str
) -> "subprocess.CompletedProcess[str]":
    """Run the command as installed."""
    command = [str(Path(sys.executable).with_name("firstread")), *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment(prefect_api, **more),
        cwd=cwd,
        timeout=300,
        check=False,
    )


def summary(run: "subprocess.CompletedProcess[str]") -> dict[str, float]:
    """The JSON object on the last line of standard output."""
    assert run.stdout.strip(), run.stderr
    parsed: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return parsed


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """The rows of ``query`` at an SQLAlchemy or libpq URL."""
    with psycopg.connect(libpq_url(url)) as connection:
        return connection.execute(query.encode()).fetchall()


def _assignments(table: Mapping[str, Any]) -> list[str]:
    """TOML assignments of plain values, whose JSON form is also TOML."""
    return [f"{key} = {json.dumps(value)}" for key, value in table.items()]


@contextmanager
def running(command: list[str], log: Path, **options: object) -> Iterator["subprocess.Popen[bytes]"]:
    """A process for the length of the block, its output in ``log``; ended by its own process id."""
    with log.open("ab") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        stop(process)


def until(true: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    """Wait for something to become true; fail when it does not."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds:.0f} s"
        time.sleep(0.25)


def troubles(url: str) -> list[tuple[Any, ...]]:
    """Why studies were skipped or failed, for the message of an assertion."""
    return rows(url, "SELECT state, reason, attempts FROM firstread.studies WHERE state <> 'reported'")
