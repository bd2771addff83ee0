"""Scores per task and language, each with a bootstrap interval over studies.

Every metric is a function of sums over cases, so a resample of the studies is one product of matrices.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from models.evaluation.cases import Box, Case
from models.evaluation.text_scores import (
    TOKENS,
    bleu,
    bleu_counts,
    characters,
    chrf,
    overlap,
    rouge_l,
    tokens,
)
from models.families import Task
from models.findings_text import read_findings
from models.simulation.phrases import KIND_PATTERNS
from pipeline.report import Language

RESAMPLES = 1000
LABELLER = "firstread findings_text reader"
_KINDS = tuple(KIND_PATTERNS)
_REPORTS = frozenset({Task.REPORT, Task.FINDINGS, Task.IMPRESSION, Task.GROUNDED_REPORT, Task.SUMMARIZE})
_PLACES = frozenset({Task.DETECT, Task.GROUNDED_REPORT})
_NAMED = frozenset({Task.CLASSIFY, Task.IDENTIFY})
_ASKED = frozenset({Task.VQA, Task.TEXT_QA})
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model answered to the case ``id``; boxes and points in pixels of the original first image."""

    id: str
    text: str = ""
    labels: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()
    points: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """One value with its 95 % interval, over ``n`` cases of ``studies`` studies; ``variant`` says exactly which."""

    task: str
    language: str
    metric: str
    variant: str
    value: float
    low: float
    high: float
    n: int
    studies: int


@dataclass(frozen=True, slots=True)
class _Metric:
    name: str
    variant: str
    of_sums: Callable[[Array], float]
    rows: list[Array] = field(default_factory=list)
    studies: list[str] = field(default_factory=list)


def score(cases: Sequence[Case], predictions: Sequence[Prediction], seed: int) -> tuple[Score, ...]:
    """Scores of ``predictions``, one for each case in the same order, per task and language."""
    pairs = sorted(
        zip(cases, predictions, strict=True), key=lambda pair: (pair[0].task.value, pair[0].language.value)
    )
    scores: list[Score] = []
    for (task, language), group in groupby(pairs, key=lambda pair: (pair[0].task, pair[0].language)):
        metrics: dict[tuple[str, str], _Metric] = {}
        for case, prediction in group:
            for metric, row in _rows(case, prediction):
                held = metrics.setdefault((metric.name, metric.variant), metric)
                held.rows.append(row)
                held.studies.append(case.study)
        scores += [_interval(task, language, metric, seed) for metric in metrics.values()]
    return tuple(scores)


def iou(one: Box, other: Box, *, extra: float = 0.0) -> float:
    """Intersection over union, 0..1; ``extra`` 1 counts both border pixels, as Uni-Med does."""
    wide = min(one[2], other[2]) - max(one[0], other[0]) + extra
    high = min(one[3], other[3]) - max(one[1], other[1]) + extra
    if wide <= 0 or high <= 0:
        return 0.0
    areas = sum((box[2] - box[0] + extra) * (box[3] - box[1] + extra) for box in (one, other))
    return wide * high / (areas - wide * high)


def _interval(task: Task, language: Language, metric: _Metric, seed: int) -> Score:
    names = sorted(set(metric.studies))
    index = {name: place for place, name in enumerate(names)}
    sums = np.zeros((len(names), len(metric.rows[0])))
    for study, row in zip(metric.studies, metric.rows, strict=True):
        sums[index[study]] += row
    drawn = np.random.default_rng(seed).multinomial(len(names), [1 / len(names)] * len(names), RESAMPLES)
    values = [metric.of_sums(row) for row in drawn @ sums]
    low, high = np.percentile(values, [2.5, 97.5])
    value = metric.of_sums(sums.sum(axis=0))
    rows = (len(metric.rows), len(names))
    return Score(task, language, metric.name, metric.variant, value, float(low), float(high), *rows)


def _mean(name: str, variant: str, value: float) -> tuple[_Metric, Array]:
    return _Metric(name, variant, lambda sums: float(sums[0] / sums[1])), np.array([value, 1.0])


def _f1(name: str, variant: str, counts: Array, *, macro: bool) -> tuple[_Metric, Array]:
    """``counts`` [3 * kinds]: true positives, false positives, false negatives, kind by kind."""

    def of_sums(sums: Array) -> float:
        table = sums.reshape(-1, 3)
        if not macro:
            table = table.sum(axis=0, keepdims=True)
        both = 2 * table[:, 0] + table[:, 1] + table[:, 2]
        known = both > 0
        return float((2 * table[known, 0] / both[known]).mean()) if known.any() else 0.0

    return _Metric(name, variant, of_sums), counts


def _rows(case: Case, made: Prediction) -> list[tuple[_Metric, Array]]:
    rows: list[tuple[_Metric, Array]] = []
    if case.task in _REPORTS and case.reference.text:
        rows += _text_rows(case, made)
        rows += _label_rows(case, made)
    if case.task in _PLACES and case.reference.boxes:
        rows += _box_rows(case, made)
    if case.task is Task.LANDMARK and case.reference.points:
        rows += _point_rows(case, made)
    if case.task in _NAMED and case.reference.labels:
        rows += _class_rows(case, made)
    if case.task in _ASKED and case.reference.text:
        rows += _answer_rows(case, made)
    return rows


def _text_rows(case: Case, made: Prediction) -> list[tuple[_Metric, Array]]:
    language, variant = case.language, TOKENS[case.language]
    own, true = tokens(made.text, language), tokens(case.reference.text, language)
    rows = _bleu_rows(own, true, variant)
    if language is Language.CHINESE:
        rows += _bleu_rows(characters(made.text), characters(case.reference.text), "single characters")
    rows.append(_mean("ROUGE-L", f"F1, beta 1, whole text; {variant}", rouge_l(own, true)))
    rows.append(_mean("chrF", "sacrebleu chrF2, mean of texts", chrf(made.text, case.reference.text)))
    return rows


def _bleu_rows(own: list[str], true: list[str], variant: str) -> list[tuple[_Metric, Array]]:
    counts = bleu_counts(own, true)
    rows: list[tuple[_Metric, Array]] = []
    for order in range(1, 5):
        metric = _Metric(
            f"BLEU-{order}",
            f"corpus, no smoothing; {variant}",
            lambda sums, order=order: bleu(sums, order),  # type: ignore[misc]
        )
        rows.append((metric, counts))
        rows.append(_mean(f"BLEU-{order}", f"mean of texts, no smoothing; {variant}", bleu(counts, order)))
    return rows


def _label_rows(case: Case, made: Prediction) -> list[tuple[_Metric, Array]]:
    own = {finding.kind for finding in read_findings(made.text) if finding.present}
    true = {finding.kind for finding in read_findings(case.reference.text) if finding.present}
    counts = _counts(own, true, _KINDS)
    variant = f"{LABELLER}, present findings, {len(_KINDS)} kinds"
    return [
        _f1("label F1 micro", variant, counts, macro=False),
        _f1("label F1 macro", f"{variant}, over kinds that occur", counts, macro=True),
    ]


def _counts(own: set[str], true: set[str], names: Sequence[str]) -> Array:
    return np.array(
        [(n in own and n in true, n in own and n not in true, n not in own and n in true) for n in names],
        np.float64,
    ).ravel()


def _box_rows(case: Case, made: Prediction) -> list[tuple[_Metric, Array]]:
    """The mean over reference boxes of the best box; a missing one counts 0."""
    rows = []
    for extra, name in ((0.0, "plain"), (1.0, "+1 pixel, as Uni-Med")):
        best = [
            max((iou(box, true, extra=extra) for box in made.boxes), default=0.0)
            for true in case.reference.boxes
        ]
        rows.append(_mean("IoU", f"{name}, best box of each reference box", float(np.mean(best))))
        rows.append(_mean("accuracy at 0.5", f"IoU > 0.5, {name}", float(np.mean([b > 0.5 for b in best]))))
    return rows


def _point_rows(case: Case, made: Prediction) -> list[tuple[_Metric, Array]]:
    if not made.points:
        return [_mean("landmark answered", "share of cases with a point", 0.0)]
    true, own = case.reference.points[0], made.points[0]
    distance = float(np.hypot(true[0] - own[0], true[1] - own[1]))
    return [
        _mean("landmark answered", "share of cases with a point", 1.0),
        _mean("landmark error", "pixels of the original, mean where a point was given", distance),
    ]


def _class_rows(case: Case, made: Prediction) -> list[tuple[_Metric, Array]]:
    true = {name.casefold() for name in case.reference.labels}
    own = {name.casefold() for name in made.labels}
    rows = [_mean("accuracy", "exact set of classes, case ignored", float(own == true))]
    if case.labels:
        names = [name.casefold() for name in case.labels]
        variant = f"over classes that occur: {', '.join(case.labels)}"[:300]
        rows.append(_f1("macro F1", variant, _counts(own, true, names), macro=True))
    return rows


def _answer_rows(case: Case, made: Prediction) -> list[tuple[_Metric, Array]]:
    own, true = tokens(made.text, case.language), tokens(case.reference.text, case.language)
    closed = bool(case.options) or case.reference.text.strip(" .。").casefold() in ("yes", "no", "是", "否")
    if closed:
        return [_mean("closed accuracy", "equal tokens; options, yes and no", float(own == true))]
    variant = TOKENS[case.language]
    f1, recall = overlap(own, true)
    return [
        _mean("open token F1", variant, f1),
        _mean("open recall", variant, recall),
        _mean("open BLEU-1", f"mean of answers; {variant}", bleu(bleu_counts(own, true), 1)),
    ]
