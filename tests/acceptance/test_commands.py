"""The command as a person starts it: through a pipe of 80 columns, and where it stops."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.servers import free_port
from tests.sites import environment, firstread, write_site

PROGRAM = str(Path(sys.executable).with_name("firstread"))
SECRET = "not-to-be-seen"


def error_of(done: "subprocess.CompletedProcess[str]") -> dict[str, str]:
    """The error on the last line of standard output; no traceback and no password anywhere."""
    assert "Traceback" not in done.stderr + done.stdout
    assert SECRET not in done.stderr + done.stdout
    told: dict[str, str] = json.loads(done.stdout.splitlines()[-1])["error"]
    return told


def test_tables_go_through_a_pipe_at_80_columns(tmp_path: Path) -> None:
    command = f"{PROGRAM} models list | cat"
    piped = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env=environment(), cwd=tmp_path, check=True
    )
    lines = piped.stdout.splitlines()
    assert any(line.startswith("firstread-mini ") for line in lines)
    assert max(map(cell_len, lines)) <= 80
    assert piped.stderr == ""


@pytest.mark.parametrize(
    ("variables", "exit_code", "code"),
    [
        ({"FIRSTREAD_DATABASE__URL": f"mysql://fr:{SECRET}@h/d"}, 2, "configuration"),
        ({"FIRSTREAD_ARCHIVE__MAIN__URL": SECRET}, 2, "configuration"),
        ({"FIRSTREAD_DATABASE__URL": f"postgresql://fr:{SECRET}@127.0.0.1:1/d"}, 3, "database-away"),
    ],
)
def test_a_wrong_database_is_one_line(
    variables: dict[str, str], exit_code: int, code: str, tmp_path: Path
) -> None:
    began = time.monotonic()
    done = firstread("status", "--json", cwd=tmp_path, **variables)
    assert (done.returncode, error_of(done)["code"]) == (exit_code, code)
    assert len(done.stderr.splitlines()) <= 8
    assert time.monotonic() - began < 40


def test_a_prefect_that_is_away_is_one_line(tmp_path: Path) -> None:
    url = f"http://u:{SECRET}@127.0.0.1:{free_port()}/api"
    done = firstread("run", "--json", cwd=tmp_path, FIRSTREAD_ARCHIVES__MAIN__KIND="folder",
                     FIRSTREAD_ARCHIVES__MAIN__PATH=str(tmp_path), PREFECT_API_URL=url)  # fmt: skip
    assert (done.returncode, error_of(done)["code"]) == (3, "prefect-away")
    assert "prefect server start" in done.stderr


def test_a_run_that_stops_under_prefect_has_no_traceback(
    database_url: str, prefect_url: str, tmp_path: Path
) -> None:
    away = {"kind": "dimse", "host": "127.0.0.1", "port": free_port(), "ae_title": "GONE", "attempts": 1}
    films = tmp_path / "films"
    films.mkdir()
    config = write_site(
        tmp_path, database_url, {"main": away, "disk": {"kind": "folder", "path": str(films)}}
    )
    done = firstread("run", "--json", "--config", str(config), cwd=tmp_path, prefect_api=prefect_url)
    assert (done.returncode, error_of(done)["code"]) == (3, "archive-unreachable")
    absent = firstread(
        "run", "--json", "--archive", "disk", "--study", "1.2.3.4", "--config", str(config), cwd=tmp_path,
        prefect_api=prefect_url,
    )  # fmt: skip
    assert (absent.returncode, error_of(absent)["code"]) == (1, "not-in-archive")
    with config.open("a", encoding="utf-8") as file:
        file.write('[[tasks]]\ntask = "vqa"\nquestions = ["Is there a tube?"]\n')
    refused = firstread("run", "--json", "--config", str(config), cwd=tmp_path, prefect_api=prefect_url)
    assert (refused.returncode, error_of(refused)["code"]) == (2, "unknown-question")


def test_ctrl_c_ends_with_a_word_and_3(tmp_path: Path) -> None:
    """While it waits for a database that is away."""
    url = f"postgresql://fr:{SECRET}@127.0.0.1:{free_port()}/d"
    command = [PROGRAM, "audit", "verify", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=environment(FIRSTREAD_DATABASE__URL=url),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert "trying again" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    assert (done.returncode, error_of(done)["code"]) == (3, "interrupted")
    assert "stopped by Ctrl-C" in done.stderr
