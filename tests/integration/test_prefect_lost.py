"""Prefect is a record: lost in the middle of a run it costs the record; lost before, the run says so."""

import subprocess
import sys
from pathlib import Path

import psycopg

from flows.commands.simulate import simulate
from pipeline.store.embedded import EmbeddedPostgres
from tests.prefect_server import prefect_process
from tests.sites import environment, firstread, rows, summary, until, write_site


def test_a_run_whose_prefect_dies_in_the_middle_ends_as_it_would_have(
    database_url: str, postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    simulate(24, tmp_path / "films", seed=3)
    archives = {"main": {"kind": "folder", "path": str(tmp_path / "films")}}
    config = write_site(tmp_path, database_url, archives, model={"generate_batch": 2})
    command = [
        str(Path(sys.executable).with_name("firstread")),
        "run",
        "--json",
        "--verbose",
        "--config",
        str(config),
    ]
    home = tmp_path / "prefect"
    home.mkdir()
    with prefect_process(postgres_server.database_url_for("prefect_lost"), home) as (url, server):
        run = subprocess.Popen(
            command,
            env=environment(url),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(
            lambda: rows(database_url, "SELECT count(*) FROM firstread.reports")[0][0] > 0, "the first report"
        )
        server.kill()
        server.wait()
        out, error = run.communicate(timeout=240)
    assert run.returncode == 0, error
    told = summary(subprocess.CompletedProcess(command, run.returncode, out, error))
    assert (told["reported"], told["failed"]) == (24, 0)
    assert "Traceback" not in error
    assert "Prefect was not told how this run ended" in error
    assert rows(database_url, "SELECT count(*) FROM firstread.ledger WHERE lease_owner IS NOT NULL") == [(0,)]


def test_a_prefect_without_its_database_is_named_before_anything_is_done(
    database_url: str, postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    simulate(1, tmp_path / "films", seed=3)
    config = write_site(tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path / "films")}})
    home = tmp_path / "prefect"
    home.mkdir()
    with prefect_process(postgres_server.database_url_for("prefect_gone"), home) as (url, _):
        with psycopg.connect(postgres_server.admin_conninfo(), autocommit=True) as connection:
            connection.execute("ALTER DATABASE prefect_gone ALLOW_CONNECTIONS false")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'prefect_gone'"
            )
        done = firstread(
            "run",
            "--json",
            "--config",
            str(config),
            cwd=tmp_path,
            prefect_api=url,
            PREFECT_CLIENT_MAX_RETRIES="1",
        )
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "firstread: prefect-away: the Prefect API did not take this run" in done.stderr
    assert rows(database_url, "SELECT FROM firstread.ledger") == []
