"""docs/evaluation.md as a user reads it: its data sets are written, its commands run, on the model that ships."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from flows.cli import app
from models.evaluation.intervals import Score
from models.family import Task
from models.simulation.film import MAX_VALUE, render
from tests import readme
from tests.engines import share_graphs
from tests.radeval_site import install_radeval

PAGE = "docs/evaluation.md"
TEXT = (readme.ROOT / PAGE).read_text(encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files with a simulated film for each image they name, and a stand-in of RadEval."""
    for name, text in re.findall(r"^```jsonl? (\S+)\n(.*?)^```$", TEXT, re.S | re.M):
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        file.write_text(text, "utf-8")
        for image in sorted(set(re.findall(r'"([^"]+\.png)"', text))):
            _film(file.parent / image if "iu_xray" not in name else file.parent / "images" / image)
    install_radeval(tmp_path / "site", monkeypatch)
    (tmp_path / "firstread-data").mkdir()
    share_graphs(tmp_path / "firstread-data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _film(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    film = render(int(path.stem) if path.stem.isdigit() else 7, size=256, held_out=True)
    Image.fromarray(np.rint(film.pixels * (255 / MAX_VALUE)).astype(np.uint8)).save(path)


def run(words: list[str]) -> None:
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, (words, done.output, done.exception)


def results(folder: str) -> dict[str, Any]:
    held: dict[str, Any] = json.loads(Path(folder, "results.json").read_text("utf-8"))
    return held


def metrics(folder: str) -> Iterator[str]:
    return (one["metric"] for one in results(folder)["scores"])


@pytest.mark.usefixtures("site")
def test_every_command_of_the_page_runs() -> None:
    assert readme.programs(PAGE) == {"firstread"}
    for command in readme.commands("firstread", PAGE):
        run(command)
    whole = results("evaluation")
    assert (whole["failures"], whole["unscored"], whole["cases"]) == ({}, [], 10)
    assert whole["model"]["id"] == "firstread-mini"
    assert {one["task"] for one in whole["scores"]} <= set(Task)
    assert {"AUC nodule", "box precision", "closed accuracy", "landmark error"} <= set(metrics("evaluation"))
    assert Path("evaluation", "report.png").is_file()
    assert Path("evaluation", "classify-en-curves.png").is_file()
    assert "machine-made" in Path("evaluation", "worst.html").read_text("utf-8")
    assert {one["split"] for one in results("iu_xray_scores")["scores"]} == {"test"}
    assert results("rexrank_scores")["scores"][0]["views"] == ["LL", "PA"]
    assert "CheXbert F1-5 micro" in set(metrics("again"))
    assert (
        Path("again", "predictions.jsonl").read_text() == Path("evaluation", "predictions.jsonl").read_text()
    )


@pytest.mark.usefixtures("site")
def test_a_batch_answers_as_one_by_one() -> None:
    for batch in ("1", "16"):
        run(["firstread", "models", "evaluate", "chest", "--batch", batch, "--out", batch])
    assert Path("1", "predictions.jsonl").read_text() == Path("16", "predictions.jsonl").read_text()


def test_the_page_names_every_stored_field_and_score() -> None:
    told = TEXT.split("## What is stored")[1]
    assert not {name for name in Score.__slots__ if f"`{name}`" not in told}
    for name in (
        "ROUGE-L",
        "chrF",
        "label F1",
        "AUC",
        "IoU",
        "box precision",
        "closed accuracy",
        "open token F1",
    ):
        assert f"| {name}" in TEXT, name
