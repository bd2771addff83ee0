"""Every regular expression of the project takes time that grows with the text alone: each is tried at a mebibyte."""

import re
import time
from typing import Any

from tests.regular_expressions import every

TEXTS = (
    *(
        "a",
        "1",
        "1 ",
        " ",
        "a ",
        "Aa ",
        "a.b",
        "1.",
        "-",
        "(",
        "<a",
        '="',
        "Dr Meyer ",
        "12/",
        "\u4e2d",
        "a\n",
    ),
    *("a://b:", "@"),
)
SMALL, LARGE = 1 << 14, 1 << 20
SECONDS = 2.5
"""Of the processor, for a mebibyte; what grows with the square of the text takes minutes to hours."""


def seconds(pattern: re.Pattern[Any], text: str, size: int) -> float:
    """Searched and matched whole, with an end that neither expects."""
    long = (text * (size // len(text) + 1))[:size] + "\0"
    given: Any = long if isinstance(pattern.pattern, str) else long.encode()
    begun = time.process_time()
    pattern.search(given)
    pattern.fullmatch(given)
    return time.process_time() - begun


def test_every_pattern_is_linear() -> None:
    found = every()
    assert len(found) > 100
    slow: dict[str, tuple[Any, ...]] = {}
    for place, pattern in found.items():
        worst = max(TEXTS, key=lambda text: seconds(pattern, text, SMALL))
        if seconds(pattern, worst, SMALL) > SECONDS * SMALL / LARGE + 0.05:
            slow[place] = (pattern.pattern, worst)  # a mebibyte of it would take too long to wait for
        elif (took := seconds(pattern, worst, LARGE)) > SECONDS:
            slow[place] = (pattern.pattern, worst, f"{took:.1f} s")
    assert slow == {}


def test_a_pattern_that_looks_twice_is_noticed() -> None:
    assert seconds(re.compile(r"\w+@"), "a", SMALL) > SECONDS * SMALL / LARGE + 0.05


def test_the_list_has_patterns_of_both_kinds() -> None:
    places = every()
    assert any(place.startswith("pipeline.identifier_forms.FORMS") for place in places)
    assert any(place.startswith("pipeline/") for place in places)
