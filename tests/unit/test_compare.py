"""``models compare`` over results as ``models evaluate`` writes them."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.commands.compare import compare
from pipeline.errors import ConfigurationError


def result(folder: Path, model: str, *scores: tuple[str, float | None], cases: int = 8) -> Path:
    folder.mkdir()
    told: dict[str, Any] = {
        "cases": cases,
        "model": {"id": model},
        "scores": [
            {
                "task": "classify", "language": "en", "metric": metric, "variant": "over labels", "value": value,
                "low": None if value is None else value - 0.1, "high": None if value is None else value + 0.1,
                "n": cases,
            }
            for metric, value in scores
        ],
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(told))
    return folder


def test_scores_of_both_and_their_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = result(tmp_path / "a", "one", ("macro F1", 0.5), ("AUC", 0.75), ("only here", 1.0))
    second = result(tmp_path / "b", "two", ("AUC", None), ("macro F1", 0.625))
    compare(first, second / "results.json", as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert [(one["metric"], one["difference"]) for one in told["scores"]] == [
        ("macro F1", 0.125),
        ("AUC", None),
    ]
    compare(first, second, as_json=False)
    shown = capsys.readouterr().out
    assert "first: one, second: two, 8 cases" in shown
    assert "+0.125" in shown
    assert "may be" in shown
    assert "only here" not in shown


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    first = result(tmp_path / "a", "one", ("macro F1", 0.5))
    with pytest.raises(ConfigurationError, match="same data set"):
        compare(first, result(tmp_path / "b", "two", ("macro F1", 0.5), cases=9), as_json=True)
    with pytest.raises(ConfigurationError, match="no score in common"):
        compare(first, result(tmp_path / "c", "two", ("AUC", 0.5)), as_json=True)
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ConfigurationError, match="no result"):
        compare(first, tmp_path / "other.json", as_json=True)
