"""What ``models evaluate`` prints: a table for each task and language, its variants as numbered notes below it."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flows.commands import table as display
from models.evaluation.intervals import Score

_LANGUAGES = {"en": "English", "zh": "Chinese"}


def show_scores(scores: Sequence[Score], results: Mapping[str, Any]) -> None:
    """Print the tables, then what was left out of them."""
    for group in dict.fromkeys((one.task, one.language) for one in scores):
        _show_group([one for one in scores if (one.task, one.language) == group])
    count = results["cases"]
    codes = ", ".join(f"{code}: {n}" for code, n in sorted(Counter(results["failures"].values()).items()))
    for left, words in (
        (len(results["failures"]), f"could not be asked and count as empty answers ({codes})"),
        (len(results["unscored"]), "hold nothing in their reference that is scored"),
        (results["not_english"], "are not in English, which RadEval's metrics do not read"),
    ):
        if left:
            sys.stdout.write(f"{left} of {count} cases {words}\n")


def _show_group(scores: Sequence[Score]) -> None:
    notes: dict[str, int] = {}
    rows = []
    for one in scores:
        variant = "; ".join(part for part in (one.variant, one.scorer) if part)
        number = notes.setdefault(variant, len(notes) + 1)
        value = "-" if one.value is None else f"{one.value:.3f}"
        between = "" if one.low is None else f"{one.low:.3f} to {one.high:.3f}"
        rows.append((f"{one.metric} [{number}]", value, between, str(one.n), one.note))
    first = scores[0]
    display.rows_table(
        ("score", "value", "95 % interval", "n", "remark"),
        rows,
        title=f"{first.task}, {_LANGUAGES[first.language]}, {max(one.studies for one in scores)} studies",
        caption="\n".join(f"[{number}] {variant}" for variant, number in notes.items()),
    )
