"""Scores per task and language, each with a bootstrap interval over studies."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

from models.evaluation.areas import ScoresOf, asked_labels, score_areas
from models.evaluation.cases import Case
from models.evaluation.documents import document_rows
from models.evaluation.intervals import Measure, Metric, Row, Score, f1, mean, outcomes, score_rows
from models.evaluation.places import box_rows, point_rows
from models.evaluation.predictions import Prediction
from models.evaluation.report_labels import KINDS, LABELLER, REPORTS, labels_of, named_set
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
from models.family import Task
from pipeline.report import Language

NOTHING = "nothing was predicted, and the references hold nothing"
_PLACES = frozenset({Task.DETECT, Task.GROUNDED_REPORT})
_ASKED = frozenset({Task.VQA, Task.TEXT_QA})


def score(
    cases: Sequence[Case], predictions: Sequence[Prediction], seed: int, kind: ScoresOf = ScoresOf.FILE
) -> tuple[Score, ...]:
    """Scores of ``predictions``, one for each case in the same order, per task and language.

    ``kind`` says what the predictions' scores of labels hang on.
    """
    groups = by_group(cases, predictions)
    return tuple(one for name in sorted(groups) for one in _score_group(name, groups[name], seed, kind))


def by_group(
    cases: Sequence[Case], predictions: Sequence[Prediction]
) -> dict[tuple[str, str], list[tuple[Case, Prediction]]]:
    """Cases with their predictions, which are in the same order, per task and language."""
    groups: dict[tuple[str, str], list[tuple[Case, Prediction]]] = defaultdict(list)
    for pair in zip(cases, predictions, strict=True):
        groups[pair[0].task.value, pair[0].language.value].append(pair)
    return groups


def rows_of(case: Case, made: Prediction) -> list[Row]:
    """What one case adds to each of its scores but areas under curves."""
    return [row for part in _parts(case) for row in part(case, made)]


def unscored(cases: Sequence[Case]) -> list[str]:
    """Ids of the cases whose task and reference leave nothing to score."""
    return [case.id for case in cases if not _parts(case) and not asked_labels(case)]


def _score_group(
    name: tuple[str, str], pairs: Sequence[tuple[Case, Prediction]], seed: int, kind: ScoresOf
) -> list[Score]:
    rows = ((case.study, row) for case, made in pairs for row in rows_of(case, made))
    return score_rows(name, rows, seed) + score_areas(name, pairs, seed, kind)


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
    if case.task is Task.CLASSIFY and true.labels is not None:
        parts.append(_class_rows)
    if case.task is Task.IDENTIFY and (true.labels or true.text):
        parts.append(_identify_rows)
    if case.task in _ASKED and true.text:
        parts.append(_answer_rows)
    if case.task is Task.STRUCTURED and true.text:
        parts.append(lambda one, made: document_rows(made.text, one.reference.text))
    return parts


def _text_rows(case: Case, made: Prediction) -> list[Row]:
    language, variant = case.language, TOKENS[case.language]
    own, true = tokens(made.text, language), tokens(case.reference.text, language)
    rows = _bleu_rows(own, true, variant, plotted=True)
    if language is Language.CHINESE:
        rows += _bleu_rows(characters(made.text), characters(case.reference.text), "single characters")
    longest = Measure("ROUGE-L", f"F1, beta 1, whole text, mean of texts; {variant}", plotted="ROUGE-L")
    letters = Measure("chrF", "sacrebleu chrF2, mean of texts", plotted="chrF")
    rows += [mean(longest, rouge_l(own, true)), mean(letters, chrf(made.text, case.reference.text))]
    return rows


def _bleu_rows(own: list[str], true: list[str], variant: str, *, plotted: bool = False) -> list[Row]:
    counts = bleu_counts(own, true)
    rows: list[Row] = []
    for order in range(1, 5):
        name = f"BLEU-{order}"
        corpus = Measure(name, f"corpus, no smoothing; {variant}", plotted=name if plotted else "")
        apart = Measure(name, f"mean of texts, no smoothing; {variant}")
        rows += [(Metric(corpus, partial(bleu, order=order)), counts), mean(apart, bleu(counts, order))]
    return rows


def _label_rows(case: Case, made: Prediction) -> list[Row]:
    counts = outcomes(labels_of(made.text), labels_of(case.reference.text), KINDS)
    variant = f"{LABELLER}, present findings, {len(KINDS)} kinds"
    micro = Measure("label F1 micro", variant, NOTHING, plotted="label F1, micro")
    macro = Measure("label F1 macro", f"{variant}, over kinds that occur", NOTHING, plotted="label F1, macro")
    return [f1(micro, counts, macro=False), f1(macro, counts, macro=True)]


def _class_rows(case: Case, made: Prediction) -> list[Row]:
    true = {name.casefold() for name in case.reference.labels or ()}
    own = {name.casefold() for name in made.labels}
    exact = Measure("accuracy", "exact set of classes, case ignored", plotted="accuracy")
    rows = [mean(exact, float(own == true))]
    if case.labels:
        names = [name.casefold() for name in case.labels]
        variant = f"over classes that occur: {named_set(case.labels)}"
        macro = Measure("macro F1", variant, NOTHING, plotted="F1, macro")
        rows.append(f1(macro, outcomes(own, true, names), macro=True))
    return rows


def _identify_rows(case: Case, made: Prediction) -> list[Row]:
    """A region is identified in words, by most families in their text alone."""
    true = case.reference.labels or (case.reference.text,)
    own, wanted = (
        {" ".join(tokens(name, case.language)) for name in names}
        for names in (made.labels or (made.text,), true)
    )
    return [
        mean(
            Measure("accuracy", "equal tokens of what it is called", plotted="accuracy"), float(own == wanted)
        )
    ]


def _answer_rows(case: Case, made: Prediction) -> list[Row]:
    own, true = tokens(made.text, case.language), tokens(case.reference.text, case.language)
    closed = bool(case.options) or case.reference.text.strip(" .。").casefold() in ("yes", "no", "是", "否")
    if closed:
        equal = Measure("closed accuracy", "equal tokens; options, yes and no", plotted="closed accuracy")
        return [mean(equal, float(own == true))]
    variant = TOKENS[case.language]
    both, recall = overlap(own, true)
    shared = Measure("open token F1", f"mean of answers; {variant}", plotted="open token F1")
    found = Measure("open recall", f"mean of answers; {variant}", plotted="open recall")
    words = Measure("open BLEU-1", f"mean of answers; {variant}", plotted="open BLEU-1")
    return [mean(shared, both), mean(found, recall), mean(words, bleu(bleu_counts(own, true), 1))]
