"""Curves of the labels that a model scores: ROC, precision against recall, and calibration, as PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.evaluation.areas import ScoredLabel, ScoresOf, scored_labels
from models.evaluation.cases import Case
from models.evaluation.plots import label_fonts
from models.evaluation.predictions import Prediction
from models.evaluation.scores import by_group

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_LABELS = 10
_BINS = 10


@dataclass(frozen=True, slots=True)
class Curve:
    """One label at every threshold, from the strictest on: each [thresholds], 0 to 1.

    ``false_alarms`` is the share of cases without the label that are called (1 - specificity), ``recall`` of those
    with it (sensitivity), ``precision`` the share of the called that have it. Equal scores are one threshold.
    """

    false_alarms: NDArray[np.float64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]


def curve(scores: Sequence[float], true: Sequence[bool]) -> Curve:
    """The curve of cases with these scores. Raises ValueError where there is not at least one case of either kind."""
    held = np.asarray(true, bool)
    if held.all() or not held.any():
        raise ValueError("a curve needs cases with the label and cases without it")
    values, places = np.unique(-np.asarray(scores, float), return_inverse=True)
    hits = np.cumsum(np.bincount(places, held, len(values)))
    alarms = np.cumsum(np.bincount(places, ~held, len(values)))
    return Curve(alarms / alarms[-1], hits / hits[-1], hits / (hits + alarms))


def calibration(
    scores: Sequence[float], true: Sequence[bool]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Mean score, share that has the label, and number of cases of each tenth of 0..1 that holds a case."""
    values, held = np.asarray(scores, float), np.asarray(true, bool)
    bins = np.minimum((values * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    full = counts > 0
    totals = counts[full]
    return (
        np.bincount(bins, values, _BINS)[full] / totals,
        np.bincount(bins, held, _BINS)[full] / totals,
        totals,
    )


def draw_curves(
    cases: Sequence[Case], predictions: Sequence[Prediction], folder: Path, kind: ScoresOf
) -> tuple[Path, ...]:
    """Write ``TASK-LANGUAGE-curves.png`` where a label has scores, cases with it and cases without it.

    At most ten labels are drawn, those that most cases have. Returns the files.
    """
    files = []
    for group, pairs in sorted(by_group(cases, predictions).items()):
        told = [
            (label, one)
            for (label, _), one in scored_labels(pairs, kind).items()
            if any(one.true) and not all(one.true)
        ]
        told.sort(key=lambda named: -sum(named[1].true))
        if told:
            files.append(_draw(group, told[:_MOST_LABELS], len(told), folder))
    return tuple(files)


def _draw(group: tuple[str, str], told: Sequence[tuple[str, ScoredLabel]], labels: int, folder: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)
    fonts = label_fonts()
    for number, (label, one) in enumerate(told, 1):
        shown = label.replace("_", " ")
        name = shown if shown.isascii() or len(fonts) > 1 else f"label {number}"
        _add(axes, f"{name} ({sum(one.true)} of {len(one.true)})", one)
    for one, x, y in zip(
        axes,
        ("called without it (1 - specificity)", "recall (sensitivity)", "mean score of a tenth"),
        ("called with it (sensitivity)", "precision", "share that has the label"),
        strict=True,
    ):
        one.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y, aspect="equal")
        one.grid(color="0.9")
        one.spines[["top", "right"]].set_visible(False)
    for one in (axes[0], axes[2]):
        one.plot((0, 1), (0, 1), color="0.6", linewidth=1, linestyle=":")
    left = f", {len(told)} of {labels} labels" if labels > len(told) else ""
    figure.suptitle(f"{group[0]}, {group[1]}{left}", x=0.01, ha="left", fontweight="bold")
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower left",
        ncols=3,
        frameon=False,
        prop={"family": fonts},
    )
    path = folder / f"{group[0]}-{group[1]}-curves.png"
    figure.savefig(path, dpi=110)
    return path


def _add(axes: "Sequence[Axes]", name: str, one: ScoredLabel) -> None:
    drawn = curve(one.scores, one.true)
    axes[0].plot((0.0, *drawn.false_alarms), (0.0, *drawn.recall), label=name, linewidth=1.4)
    axes[1].plot(drawn.recall, drawn.precision, linewidth=1.4)
    if min(one.scores) >= 0 and max(one.scores) <= 1:
        mean, share, _ = calibration(one.scores, one.true)
        axes[2].plot(mean, share, marker="o", markersize=4, linewidth=1.4)
    else:
        axes[2].plot((), ())  # no probabilities; the colours of the others stay
