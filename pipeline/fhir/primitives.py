"""Checks of FHIR's primitive types (R4 datatypes): pattern, range, calendar, and no control characters."""

import binascii
import math
import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

Check = Callable[[Any, list[str]], None]
"""Raises BrokenRuleError for a value that breaks its type; adds relative references to the list."""

_MAX_STRING = 1 << 20
_TEXT = re.compile("[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]+")
_NO_SPACE = re.compile("[^\x00-\x20\x7f\ud800-\udfff]+")
_INTEGERS = {
    "integer": (-(1 << 31), (1 << 31) - 1),
    "unsignedInt": (0, (1 << 31) - 1),
    "positiveInt": (1, (1 << 31) - 1),
}
_OWN_PATTERNS = {
    "string": _TEXT,
    "markdown": _TEXT,
    "uri": _NO_SPACE,
    "url": _NO_SPACE,
    "canonical": _NO_SPACE,
}
_DATES = ("date", "dateTime", "instant")


class BrokenRuleError(Exception):
    """A rule that a resource breaks. ``path`` grows from the inside out; neither holds a value."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.path: list[str] = []


def primitive_checks(patterns: Mapping[str, str]) -> dict[str, Check]:
    """A check per primitive type; ``patterns`` are the standard's own regular expressions."""
    checks: dict[str, Check] = {"boolean": _boolean, "decimal": _decimal, "base64Binary": _base64}
    checks |= {kind: _integer(*limits) for kind, limits in _INTEGERS.items()}
    for kind, pattern in patterns.items():
        if kind not in checks:
            compiled = _OWN_PATTERNS.get(kind) or re.compile(pattern, re.ASCII)
            checks[kind] = _dated(kind, compiled) if kind in _DATES else _string(kind, compiled)
    return checks


def _string(kind: str, pattern: re.Pattern[str]) -> Check:
    fits = pattern.fullmatch
    prose = kind in ("string", "markdown")

    def check(value: Any, _found: list[str]) -> None:
        if type(value) is not str:
            raise BrokenRuleError(f"must be a JSON string ({kind})")
        if not fits(value) or len(value) > _MAX_STRING or (prose and value.isspace()):
            raise BrokenRuleError(f"is not a valid {kind}")

    return check


def _dated(kind: str, pattern: re.Pattern[str]) -> Check:
    fits = pattern.fullmatch

    def check(value: Any, _found: list[str]) -> None:
        if type(value) is not str or not fits(value):
            raise BrokenRuleError(f"is not a valid {kind}")
        if len(value) >= len("2000-01-01"):
            try:
                date.fromisoformat(value[:10])
            except ValueError:
                raise BrokenRuleError(f"is not a day of the calendar ({kind})") from None

    return check


def _integer(low: int, high: int) -> Check:
    def check(value: Any, _found: list[str]) -> None:
        if type(value) is not int or not low <= value <= high:
            raise BrokenRuleError(f"must be an integer from {low} to {high}")

    return check


def _boolean(value: Any, _found: list[str]) -> None:
    if type(value) is not bool:
        raise BrokenRuleError("must be true or false")


def _decimal(value: Any, _found: list[str]) -> None:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise BrokenRuleError("must be a finite number")


def _base64(value: Any, _found: list[str]) -> None:
    if type(value) is not str or not value:
        raise BrokenRuleError("must be base64 text")
    try:
        binascii.a2b_base64(value, strict_mode=True)
    except (binascii.Error, ValueError):
        raise BrokenRuleError("is not valid base64") from None
