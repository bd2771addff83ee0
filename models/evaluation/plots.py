"""Plots of scores as PNG: one figure per task, each score with its interval, languages one under the other."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from models.evaluation.intervals import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"en": "#1f6fb4", "zh": "#d1651b"}
_NAMES = {"en": "English", "zh": "Chinese"}
_CHINESE = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "SimHei",
)
"""Fonts with Chinese characters; matplotlib's own has none."""
_GAP = 0.16
"""Half the distance between the languages of one score, in rows."""


def draw(scores: Sequence[Score], folder: Path) -> tuple[Path, ...]:
    """Write ``TASK.png`` for every task with a score to plot. Returns the files."""
    files = []
    for task in sorted({one.task for one in scores}):
        shown = [one for one in scores if one.task == task and one.plotted and one.value is not None]
        if shown:
            files.append(_draw(task, shown, folder))
    return tuple(files)


def _draw(task: str, shown: Sequence[Score], folder: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    languages = sorted({one.language for one in shown})
    fonts = label_fonts()
    names = _names(shown, readable=len(fonts) > 1)
    rows = list(dict.fromkeys(names))
    figure = Figure(figsize=(8, 1.3 + 0.32 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    spoken = {
        row: [one.language for one, name in zip(shown, names, strict=True) if name == row] for row in rows
    }
    for language in languages:
        points = [
            (one, rows.index(name) + _GAP * (2 * spoken[name].index(language) - len(spoken[name]) + 1))
            for one, name in zip(shown, names, strict=True)
            if one.language == language
        ]
        _points(axes, points, language)
    axes.set_yticks(range(len(rows)), rows, fontfamily=fonts)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("value, with its 95 % interval over studies")
    figure.suptitle(task, x=0.01, ha="left", fontweight="bold")
    figure.legend(loc="outside upper right", ncols=len(languages), frameon=False)
    path = folder / f"{task}.png"
    figure.savefig(path, dpi=120)
    return path


def _points(axes: "Axes", points: Sequence[tuple[Score, float]], language: str) -> None:
    """One language's scores at their heights; the legend says over how many cases they are."""
    values = [one.value or 0.0 for one, _ in points]
    below = [max(0.0, value - (one.low or 0.0)) for value, (one, _) in zip(values, points, strict=True)]
    above = [max(0.0, (one.high or 0.0) - value) for value, (one, _) in zip(values, points, strict=True)]
    cases = max(one.n for one, _ in points)
    axes.errorbar(
        values,
        [height for _, height in points],
        xerr=[below, above],
        fmt="o",
        markersize=5,
        capsize=2.5,
        linewidth=1.4,
        color=_COLOURS[language],
        label=f"{_NAMES[language]} ({cases} cases)",
    )


def label_fonts() -> list[str]:
    """The font of the labels, and one with Chinese characters where this machine has one."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *[name for name in _CHINESE if name in installed][:1]]


def _names(shown: Sequence[Score], *, readable: bool) -> list[str]:
    """What each score is called: once in each language, so that no two share a row.

    A name that no font here can draw becomes a number, in the order of the table.
    """
    names: list[str] = []
    numbers: dict[str, int] = {}
    met: Counter[tuple[str, str]] = Counter()
    for one in shown:
        name = one.plotted
        if not readable and not name.isascii():
            number = numbers.setdefault(name, len(numbers) + 1)
            name = f"{name.split()[0]} label {number}"
        met[one.language, name] += 1
        times = met[one.language, name]
        names.append(name if times == 1 else f"{name} ({times})")
    return names
