"""A metric as sums over cases, and its bootstrap interval over studies.

Because every metric is a function of sums, a resample of the studies is one row of a product of matrices.
"""

from collections.abc import Callable, Sequence
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
    and version of a score that is not computed here.
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


@dataclass(frozen=True, slots=True)
class Metric:
    """A named function of summed rows. It gives nan where ``undefined`` says what the cases lack."""

    name: str
    variant: str
    of_sums: Callable[[Array], float]
    undefined: str = ""
    scorer: str = ""


Row = tuple[Metric, Array]
"""What one case adds to the sums of a metric."""


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
    return summary(group, metric, value, values, (len(rows), len(names)))


def draw(studies: int, seed: int) -> Array:
    """[resamples, studies]: how often each study is drawn in each resample."""
    drawn = np.random.default_rng(seed).multinomial(studies, [1 / studies] * studies, RESAMPLES)
    return drawn.astype(np.float64)


def summary(
    group: tuple[str, str], metric: Metric, value: float, values: Sequence[float], counts: tuple[int, int]
) -> Score:
    """``value`` with the interval of ``values``, one for each resample; ``counts`` are cases and studies."""
    task, language = group
    named = (task, language, metric.name, metric.variant)
    defined = [one for one in values if not isnan(one)]
    if isnan(value) or not defined:
        return Score(*named, None, None, None, *counts, metric.undefined, metric.scorer)
    low, high = np.percentile(defined, [2.5, 97.5])
    missing = len(values) - len(defined)
    note = f"{missing} of {len(values)} resamples left out: {metric.undefined}" if missing else ""
    return Score(*named, value, float(low), float(high), *counts, note, metric.scorer)


def mean(name: str, variant: str, value: float, scorer: str = "") -> Row:
    """A mean over cases."""
    return Metric(name, variant, lambda sums: float(sums[0] / sums[1]), "", scorer), np.array([value, 1.0])


def ratio(over: float, under: float) -> float:
    """``over / under``, nan where nothing is below."""
    return over / under if under else nan
