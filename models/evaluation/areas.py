"""Areas under the ROC curve, label by label, with bootstrap intervals over studies."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import nan

import numpy as np
from numpy.typing import NDArray

from models.evaluation.cases import Case
from models.evaluation.intervals import Array, Measure, Score, draw, summary
from models.evaluation.predictions import Prediction
from models.evaluation.report_labels import KINDS, LABELLER, REPORTS, labels_of, named_set

_WHAT = "area under the ROC curve, ties half"


class ScoresOf(StrEnum):
    """What a score of a label hangs on; where it is more than the label, label sets are kept apart."""

    LABEL = "each label is scored by itself"
    SET = "softmax over the labels asked among, comparable only within them"
    FILE = "as the file of predictions gives it"


@dataclass(slots=True)
class ScoredLabel:
    """What is known of one label: for each case its study, its score and whether it has the label; ``unscored`` cases
    had no score of it.
    """

    studies: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    true: list[bool] = field(default_factory=list)
    unscored: int = 0


def score_areas(
    group: tuple[str, str], pairs: Sequence[tuple[Case, Prediction]], seed: int, kind: ScoresOf
) -> list[Score]:
    """One score for each label that any prediction of ``pairs`` has a score of; ``group`` is task and language."""
    return [_area(group, *name, one, seed) for name, one in scored_labels(pairs, kind).items()]


def scored_labels(
    pairs: Sequence[tuple[Case, Prediction]], kind: ScoresOf
) -> dict[tuple[str, str], ScoredLabel]:
    """Each label that a prediction of ``pairs`` has a score of, by its name and by what its scores are."""
    told: dict[tuple[str, str], ScoredLabel] = defaultdict(ScoredLabel)
    for case, made in pairs:
        scores = {name.casefold(): value for name, value in made.scores.items()}
        variant = _variant(case, kind)
        for label, true in asked_labels(case).items():
            one = told[label, variant]
            if label.casefold() in scores:
                one.studies.append(case.study)
                one.scores.append(scores[label.casefold()])
                one.true.append(true)
            else:
                one.unscored += 1
    return {name: one for name, one in told.items() if one.scores}


def area(values: NDArray[np.int64], true: NDArray[np.bool_], weights: Array) -> float:
    """Area under the curve of cases whose scores have the ranks ``values``, each counted ``weights`` times; nan where
    one class has no weight. All [cases]; ranks from 0, equal for equal scores."""
    positive = np.bincount(values, weights * true)
    negative = np.bincount(values, weights * ~true)
    pairs = positive.sum() * negative.sum()
    if not pairs:
        return nan
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / pairs)


def asked_labels(case: Case) -> dict[str, bool]:
    """The labels that a score of the case may be of, and whether the case has each; empty where nobody knows.

    Those of the case, where its reference says which it has; else the labeller's kinds, read from a report.
    """
    if case.labels and case.reference.labels is not None:
        held = {name.casefold() for name in case.reference.labels}
        return {label: label.casefold() in held for label in case.labels}
    if case.task in REPORTS and case.reference.text:
        present = labels_of(case.reference.text)
        return {label: label in present for label in KINDS}
    return {}


def _variant(case: Case, kind: ScoresOf) -> str:
    if not case.labels or case.reference.labels is None:
        return f"{_WHAT}; {kind.value}; truth: {LABELLER}"
    return f"{_WHAT}; {kind.value}" + (
        "" if kind is ScoresOf.LABEL else f"; asked among: {named_set(case.labels)}"
    )


def _area(group: tuple[str, str], label: str, variant: str, told: ScoredLabel, seed: int) -> Score:
    names, places = np.unique(told.studies, return_inverse=True)
    _, ranks = np.unique(told.scores, return_inverse=True)
    true = np.array(told.true)
    value = area(ranks, true, np.ones(len(ranks)))
    values = [area(ranks, true, drawn[places]) for drawn in draw(len(names), seed)]
    measure = Measure(f"AUC {label}", variant, "one class only", plotted=f"AUC {label.replace('_', ' ')}")
    score = summary(group, measure, value, values, (len(ranks), len(names)))
    notes = [f"{true.sum()} with, {(~true).sum()} without", score.note]
    if told.unscored:
        notes.append(f"{told.unscored} cases without a score left out")
    return replace(score, note="; ".join(note for note in notes if note))
