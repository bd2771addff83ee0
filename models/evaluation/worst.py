"""The cases that a model answered worst, beside their films, and what was chosen in place of what: one HTML page."""

import base64
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from math import hypot, isnan
from pathlib import Path

import numpy as np
from PIL import Image

from models.evaluation.answering import study_of
from models.evaluation.cases import Box, Case
from models.evaluation.predictions import Prediction
from models.evaluation.scores import by_group, rows_of
from models.family import Task
from pipeline.errors import ConfigurationError

WORST = 10
"""So many cases of each task and language are shown."""
PAGE = "worst.html"
_SIDE = 384
_MOST_CLASSES = 20
_LEADING = (
    "label F1 micro", "box F1", "accuracy", "closed accuracy", "open token F1", "value F1", "ROUGE-L",
)  # fmt: skip
"""Scores that a case is ordered by, the first that its task has first."""
_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Worst cases</title><style>
body{font:15px/1.45 system-ui,sans-serif;max-width:72rem;margin:1rem auto;padding:0 1rem;color:#1c2126}
article{display:grid;grid-template-columns:minmax(12rem,24rem) 1fr;gap:1rem;border-top:1px solid #c9d0d6;padding:1rem 0}
figure{margin:0;position:relative}figure img,figure svg{width:100%;display:block}
figure svg{position:absolute;inset:0;height:100%}rect,circle{fill:none;stroke-width:2;vector-effect:non-scaling-stroke}
.true{stroke:#3d9be9}.made{stroke:#f08a24;stroke-dasharray:5 3}
pre{white-space:pre-wrap;font:inherit;margin:.2rem 0 .8rem}
h3{margin:.2rem 0;font-size:1rem}table{border-collapse:collapse}td,th{border:1px solid #c9d0d6;padding:.2rem .5rem}
td{text-align:right}</style></head><body><h1>Worst cases</h1>
<p>Answers are machine-made and nobody checked them. Films and texts are those of the data set: keep this page where
they may be. Reference places are blue, the model's orange and dashed.</p>
"""


def write_worst(cases: Sequence[Case], predictions: Sequence[Prediction], folder: Path) -> Path:
    """Write ``worst.html``: for each task and language its ``WORST`` cases, the worst first. Returns the file."""
    path = folder / PAGE
    with path.open("w", encoding="utf-8") as page:
        page.write(_HEAD)
        for group, pairs in sorted(by_group(cases, predictions).items()):
            page.write(f"<h2>{escape(', '.join(group))}</h2>\n")
            page.write(_confusion(pairs))
            for case, made in rank(pairs)[:WORST]:
                page.write(_article(case, made))
        page.write("</body></html>\n")
    return path


def rank(pairs: Sequence[tuple[Case, Prediction]]) -> list[tuple[Case, Prediction]]:
    """The pairs that have a score of their own, the worst first; those that are right in all that leads are left out.

    A landmark that was not given comes before one that was, then the farther first.
    """
    ordered = [(_worth(case, made), place) for place, (case, made) in enumerate(pairs)]
    return [pairs[place] for worth, place in sorted(ordered) if worth]


def _worth(case: Case, made: Prediction) -> tuple[float, ...]:
    """What a case is ordered by; () where all of it is right, or nothing scored."""
    if case.task is Task.LANDMARK and case.reference.points:
        (x, y), *_ = case.reference.points
        return (-hypot(made.points[0][0] - x, made.points[0][1] - y),) if made.points else (float("-inf"),)
    own = {metric.measure.name: metric.of_sums(row) for metric, row in rows_of(case, made)}
    # what is undefined for one case has nothing in its reference and nothing in its answer
    held = [1.0 if isnan(own[name]) else own[name] for name in _LEADING if name in own]
    return (*held, 1.0 - _surest_mistake(case, made)) if any(value < 1 for value in held) else ()


def _surest_mistake(case: Case, made: Prediction) -> float:
    """How far the scores of labels were on the wrong side, at most 1; 0 without scores."""
    if case.reference.labels is None:
        return 0.0
    true = {name.casefold() for name in case.reference.labels}
    wrong = [
        1 - value if name.casefold() in true else value
        for name, value in made.scores.items()
        if 0 <= value <= 1
    ]
    return max(wrong, default=0.0)


def _confusion(pairs: Sequence[tuple[Case, Prediction]]) -> str:
    """A table of one label of the reference (rows) by what was chosen (columns), "" where cases have several."""
    told = [
        (case.reference.labels[0], made.labels[0] if len(made.labels) == 1 else f"{len(made.labels)} labels")
        for case, made in pairs
        if case.task is Task.CLASSIFY
        and case.reference.labels is not None
        and len(case.reference.labels) == 1
    ]
    rows = sorted({true for true, _ in told})
    columns = sorted({own for _, own in told})
    if len(told) < 2 or len(told) < len(pairs) or max(len(rows), len(columns)) > _MOST_CLASSES:
        return ""
    counts = Counter(told)
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr><th>{escape(row)}</th>{''.join(f'<td>{counts[row, one]}</td>' for one in columns)}</tr>"
        for row in rows
    )
    return f"<table><tr><th>reference, by what was chosen</th>{head}</tr>{body}</table>\n"


def _article(case: Case, made: Prediction) -> str:
    told = {
        "Question": case.question,
        "Text": case.text,
        "Reference": case.reference.text or ", ".join(case.reference.labels or ()),
        "Answer (machine-made)": made.text or ", ".join(made.labels),
    }
    texts = "".join(f"<h3>{name}</h3><pre>{escape(text)}</pre>" for name, text in told.items() if text)
    scores = "; ".join(
        f"{metric.measure.plotted} {value:.2f}"
        for metric, row in rows_of(case, made)
        if metric.measure.plotted and not isnan(value := metric.of_sums(row))
    )
    return (
        f"<article>{_figure(case, made)}<div><h3>{escape(case.id)}</h3>{texts}<p>{escape(scores)}</p></div>"
        "</article>\n"
    )


def _figure(case: Case, made: Prediction) -> str:
    if not case.images:
        return "<figure></figure>"
    try:
        film = study_of(case).images[0]
    except ConfigurationError:  # of a file of predictions no image has been opened yet
        return "<figure>Its image cannot be read.</figure>"
    rows, columns = film.pixels.shape
    shown = Image.fromarray(np.rint(film.pixels * 255).astype(np.uint8))
    shown.thumbnail((_SIDE, _SIDE))
    held = io.BytesIO()
    shown.save(held, "PNG")
    marks = [
        *_marks(case.reference.boxes or (), case.reference.points, columns / 100, "true"),
        *_marks(made.boxes, made.points, columns / 100, "made"),
    ]
    drawn = f'<svg viewBox="0 0 {columns} {rows}">{"".join(marks)}</svg>' if marks else ""
    encoded = base64.b64encode(held.getvalue()).decode()
    return f'<figure><img alt="film of the case" src="data:image/png;base64,{encoded}">{drawn}</figure>'


def _marks(
    boxes: Sequence[Box], points: Sequence[tuple[float, float]], radius: float, name: str
) -> Iterator[str]:
    for x0, y0, x1, y1 in boxes:
        yield f'<rect class="{name}" x="{x0}" y="{y0}" width="{x1 - x0}" height="{y1 - y0}"/>'
    for x, y in points:
        yield f'<circle class="{name}" cx="{x}" cy="{y}" r="{radius}"/>'
