"""Plots and tables of scores: what they hold, and that no name, number or language breaks them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.commands.evaluation_table import show_scores
from models.evaluation.intervals import Score
from models.evaluation.plots import draw

PLAIN = Score("classify", "en", "accuracy", "exact set", 0.8, 0.6, 0.9, 20, 10, plotted="accuracy")
NOTHING = {"cases": 20, "failures": {}, "unscored": [], "not_english": 0}


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as opened:
        return np.asarray(opened.convert("RGB"), np.int16)


def share_of_blue(file: Path) -> float:
    """The part of a plot that has the colour of English."""
    return float((np.abs(pixels(file) - (0x1F, 0x6F, 0xB4)).max(axis=2) < 10).mean())


def test_one_file_for_each_task_that_has_something_to_plot(tmp_path: Path) -> None:
    scores = [
        PLAIN,
        replace(PLAIN, task="landmark", metric="landmark error", plotted=""),
        replace(PLAIN, task="detect", value=None, low=None, high=None),
    ]
    assert draw(scores, tmp_path) == (tmp_path / "classify.png",)
    assert share_of_blue(tmp_path / "classify.png") > 0


def test_chinese_names_and_scores_that_share_a_name_are_drawn(tmp_path: Path) -> None:
    """Warnings are errors here: a missing character would be one."""
    scores = [PLAIN, replace(PLAIN, value=0.2, low=0.1, high=0.3)]
    scores += [replace(PLAIN, language="zh", metric=name, plotted=name) for name in ("AUC 结节", "AUC 气胸")]
    draw(scores, tmp_path)
    high = len(pixels(tmp_path / "classify.png"))
    draw(scores[:1], tmp_path)
    assert high > len(pixels(tmp_path / "classify.png")) + 3 * 30, "each of the four has a row of its own"


def test_intervals_widen_the_marks(tmp_path: Path) -> None:
    draw([PLAIN], tmp_path)
    wide = share_of_blue(tmp_path / "classify.png")
    draw([replace(PLAIN, low=0.8, high=0.8)], tmp_path)
    assert share_of_blue(tmp_path / "classify.png") < wide


def test_the_table_shows_values_remarks_and_what_was_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    undefined = replace(PLAIN, metric="AUC [/a]", value=None, low=None, high=None, note="one class only")
    scores = [PLAIN, undefined, replace(PLAIN, metric="GREEN", variant="matched", scorer="RadEval 2.2.1")]
    show_scores(
        scores,
        {
            **NOTHING,
            "failures": {"1": "no-film", "3": "odd", "4": "odd"},
            "unscored": ["2"],
            "not_english": 3,
        },
    )
    told = capsys.readouterr()
    assert "0.800  0.600 to 0.900  20" in told.out
    assert "one class only" in told.out
    assert "AUC [/a] [1]" in told.out, "a name of the data set is no mark-up"
    assert "[2] matched; RadEval 2.2.1" in told.out
    assert told.out.count("[1]") == 3, "a variant is written once and pointed to"
    assert told.out.splitlines()[-3:] == [
        "3 of 20 cases could not be asked and count as empty answers (no-film: 1, odd: 2)",
        "1 of 20 cases hold nothing in their reference that is scored",
        "3 of 20 cases are not in English, which RadEval's metrics do not read",
    ]
