"""Every command of the README is run: here, with make in test_demo.py, with prefect in test_triggered.py."""

import json
import re
import sys
import tomllib
import urllib.request
from pathlib import Path

import pytest

from flows.commands.simulate import simulate
from flows.environment.site_models import check_site_tasks, site_tasks
from models.family import Task
from models.model_choice import ModelChoice
from pipeline.report import Language
from pipeline.settings import Settings
from tests import readme
from tests.servers import free_port
from tests.sites import environment, firstread, running, until, write_site

EXAMPLE_UID = "2.25.100"
"""The study that the commands of the pages name."""
TASKS = "docs/tasks.md"


def test_the_readme_starts_only_what_tests_run() -> None:
    assert readme.programs() == {"make", "firstread", "prefect"}


def test_the_configuration_is_accepted() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", (readme.ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    (tasks,) = re.findall(r"```toml\n(.*?)```", (readme.ROOT / TASKS).read_text(encoding="utf-8"), re.S)
    settings = Settings(**tomllib.loads(block))
    assert set(settings.archives) == {"main", "ct", "disk"}
    listed = site_tasks(Settings(**tomllib.loads(tasks)), Language.ENGLISH)
    check_site_tasks(Settings(**tomllib.loads(tasks)), ModelChoice("firstread-mini"), Language.ENGLISH)
    assert [one.request.task for one in listed] == [
        Task.CLASSIFY,
        Task.VQA,
        Task.VQA,
        Task.DETECT,
        Task.SEGMENT,
        Task.SUMMARIZE,
    ]


def test_the_commands_of_a_site(work_url: str, prefect_url: str, tmp_path: Path) -> None:
    films = tmp_path / "films"
    studies = simulate(3, films, seed=21).studies
    port = free_port()
    write_site(tmp_path, work_url, {"main": {"kind": "folder", "path": str(films)}}, serve={"port": port})
    upgraded = firstread("db", "upgrade", cwd=tmp_path)
    assert upgraded.returncode == 0, upgraded.stderr
    assert "holds no study yet" in firstread("status", cwd=tmp_path).stdout
    for command in (*readme.commands("firstread"), *readme.commands("firstread", TASKS)):
        if command[1] == "serve":
            _serve(command, tmp_path, port)
            continue
        named = [studies[0].study_instance_uid if word == EXAMPLE_UID else word for word in command[1:]]
        done = firstread(*named, cwd=tmp_path, prefect_api=prefect_url)
        assert done.returncode == 0, (command, done.stderr)
    drafted = firstread("run", "--json", cwd=tmp_path, prefect_api=prefect_url)
    assert json.loads(drafted.stdout.splitlines()[-1])["discovered"] == 3


def _serve(command: list[str], folder: Path, port: int) -> None:
    program = str(Path(sys.executable).with_name(command[0]))
    with running([program, *command[1:]], folder / "serve.log", cwd=folder, env=environment()):
        until(lambda: "review page" in (folder / "serve.log").read_text(), "the server's start", 60)
        address = f"http://127.0.0.1:{port}/fhir/DiagnosticReport?status=partial"
        until(lambda: _answers(address), "an answer", 30)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(json.load(answer)["resourceType"] == "Bundle")
    except OSError:
        return False


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run", "--archive", "nowhere"), 2, "no [archives.nowhere]"),
        (("run", "--config", "missing.toml"), 2, "no such file"),
        (("models", "show", "nothing"), 2, "no model family"),
        (("run", "--since", "yesterday"), 2, "Invalid value"),
    ],
)
def test_usage_errors_say_what_to_do(
    arguments: tuple[str, ...], code: int, words: str, tmp_path: Path
) -> None:
    done = firstread(*arguments, cwd=tmp_path, FIRSTREAD_DATA_DIR=str(tmp_path / "data"))
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_keys_are_refused_without_repeating_secrets(tmp_path: Path) -> None:
    (tmp_path / "firstread.toml").write_text('[database]\nurl = "postgresql://u:secret@h/d"\nurll = "x"\n')
    done = firstread("status", cwd=tmp_path)
    assert done.returncode == 2
    assert "database.urll" in done.stderr
    assert "secret" not in done.stderr
