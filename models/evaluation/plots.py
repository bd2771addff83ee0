"""Plots of scores as PNG: one figure per task, its metrics with their intervals, languages side by side."""

from collections.abc import Sequence
from pathlib import Path

from models.evaluation.intervals import Score


def draw(scores: Sequence[Score], folder: Path) -> tuple[Path, ...]:
    """Write ``TASK.png`` for every task; scores in pixels are left to the table. Gives the files."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    files = []
    for task in sorted({one.task for one in scores}):
        shown = [
            (one, one.value, one.low, one.high)
            for one in scores
            if one.task == task
            and one.value is not None
            and one.low is not None
            and one.high is not None
            and "pixels" not in one.variant
        ]
        if not shown:
            continue
        figure = Figure(figsize=(8, 1.2 + 0.28 * len(shown)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        names = [
            f"{one.metric} ({one.variant.split(',')[0].split(';')[0]}) {one.language}" for one, *_ in shown
        ]
        below = [max(0.0, value - low) for _, value, low, _ in shown]
        above = [max(0.0, high - value) for _, value, _, high in shown]
        axes.errorbar(
            [value for _, value, *_ in shown], range(len(shown)), xerr=[below, above], fmt="o", capsize=3
        )
        axes.set_yticks(range(len(shown)), names)
        axes.set_xlim(-0.02, 1.02)
        axes.invert_yaxis()
        axes.set_title(f"{task}: value and 95 % interval over studies")
        path = folder / f"{task}.png"
        figure.savefig(path, dpi=120)
        files.append(path)
    return tuple(files)
