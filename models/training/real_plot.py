"""What was measured on real films as one picture: how findings are ranked, and how often they are written."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from models.training.bars import AREA_BARS, FALSE_BAR, STATED_BARS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {
    "pleural_effusion": "pleural effusion",
    "cardiomegaly": "enlarged heart",
    "pneumothorax": "pneumothorax",
    "consolidation": "any opacity",
    "nodule": "nodule or mass",
    "abnormal": "anything abnormal",
}
BASELINES = {
    "thumbnail": ("s", "thumbnail and histogram"),
    "small network": ("^", "small network from nothing"),
}
WITH, WITHOUT, GREY = "#1f6fb4", "#d1651b", "0.45"
Row = Mapping[str, object]


def draw_real(areas: Sequence[Row], claims: Sequence[Row], path: Path) -> None:
    """Draw the rows of ``evaluate_real.area_rows`` and ``claim_rows`` into ``path``, SVG, the same bytes each time."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "firstread", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(9.5, 3.6), layout="constrained")
        FigureCanvasSVG(figure)
        left, right = figure.subplots(1, 2)
        _draw_areas(left, [row for row in areas if row["collection"] == "all"])
        _draw_claims(right, claims)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _draw_areas(axes: "Axes", rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        _point(
            axes,
            _number(row["rule"]),
            row.get("interval"),
            place,
            WITH,
            "what ships, 95 %" if not place else "",
        )
        for name, (mark, label) in BASELINES.items():
            axes.plot(
                _number(row[name]), place, mark, color=GREY, markersize=5, label=label if not place else ""
            )
        goal = AREA_BARS[str(row["finding"])]
        axes.plot([goal, goal], [place - 0.3, place + 0.3], color="black", label="goal" if not place else "")
    _finish(axes, rows, "area under the curve (0.5 is chance)", (0.4, 1.0))


def _draw_claims(axes: "Axes", rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        first = not place
        for name, height, colour in (("labelled", place - 0.15, WITH), ("unlabelled", place + 0.15, WITHOUT)):
            label = "films with the label, 95 %" if name == "labelled" else "films without it, 95 %"
            share = _number(row[f"{name} stated or possible"])
            _point(axes, share, row[f"{name} 95 %"], height, colour, label if first else "")
        goals = [(STATED_BARS[str(row["finding"])], -0.3)] if str(row["finding"]) in STATED_BARS else []
        for number, (goal, above) in enumerate([*goals, (FALSE_BAR, 0.02)]):
            label = "goal: at least; at most" if first and not number else ""
            axes.plot([goal, goal], [place + above, place + above + 0.28], color="black", label=label)
    _finish(axes, rows, "share of films on which the draft writes it", (0.0, 0.7))


def _point(axes: "Axes", value: float, interval: object, height: float, colour: str, label: str) -> None:
    low, high = interval if isinstance(interval, tuple) else (value, value)
    sides = [[max(0.0, value - low)], [max(0.0, high - value)]]
    axes.errorbar(
        [value], [height], xerr=sides, fmt="o", color=colour, capsize=2.5, markersize=5, label=label
    )


def _finish(axes: "Axes", rows: Sequence[Row], title: str, limits: tuple[float, float]) -> None:
    axes.set_yticks(range(len(rows)), [NAMES[str(row["finding"])] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(*limits)
    axes.set_xlabel(title)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, 1.28), ncols=2, frameon=False, fontsize="small")


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
