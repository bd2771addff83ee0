"""Areas under the ROC curve: by pairs, over resampled studies, apart where scores are not comparable."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.answering import scores_of
from models.evaluation.areas import ScoresOf, area
from models.evaluation.cases import Case, Reference, read_cases
from models.evaluation.intervals import Score
from models.evaluation.predictions import Prediction, read_predictions, write_predictions
from models.evaluation.report_labels import LABELLER
from models.evaluation.scores import score
from models.family import Task, Traits
from pipeline.errors import ConfigurationError
from pipeline.report import Language
from tests.answering_family import AnsweringFamily


def classify(number: int, true: tuple[str, ...], labels: tuple[str, ...] = ("nodule", "normal")) -> Case:
    """A classification of a study of its own."""
    return Case(
        id=str(number), study=str(number), images=(), views=(), task=Task.CLASSIFY, language=Language.ENGLISH,
        reference=Reference(labels=true), split="test", labels=labels,
    )  # fmt: skip


def areas(
    cases: list[Case], scores: list[dict[str, float]], kind: ScoresOf = ScoresOf.LABEL
) -> dict[str, Score]:
    """The areas by label, of cases whose predictions have ``scores``."""
    made = [Prediction(case.id, scores=held) for case, held in zip(cases, scores, strict=True)]
    held = score(cases, made, 0, kind)
    return {one.metric: one for one in held if one.metric.startswith("AUC")}


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=1, max_size=12),
)
def test_the_area_is_the_share_of_pairs_in_the_right_order(drawn: list[tuple[int, bool, int]]) -> None:
    """By counting every pair of a positive and a negative, each as often as its weights say."""
    right = whole = 0.0
    for value, true, weight in drawn:
        for other, its, more in drawn:
            if true and not its:
                whole += weight * more
                right += weight * more * (float(value > other) + 0.5 * (value == other))
    scores, positive, weights = (np.asarray(column) for column in zip(*drawn, strict=True))
    found = area(scores.astype(np.int64), positive.astype(bool), weights.astype(np.float64))
    assert found == pytest.approx(right / whole) if whole else np.isnan(found)


def test_a_label_has_its_area_with_an_interval_and_its_counts() -> None:
    cases = [classify(n, ("nodule",) if n % 2 else ("normal",)) for n in range(20)]
    scores = [{"Nodule": 0.9 if n in (1, 3, 5, 7, 9) else 0.4, "normal": 0.5} for n in range(20)]
    told = areas(cases, scores)
    nodule, normal = told["AUC nodule"], told["AUC normal"]
    assert nodule.value == pytest.approx(0.75)
    assert nodule.low is not None
    assert nodule.high is not None
    assert nodule.low < 0.75 < nodule.high
    assert "10 with, 10 without" in nodule.note
    assert "resamples left out" not in nodule.note
    assert (normal.value, normal.low, normal.high) == (0.5, 0.5, 0.5)


def test_resamples_are_of_studies_not_of_cases() -> None:
    """One study is in the right order throughout and one in the wrong: a resample may hold either alone."""
    cases = [
        replace(classify(n, ("nodule",) if n % 2 else ()), study="right" if n < 10 else "wrong")
        for n in range(20)
    ]
    nodule = areas(cases, [{"nodule": float(n % 2) if n < 10 else float(n % 2 == 0)} for n in range(20)])[
        "AUC nodule"
    ]
    assert (nodule.value, nodule.low, nodule.high, nodule.studies) == (0.5, 0.0, 1.0, 2)


def test_one_class_only_is_said_and_no_number() -> None:
    told = areas([classify(n, ()) for n in range(5)], [{"nodule": n / 5} for n in range(5)])
    assert set(told) == {"AUC nodule"}, "nobody scored 'normal'"
    nodule = told["AUC nodule"]
    assert (nodule.value, nodule.low, nodule.high) == (None, None, None)
    assert nodule.note == "0 with, 5 without; one class only"


def test_resamples_of_one_class_are_left_out_and_cases_without_a_score_said() -> None:
    cases = [classify(n, ("nodule",) if n == 0 else ()) for n in range(4)]
    nodule = areas(cases, [{"nodule": 0.7}, {"nodule": 0.2}, {"nodule": 0.1}, {}])["AUC nodule"]
    assert (nodule.value, nodule.low, nodule.n) == (1.0, 1.0, 3)
    assert "of 1000 resamples left out: one class only" in nodule.note
    assert nodule.note.endswith("1 cases without a score left out")


@pytest.mark.parametrize("kind", [ScoresOf.SET, ScoresOf.FILE])
def test_scores_that_hang_on_the_label_set_are_compared_within_it(kind: ScoresOf) -> None:
    wide = ("nodule", "normal", "effusion")
    cases = [classify(n, ("nodule",) if n % 2 else (), wide if n > 3 else wide[:2]) for n in range(8)]
    scores = [
        {"nodule": 0.6 if n % 2 else 0.5} | ({"nodule": 0.3 + 0.1 * (n % 2)} if n > 3 else {})
        for n in range(8)
    ]
    made = [Prediction(case.id, scores=held) for case, held in zip(cases, scores, strict=True)]
    apart = [one for one in score(cases, made, 0, kind) if one.metric == "AUC nodule"]
    assert [(one.value, one.n) for one in apart] == [(1.0, 4), (1.0, 4)]
    assert apart[0].variant.endswith(f"{kind.value}; asked among: nodule, normal")
    (joined,) = (one for one in score(cases, made, 0, ScoresOf.LABEL) if one.metric == "AUC nodule")
    assert (joined.value, joined.n) == (12 / 16, 8), "by themselves all cases are compared with each other"


def test_a_family_says_whether_its_scores_hang_on_the_label_set() -> None:
    family = AnsweringFamily()
    assert scores_of(family) is ScoresOf.LABEL
    family.traits = Traits(among_labels=True)
    assert scores_of(family) is ScoresOf.SET


def test_a_report_is_scored_for_the_kinds_its_reference_states() -> None:
    texts = ["There is a left pleural effusion.", "The lungs are clear. No pleural effusion."]
    cases = [
        Case(str(n), str(n), (), (), Task.REPORT, Language.ENGLISH, Reference(text), "test")
        for n, text in enumerate(texts)
    ]
    told = areas(cases, [{"pleural_effusion": 0.8}, {"pleural_effusion": 0.1}])
    assert set(told) == {"AUC pleural_effusion"}
    assert told["AUC pleural_effusion"].value == 1.0
    assert LABELLER in told["AUC pleural_effusion"].variant


def test_scores_survive_the_file_of_predictions_and_a_bad_one_is_refused(tmp_path: Path) -> None:
    made = [Prediction("0", "x", ("nodule",), ((0, 0, 1, 1),), ((2, 3),), {"nodule": 0.25})]
    file = tmp_path / "predictions.jsonl"
    write_predictions(file, made)
    assert read_predictions(file, [classify(0, ())]) == made
    for bad in ("NaN", '"0.5"', "true"):
        file.write_text(f'{{"id": "0", "scores": {{"nodule": {bad}}}}}\n')
        with pytest.raises(ConfigurationError, match="line 1"):
            read_predictions(file, [classify(0, ())])


def test_a_reference_label_that_nobody_asked_about_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    record = {"id": "1", "task": "classify", "images": ["a.png"], "labels": ["a", "b"]}
    (tmp_path / "a.png").touch()
    file.write_text(json.dumps({**record, "reference": {"labels": ["A"]}}))
    assert read_cases(file)[0].reference.labels == ("A",)
    file.write_text(json.dumps({**record, "reference": {"labels": ["c"]}}))
    with pytest.raises(ConfigurationError, match="none of labels"):
        read_cases(file)
