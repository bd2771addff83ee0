"""JSON that a model wrote, read under a JSON Schema (2020-12)."""

import json
import math
from decimal import Decimal, localcontext
from typing import Any

_DIGITS = 700
"""Enough for the remainder of any two numbers that a double can hold."""


def json_value(text: str, schema: str) -> Any:
    """The value of ``text``, which is one JSON value and valid under ``schema`` ("" allows any).

    Numbers are judged as decimals, as they are written: as doubles a third of the tenths are no multiples of 0.1.
    Raises ValueError where it is not valid, and for numbers that JSON does not have or no double can hold.
    """
    import jsonschema  # only structured answers pay for it

    try:
        exact = json.loads(text, parse_float=_exact, parse_constant=refuse_constant)
        rules = json.loads(schema or "{}", parse_float=_exact)
        with localcontext(prec=_DIGITS):
            jsonschema.Draft202012Validator(rules).validate(exact)
    except (ArithmeticError, RecursionError, jsonschema.ValidationError, jsonschema.SchemaError):
        raise ValueError("not valid under its schema") from None
    return json.loads(text)


def _exact(digits: str) -> Decimal | int:
    """Whole numbers as int, however they are written: 5.0 is an integer of JSON Schema."""
    if not math.isfinite(float(digits)):
        raise ValueError("a number is beyond all doubles")
    exact = Decimal(digits)
    return int(exact) if exact == exact.to_integral_value() else exact


def refuse_constant(name: str) -> float:
    """For ``json.loads``: NaN and Infinity are Python's and not JSON's. Raises ValueError."""
    raise ValueError(f"{name} is not JSON")
