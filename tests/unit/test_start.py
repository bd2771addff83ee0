"""What a command loads before it works: no neural network, no orchestrator, until one is used."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sites import environment, write_site

HEAVY = ("torch", "transformers", "onnxruntime", "prefect", "tensorrt", "tensorrt_rtx")
PROGRAM = """
import json, sys
from flows import cli
from flows.commands import ending
code = ending.run(cli.app, json.loads(sys.argv[1]))
print(json.dumps({"code": code, "loaded": [name for name in json.loads(sys.stdin.read()) if name in sys.modules]}))
"""


def loaded(folder: Path, *arguments: str, names: tuple[str, ...] = HEAVY) -> tuple[int, list[str]]:
    """The exit code of a command in a process of its own, and which of ``names`` it had imported by then."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(arguments)],
        input=json.dumps(names), capture_output=True, text=True, cwd=folder, env=environment(), timeout=120,
        check=False,
    )  # fmt: skip
    assert done.stdout.strip(), done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    return int(told["code"]), list(told["loaded"])


UNNEEDED = ("numpy", "rich", "httpx", "pydicom", "alembic", "sqlalchemy")
"""What drafting, drawing or upgrading needs, and a look at the ledger does not."""


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("status", "--help")])
def test_help_loads_neither_settings_nor_database(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert loaded(
        tmp_path, *arguments, names=(*HEAVY, *UNNEEDED, "pydantic_settings", "psycopg", "asyncio")
    ) == (0, [])


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json"), ("audit", "verify"), ("db", "url")])
def test_a_look_at_the_ledger_loads_what_it_needs(
    arguments: tuple[str, ...], database_url: str, tmp_path: Path
) -> None:
    write_site(tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path / "films")}})
    assert loaded(tmp_path, *arguments, names=UNNEEDED) == (0, [])


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("status",), ("audit", "verify")])
def test_a_command_that_drafts_nothing_loads_no_model_and_no_orchestrator(
    arguments: tuple[str, ...], database_url: str, tmp_path: Path
) -> None:
    write_site(tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path / "films")}})
    assert loaded(tmp_path, *arguments) == (0, [])


def test_a_text_family_loads_no_runner_of_graphs(tmp_path: Path) -> None:
    program = (
        "import sys, models.families.text.text_family\nprint({'onnx', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=120, check=True
    )
    assert done.stdout.strip() == "set()"


def test_the_doctor_loads_them_when_it_tries_the_model_alone(database_url: str, tmp_path: Path) -> None:
    write_site(tmp_path, database_url, {}, model={"id": "no-such-family"})
    code, names = loaded(tmp_path, "doctor", "--json")
    assert (code, names) == (1, [])


def test_a_run_without_a_prefect_api_imports_no_prefect(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    write_site(tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path / "films")}})
    code, names = loaded(tmp_path, "run", "--json", names=("prefect", "torch", "transformers"))
    assert (code, names) == (0, [])


def test_no_plugin_of_another_package_sees_the_settings(database_url: str, tmp_path: Path) -> None:
    """As installed: what pydantic reads, passwords too, is handed to nobody, and no package is searched for plugins."""
    write_site(tmp_path, database_url, {})
    program = (
        "import sys; sys.argv = ['firstread', 'db', 'url']\n"
        "from flows.cli import main\n"
        "try: main()\n"
        "finally:\n"
        "    from pydantic.plugin import _loader\n"
        "    print(_loader._plugins)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=environment(), timeout=120,
        check=False,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "None", done.stdout + done.stderr
