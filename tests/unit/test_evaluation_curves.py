"""ROC, precision and calibration curves: against the area by pairs, and against cases counted by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.areas import ScoresOf, area
from models.evaluation.curves import calibration, curve, draw_curves
from models.evaluation.predictions import Prediction
from tests.unit.test_evaluation_areas import classify

SOME = st.lists(st.tuples(st.sampled_from((0.0, 0.2, 0.5, 0.9)), st.booleans()), min_size=2, max_size=30)


@given(SOME.filter(lambda held: 0 < sum(true for _, true in held) < len(held)))
def test_the_area_below_the_curve_is_the_area_by_pairs(held: list[tuple[float, bool]]) -> None:
    scores, true = zip(*held, strict=True)
    drawn = curve(scores, true)
    below = np.trapezoid((0.0, *drawn.recall), (0.0, *drawn.false_alarms))
    _, ranks = np.unique(scores, return_inverse=True)
    assert below == pytest.approx(area(ranks, np.array(true), np.ones(len(true))))
    assert drawn.recall[-1] == drawn.false_alarms[-1] == 1
    assert drawn.precision[-1] == pytest.approx(np.mean(true))


def test_each_threshold_counts_what_is_called_at_it() -> None:
    drawn = curve((0.9, 0.8, 0.8, 0.1), (True, True, False, False))
    assert drawn.recall.tolist() == [0.5, 1, 1]
    assert drawn.false_alarms.tolist() == [0, 0.5, 1]
    assert drawn.precision.tolist() == [1, pytest.approx(2 / 3), 0.5]


@pytest.mark.parametrize("true", [(True, True), (False, False)])
def test_one_class_has_no_curve(true: tuple[bool, bool]) -> None:
    with pytest.raises(ValueError, match="cases without"):
        curve((0.1, 0.2), true)


def test_calibration_by_tenths_a_score_of_one_in_the_last() -> None:
    mean, share, counts = calibration((0.11, 0.19, 0.95, 1.0), (False, True, True, True))
    assert mean == pytest.approx([0.15, 0.975])
    assert share.tolist() == [0.5, 1]
    assert counts.tolist() == [2, 2]


def test_a_file_for_each_group_with_both_kinds_of_case(tmp_path: Path) -> None:
    """Scores that are no probabilities and Chinese labels are drawn too; warnings are errors here."""
    cases = [classify(n, ("气胸",) if n % 2 else (), ("气胸", "nodule")) for n in range(6)]
    made = [Prediction(case.id, scores={"气胸": 3.0 * n, "nodule": 0.1}) for n, case in enumerate(cases)]
    assert draw_curves(cases, made, tmp_path, ScoresOf.LABEL) == (tmp_path / "classify-en-curves.png",)
    assert draw_curves(cases[:1], made[:1], tmp_path, ScoresOf.LABEL) == ()
