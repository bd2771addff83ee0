"""RadEval in its own process: a real process speaks the protocol, and every failure says what to do."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from pipeline.errors import ConfigurationError, FirstreadError, StopRun
from tests.radeval_site import install_radeval

EFFUSION, OPACITY = "Small left pleural effusion.", "Lung opacity with pleural effusion."


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def bring_green(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hugging Face cache under ``folder`` that holds a commit of GREEN's model."""
    held = folder / "hub" / "models--StanfordAIMI--GREEN-radllama2-7b"
    (held / "snapshots" / COMMIT).mkdir(parents=True)
    (held / "snapshots" / COMMIT / "config.json").write_text("{}")
    (held / "refs").mkdir()
    (held / "refs" / "main").write_text(COMMIT)
    monkeypatch.setenv("HF_HOME", str(folder))
    monkeypatch.setenv("STAND_IN_GREEN", "here")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's folder, installed for the processes that the test starts."""
    return install_radeval(tmp_path / "site", monkeypatch)


def record(number: int, text: str, language: str = "en") -> dict[str, Any]:
    return {
        "id": str(number),
        "images": ["a.png"],
        "task": "report",
        "language": language,
        "reference": text,
        "split": "test",
    }


def evaluate(
    folder: Path, references: list[dict[str, Any]], texts: list[str], metrics: str, *more: str
) -> Result:
    """The command on predictions of ``texts``, its files in ``folder / "out"``."""
    (folder / "a.png").touch()
    (folder / "data.jsonl").write_text("\n".join(json.dumps(one, ensure_ascii=False) for one in references))
    made = folder / "made.txt"
    made.write_text("\n".join(json.dumps({"id": str(n), "text": text}) for n, text in enumerate(texts)))
    return CliRunner().invoke(
        app,
        ["models", "evaluate", str(folder / "data.jsonl"), "--predictions", str(made),
         "--out", str(folder / "out"), "--radeval", metrics, *more],
    )  # fmt: skip


def refused(result: Result, kind: type[FirstreadError], words: str) -> None:
    assert isinstance(result.exception, kind), result.output
    assert words in str(result.exception)


@pytest.mark.usefixtures("installed")
def test_scores_come_back_with_their_scorer_and_chinese_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_green(tmp_path / "cache", monkeypatch)
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    references = [
        record(0, EFFUSION),
        record(1, "Clear lungs."),
        record(2, "Edema."),
        record(3, "右侧胸腔积液。", "zh"),
    ]
    result = evaluate(
        tmp_path, references, [EFFUSION, OPACITY, "", "左肺清晰。"], f"radgraph, f1chexbert,green@{COMMIT}"
    )
    assert result.exit_code == 0, result.output
    assert "1 of 4 cases are not in English" in result.output
    held = json.loads((tmp_path / "out" / "results.json").read_text())
    scores = {one["metric"]: one for one in held["scores"] if one["scorer"].get("package")}
    assert {one["scorer"]["package"] for one in scores.values()} == {"RadEval 2.2.1"}
    assert {one["language"] for one in scores.values()} == {"en"}
    assert scores["RadGraph F1 complete"]["value"] == pytest.approx(1 / 3)
    assert scores["GREEN"]["variant"].endswith(COMMIT)
    assert scores["GREEN"]["n"] == 2, "one answer of its model could not be read"
    # present: effusion right; opacity and effusion false for no finding; no finding false for edema
    assert scores["CheXbert F1-14 micro"]["value"] == pytest.approx(2 * 1 / (2 * 1 + 3 + 2))
    assert scores["CheXbert F1-14 macro"]["value"] == pytest.approx((2 / 3) / 14)
    assert scores["CheXbert F1-5 micro"]["value"] == pytest.approx(2 / (2 + 1 + 1))
    assert (held["not_english"], scores["GREEN"]["split"]) == (1, "test")
    assert "Using device" in (tmp_path / "out" / "radeval.log").read_text()
    assert not Path("green.csv").exists(), "it writes into a folder that is gone"
    assert os.environ.get("TOKENIZERS_PARALLELISM") == before


def test_without_the_package_the_installation_is_named_before_anything_is_asked(tmp_path: Path) -> None:
    result = evaluate(tmp_path, [record(0, EFFUSION)], [EFFUSION], "radgraph")
    refused(result, ConfigurationError, "pip install 'firstread[metrics]'")
    assert "No module named 'radeval'" in str(result.exception)
    assert not (tmp_path / "out" / "predictions.jsonl").exists()


@pytest.mark.usefixtures("installed")
def test_a_missing_model_is_named_and_the_predictions_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nothing"))
    result = evaluate(tmp_path, [record(0, EFFUSION)], [EFFUSION], f"radgraph,green@{COMMIT}")
    refused(result, ConfigurationError, "It needs StanfordAIMI/GREEN-radllama2-7b in the Hugging Face cache")
    assert (tmp_path / "out" / "predictions.jsonl").exists()


def test_a_package_that_lacks_another_is_named(installed: Path, tmp_path: Path) -> None:
    (installed / "__init__.py").write_text("import medspacy\n")
    refused(evaluate(tmp_path, [record(0, EFFUSION)], [EFFUSION], "radgraph"), ConfigurationError, "medspacy")


@pytest.mark.usefixtures("installed")
def test_a_process_that_dies_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bring_green(tmp_path / "cache", monkeypatch)
    result = evaluate(tmp_path, [record(0, EFFUSION)], ["crash"], f"green@{COMMIT}")
    refused(result, StopRun, "ended with code 7")


@pytest.mark.usefixtures("installed")
def test_code_of_another_commit_than_the_one_named_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_green(tmp_path / "cache", monkeypatch)
    result = evaluate(tmp_path, [record(0, EFFUSION)], [EFFUSION], "green@" + "f" * 40)
    refused(result, ConfigurationError, f"name its commit, --radeval green@COMMIT ({COMMIT})")


@pytest.mark.usefixtures("installed")
def test_a_metric_that_cannot_be_opened_is_named_with_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_green(tmp_path / "cache", monkeypatch)
    monkeypatch.delenv("STAND_IN_GREEN")
    result = evaluate(tmp_path, [record(0, EFFUSION)], [EFFUSION], f"green@{COMMIT}")
    refused(result, ConfigurationError, "green cannot be opened (OSError: We couldn't connect")


@pytest.mark.parametrize(
    ("language", "metrics", "words"),
    [
        ("zh", "radgraph", "the data set has none"),
        ("en", "radgraph,bleu", "--radeval takes radgraph, f1chexbert, green, not bleu"),
        ("en", "green", "--radeval green@COMMIT"),
    ],
)
def test_what_it_cannot_score_is_refused(language: str, metrics: str, words: str, tmp_path: Path) -> None:
    refused(evaluate(tmp_path, [record(0, EFFUSION, language)], ["x"], metrics), ConfigurationError, words)
