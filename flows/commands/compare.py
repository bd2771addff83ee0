"""``firstread models compare``: two results of ``models evaluate`` side by side."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.commands import table as display
from flows.commands.json_text import json_text
from pipeline.errors import ConfigurationError

CAPTION = (
    "Each interval is of one model by itself, over resampled studies: a difference smaller than they are wide may be "
    "chance."
)
_KEY = ("task", "language", "metric", "variant")


def compare(first: Path, second: Path, *, as_json: bool) -> None:
    """Print each score of both and their difference (second less first).

    Each is a results.json, or the folder that holds one. Raises ConfigurationError for another file, and for results of
    other numbers of cases.
    """
    results = _read(first), _read(second)
    rows = _rows(*results)
    models = [str(one["model"].get("id") or "predictions of a file") for one in results]
    if as_json:
        told = {"first": results[0]["model"], "second": results[1]["model"], "scores": rows}
        sys.stdout.write(json_text(told) + "\n")
        return
    display.rows_table(
        ("score", "first", "second", "difference", "n"),
        [
            (
                f"{one['task']} {one['language']}: {one['metric']}",
                _valued(one["first"]),
                _valued(one["second"]),
                "-" if one["difference"] is None else f"{one['difference']:+.3f}",
                str(one["n"]),
            )
            for one in rows
        ],
        title=f"first: {models[0]}, second: {models[1]}, {results[0]['cases']} cases",
        caption=CAPTION,
    )


def _read(path: Path) -> Mapping[str, Any]:
    file = path / "results.json" if path.is_dir() else path
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        known = isinstance(results["scores"], list) and isinstance(results["model"], dict)
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        message = f"{file} is no result of `firstread models evaluate`: name its --out folder"
        raise ConfigurationError("results", message)
    return dict(results)


def _rows(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
    if first["cases"] != second["cases"]:
        counts = f"{first['cases']} and {second['cases']}"
        raise ConfigurationError("results", f"they are of {counts} cases: compare two of the same data set")
    others = {tuple(one[name] for name in _KEY): one for one in second["scores"]}
    rows = []
    for one in first["scores"]:
        other = others.get(tuple(one[name] for name in _KEY))
        if other is not None and other["n"] == one["n"]:
            known = one["value"] is not None and other["value"] is not None
            difference = other["value"] - one["value"] if known else None
            named = {name: one[name] for name in _KEY}
            rows.append(
                {
                    **named,
                    "n": one["n"],
                    "first": _told(one),
                    "second": _told(other),
                    "difference": difference,
                }
            )
    if not rows:
        raise ConfigurationError("results", "they have no score in common: compare two of the same data set")
    return rows


def _told(score: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: score[name] for name in ("value", "low", "high")}


def _valued(score: Mapping[str, float | None]) -> str:
    if score["value"] is None:
        return "-"
    interval = f" ({score['low']:.3f} to {score['high']:.3f})" if score["low"] is not None else ""
    return f"{score['value']:.3f}{interval}"
