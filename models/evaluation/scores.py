"""Scores per task and language, each with a bootstrap interval over studies."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from models.evaluation.cases import Box, Case
from models.evaluation.intervals import Array, Metric, Row, Score, interval, mean
from models.evaluation.places import box_rows, point_rows
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

LABELLER = "firstread findings_text reader"
REPORTS = frozenset({Task.REPORT, Task.FINDINGS, Task.IMPRESSION, Task.GROUNDED_REPORT, Task.SUMMARIZE})
_KINDS = tuple(KIND_PATTERNS)
_PLACES = frozenset({Task.DETECT, Task.GROUNDED_REPORT})
_NAMED = frozenset({Task.CLASSIFY, Task.IDENTIFY})
_ASKED = frozenset({Task.VQA, Task.TEXT_QA})
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model answered to the case ``id``; boxes and points in pixels of the original first image."""

    id: str
    text: str = ""
    labels: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()
    points: tuple[tuple[float, float], ...] = ()


def score(cases: Sequence[Case], predictions: Sequence[Prediction], seed: int) -> tuple[Score, ...]:
    """Scores of ``predictions``, one for each case in the same order, per task and language."""
    groups: dict[tuple[str, str], list[tuple[Case, Prediction]]] = defaultdict(list)
    for pair in zip(cases, predictions, strict=True):
        groups[pair[0].task.value, pair[0].language.value].append(pair)
    return tuple(one for name in sorted(groups) for one in _score_group(name, groups[name], seed))


def unscored(cases: Sequence[Case]) -> list[str]:
    """Ids of the cases whose task and reference leave nothing to score."""
    return [case.id for case in cases if not _parts(case)]


def _score_group(name: tuple[str, str], pairs: Sequence[tuple[Case, Prediction]], seed: int) -> list[Score]:
    metrics: dict[tuple[str, str], Metric] = {}
    rows: dict[tuple[str, str], list[Array]] = defaultdict(list)
    studies: dict[tuple[str, str], list[str]] = defaultdict(list)
    for case, made in pairs:
        for metric, row in (row for part in _parts(case) for row in part(case, made)):
            key = (metric.name, metric.variant)
            metrics.setdefault(key, metric)
            rows[key].append(row)
            studies[key].append(case.study)
    return [interval(name, metric, rows[key], studies[key], seed) for key, metric in metrics.items()]


def _parts(case: Case) -> list[Callable[[Case, Prediction], list[Row]]]:
    """The scorers that the task and the reference of a case call for."""
    true = case.reference
    parts: list[Callable[[Case, Prediction], list[Row]]] = []
    if case.task in REPORTS and true.text:
        parts += [_text_rows, _label_rows]
    if case.task in _PLACES and true.boxes is not None:
        parts.append(lambda one, made: box_rows(made.boxes, one.reference.boxes or ()))
    if case.task is Task.LANDMARK and true.points:
        parts.append(lambda one, made: point_rows(made.points, one.reference.points))
    if case.task in _NAMED and true.labels is not None:
        parts.append(_class_rows)
    if case.task in _ASKED and true.text:
        parts.append(_answer_rows)
    return parts


def f1(name: str, variant: str, counts: Array, *, macro: bool, scorer: str = "") -> Row:
    """F1 of ``counts`` [3 * kinds]: true positives, false positives, false negatives, kind by kind.

    ``macro`` is the mean over the kinds that occur, in a prediction or in a reference.
    """

    def of_sums(sums: Array) -> float:
        table = sums.reshape(-1, 3)
        if not macro:
            table = table.sum(axis=0, keepdims=True)
        both = 2 * table[:, 0] + table[:, 1] + table[:, 2]
        known = both > 0
        return float((2 * table[known, 0] / both[known]).mean()) if known.any() else nan

    return Metric(
        name, variant, of_sums, "nothing was predicted, and the references hold nothing", scorer
    ), counts


def _text_rows(case: Case, made: Prediction) -> list[Row]:
    language, variant = case.language, TOKENS[case.language]
    own, true = tokens(made.text, language), tokens(case.reference.text, language)
    rows = _bleu_rows(own, true, variant)
    if language is Language.CHINESE:
        rows += _bleu_rows(characters(made.text), characters(case.reference.text), "single characters")
    rows.append(mean("ROUGE-L", f"F1, beta 1, whole text; {variant}", rouge_l(own, true)))
    rows.append(mean("chrF", "sacrebleu chrF2, mean of texts", chrf(made.text, case.reference.text)))
    return rows


def _bleu_rows(own: list[str], true: list[str], variant: str) -> list[Row]:
    counts = bleu_counts(own, true)
    rows: list[Row] = []
    for order in range(1, 5):
        metric = Metric(
            f"BLEU-{order}",
            f"corpus, no smoothing; {variant}",
            lambda sums, order=order: bleu(sums, order),  # type: ignore[misc]
        )
        rows.append((metric, counts))
        rows.append(mean(f"BLEU-{order}", f"mean of texts, no smoothing; {variant}", bleu(counts, order)))
    return rows


def _label_rows(case: Case, made: Prediction) -> list[Row]:
    own = {finding.kind for finding in read_findings(made.text) if finding.present}
    true = {finding.kind for finding in read_findings(case.reference.text) if finding.present}
    counts = _counts(own, true, _KINDS)
    variant = f"{LABELLER}, present findings, {len(_KINDS)} kinds"
    return [
        f1("label F1 micro", variant, counts, macro=False),
        f1("label F1 macro", f"{variant}, over kinds that occur", counts, macro=True),
    ]


def _counts(own: set[str], true: set[str], names: Sequence[str]) -> Array:
    return np.array(
        [(n in own and n in true, n in own and n not in true, n not in own and n in true) for n in names],
        np.float64,
    ).ravel()


def _class_rows(case: Case, made: Prediction) -> list[Row]:
    true = {name.casefold() for name in case.reference.labels or ()}
    own = {name.casefold() for name in made.labels}
    rows = [mean("accuracy", "exact set of classes, case ignored", float(own == true))]
    if case.labels:
        names = [name.casefold() for name in case.labels]
        variant = f"over classes that occur: {named_set(case.labels)}"
        rows.append(f1("macro F1", variant, _counts(own, true, names), macro=True))
    return rows


def named_set(labels: Sequence[str]) -> str:
    """The labels in words; a long list is cut and told apart by its digest."""
    joined = ", ".join(labels)
    if len(joined) <= _LONGEST:
        return joined
    digest = hashlib.sha256("\n".join(labels).encode()).hexdigest()[:8]
    return f"{joined[:_LONGEST]}... ({len(labels)} labels, sha256 {digest})"


def _answer_rows(case: Case, made: Prediction) -> list[Row]:
    own, true = tokens(made.text, case.language), tokens(case.reference.text, case.language)
    closed = bool(case.options) or case.reference.text.strip(" .。").casefold() in ("yes", "no", "是", "否")
    if closed:
        return [mean("closed accuracy", "equal tokens; options, yes and no", float(own == true))]
    variant = TOKENS[case.language]
    both, recall = overlap(own, true)
    return [
        mean("open token F1", variant, both),
        mean("open recall", variant, recall),
        mean("open BLEU-1", f"mean of answers; {variant}", bleu(bleu_counts(own, true), 1)),
    ]
