"""How commands end and what they print, in this process; tests/acceptance/test_commands.py starts real ones."""

import json
from pathlib import Path

import pytest
import typer

from flows.cli import app
from flows.commands import ending
from pipeline.errors import ConfigurationError, FailStudy, RetryLater, SkipStudy, StopRun
from tests.readme import ROOT


def raising(error: BaseException) -> typer.Typer:
    """A command that ends with ``error``."""
    command = typer.Typer(pretty_exceptions_enable=False)

    @command.command()
    def run(json: bool = False) -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (ConfigurationError("wrong", "change it"), 2, "wrong"),
        (StopRun("unsound", "no disk"), 3, "unsound"),
        (RetryLater("away", "try later"), 3, "away"),
        (FailStudy("broken", "cannot be read"), 1, "broken"),
        (SkipStudy("gone", "not there"), 1, "gone"),
        (KeyboardInterrupt(), 3, "interrupted"),
        (ZeroDivisionError("PATIENT^NAME"), 3, "unexpected"),
    ],
)
def test_an_error_is_one_line_one_object_and_a_code(
    error: BaseException, exit_code: int, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ending.run(raising(error), ["--json"]) == exit_code
    shown = capsys.readouterr()
    told = json.loads(shown.out.splitlines()[-1])["error"]
    assert told["code"] == code
    assert set(told) == {"code", "message"}
    assert f"firstread: {code}: " in shown.err
    assert "Traceback" not in shown.err
    assert "PATIENT" not in shown.err + shown.out


def test_without_json_standard_output_stays_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending.run(raising(StopRun("unsound", "no disk")), []) == 3
    assert capsys.readouterr().out == ""


def test_a_password_in_a_message_is_masked(capsys: pytest.CaptureFixture[str]) -> None:
    error = StopRun("prefect", "https://u:SEC@RET@prefect/api is away, study 1.2.840.113619.2.55.3.1")
    assert ending.run(raising(error), ["--json"]) == 3
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert "SEC" not in text
        assert "RET" not in text
        assert "113619" not in text
        assert "https://u:***@prefect/api is away, study [uid]" in text


@pytest.mark.parametrize(
    "arguments",
    [["--xyzzy", "--json"], ["run", "--since", "junk", "--json"], ["run", "--json", "--language", "fr"]],
)
def test_wrong_options_are_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ending.run(app, arguments) == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out.splitlines()[-1])["error"]["code"] == "usage"
    assert "--help`" in shown.err
    assert ("write it as 2026-01-31" in shown.err) is ("junk" in arguments)


def test_dates_the_wrong_way_round_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("run", "discover"):
        assert ending.run(app, [command, "--since", "2026-02-01", "--until", "2026-01-01"]) == 2
        assert "--since 2026-02-01 lies after --until 2026-01-01" in capsys.readouterr().err


COMMANDS = [
    [],
    ["run"],
    ["discover"],
    ["ask"],
    ["listen"],
    ["serve"],
    ["status"],
    ["doctor"],
    ["simulate"],
    ["demo"],
    ["models"],
    ["models", "list"],
    ["models", "show"],
    ["models", "compile"],
    ["models", "evaluate"],
    ["audit", "verify"],
    ["audit", "export"],
    ["db", "upgrade"],
    ["db", "url"],
    ["db", "shell"],
    ["export"],
    ["retry"],
    ["retire"],
    ["reconcile"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_keeps_its_brackets_and_fits(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ending.run(app, [*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "<bool>" not in shown
    assert "default: -1" not in shown
    assert "an  table" not in shown
    assert ("[archives.NAME]" in shown) == ("--archive" in shown)
    if command == ["run"]:
        assert "[default: (that of [model])]" in shown


def test_the_groups_say_what_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending.run(app, ["--help"]) == 0
    shown = capsys.readouterr().out
    assert "List, show, prove, compile and evaluate the model families." in shown
    assert "..." not in shown.partition("Commands:")[2]  # no command's sentence is cut


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending.run(app, ["--version"]) == 0
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    number = text.partition('version = "')[2].partition('"')[0]
    assert capsys.readouterr().out.startswith(f"firstread {number}, Python ")
