"""A metric as sums over cases, and its bootstrap interval over studies.

Because every metric is a function of sums, a resample of the studies is one row of a product of matrices.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Score:
    """One value with its 95 % interval, over ``n`` cases of ``studies`` studies; ``variant`` says exactly which.

    Where the cases leave it undefined the three numbers are None and ``note`` says why. ``scorer`` names the package
    and version of a score that is not computed here. ``plotted`` is how a plot calls it, "" where none shows it.
    """

    task: str
    language: str
    metric: str
    variant: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    studies: int
    note: str = ""
    scorer: str = ""
    plotted: str = ""


@dataclass(frozen=True, slots=True)
class Measure:
    """What a score is called; ``undefined`` says what the cases lack where it is nan, ``plotted`` as in ``Score``."""

    name: str
    variant: str
    undefined: str = ""
    scorer: str = ""
    plotted: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """A measure of summed rows."""

    measure: Measure
    of_sums: Callable[[Array], float]


Row = tuple[Metric, Array]
"""What one case adds to the sums of a metric."""


def score_rows(group: tuple[str, str], rows: Iterable[tuple[str, Row]], seed: int) -> list[Score]:
    """One score for each measure of ``rows``, which come with their study, in the order in which they first occur."""
    metrics: dict[Measure, Metric] = {}
    held: dict[Measure, tuple[list[Array], list[str]]] = {}
    for study, (metric, row) in rows:
        metrics.setdefault(metric.measure, metric)
        sums, studies = held.setdefault(metric.measure, ([], []))
        sums.append(row)
        studies.append(study)
    return [interval(group, metric, *held[measure], seed) for measure, metric in metrics.items()]


def interval(
    group: tuple[str, str], metric: Metric, rows: Sequence[Array], studies: Sequence[str], seed: int
) -> Score:
    """The score of ``rows``, one for each case with its study; ``group`` is task and language."""
    names = sorted(set(studies))
    index = {name: place for place, name in enumerate(names)}
    sums = np.zeros((len(names), len(rows[0])))
    for study, row in zip(studies, rows, strict=True):
        sums[index[study]] += row
    value = metric.of_sums(sums.sum(axis=0))
    values = [metric.of_sums(row) for row in draw(len(names), seed) @ sums]
    return summary(group, metric.measure, value, values, (len(rows), len(names)))


def draw(studies: int, seed: int) -> Array:
    """[resamples, studies]: how often each study is drawn in each resample."""
    drawn = np.random.default_rng(seed).multinomial(studies, [1 / studies] * studies, RESAMPLES)
    return drawn.astype(np.float64)


def summary(
    group: tuple[str, str], measure: Measure, value: float, values: Sequence[float], counts: tuple[int, int]
) -> Score:
    """``value`` with the interval of ``values``, one for each resample; ``counts`` are cases and studies."""
    task, language = group
    named = (task, language, measure.name, measure.variant)
    defined = [one for one in values if not isnan(one)]
    if isnan(value) or not defined:
        return Score(*named, None, None, None, *counts, measure.undefined, measure.scorer, measure.plotted)
    low, high = np.percentile(defined, [2.5, 97.5])
    missing = len(values) - len(defined)
    note = f"{missing} of {len(values)} resamples left out: {measure.undefined}" if missing else ""
    return Score(*named, value, float(low), float(high), *counts, note, measure.scorer, measure.plotted)


def mean(measure: Measure, value: float) -> Row:
    """A mean over cases."""
    return Metric(measure, lambda sums: float(sums[0] / sums[1])), np.array([value, 1.0])


def f1(measure: Measure, counts: Array, *, macro: bool, every: bool = False) -> Row:
    """F1 of ``counts`` [3 * kinds]: true positives, false positives, false negatives, kind by kind.

    ``macro`` is the mean over the kinds that occur, in a prediction or in a reference; over ``every`` kind one that
    does not counts 0.
    """

    def of_sums(sums: Array) -> float:
        table = sums.reshape(-1, 3)
        if not macro:
            table = table.sum(axis=0, keepdims=True)
        both = 2 * table[:, 0] + table[:, 1] + table[:, 2]
        known = both > 0
        if not known.any():
            return nan
        total = float((2 * table[known, 0] / both[known]).sum())
        return total / (len(table) if every else int(known.sum()))

    return Metric(measure, of_sums), counts


def outcomes(own: Collection[str], true: Collection[str], names: Sequence[str]) -> Array:
    """[3 * names]: whether each is found, wrongly claimed, missed."""
    return np.array(
        [(n in own and n in true, n in own and n not in true, n not in own and n in true) for n in names],
        np.float64,
    ).ravel()


def ratio(over: float, under: float) -> float:
    """``over / under``, nan where nothing is below."""
    return over / under if under else nan
