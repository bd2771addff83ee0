"""Scores of structured answers: a JSON document against that of the reference, value by value.

A value is known by the names that lead to it and by itself: the place in a list does not count, so a list of findings
in another order is the same answer. Texts are compared without case and outer white space.
"""

import json
from collections import Counter
from collections.abc import Iterator

import numpy as np

from models.evaluation.intervals import Measure, Row, f1, mean

Values = Counter[tuple[str, str]]
_EMPTY = "neither the answers nor the references hold a value"


def read_values(text: str) -> Values | None:
    """How often each value of a JSON document occurs, by its path; None for a text that is no JSON."""
    try:
        return Counter(_walk("", json.loads(text)))
    except (ValueError, RecursionError):
        return None


def document_rows(made: str, true: str) -> list[Row]:
    """Of the text ``made`` against ``true``, which is JSON."""
    own, wanted = read_values(made), read_values(true) or Values()
    held = own or Values()
    counts = [held & wanted, held - wanted, wanted - held]
    valid = Measure("JSON", "share of answers that are JSON")
    same = Measure(
        "document accuracy", "every value as in the reference, in any order", plotted="document accuracy"
    )
    shared = Measure(
        "value F1", "micro, values by their path, in any order, case ignored", _EMPTY, plotted="value F1"
    )
    return [
        mean(valid, float(own is not None)),
        mean(same, float(own == wanted)),
        f1(shared, np.array([one.total() for one in counts], np.float64), macro=False),
    ]


def _walk(path: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from _walk(f"{path}/{name}", part)
    elif isinstance(value, list) and value:
        for part in value:
            yield from _walk(f"{path}[]", part)
    else:
        yield path, json.dumps(value.strip().casefold() if isinstance(value, str) else value)
