"""The names of a configuration as a person writes them: what is wrong with one, and which was meant.

A key is named as in the file (``archives.ct.port``, ``[[tasks]] number 2: labels``), never by the classes that read it;
values are never repeated, they may be secrets.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

PREFIX = "FIRSTREAD_"
LEVELS = "__"
MOVED: Mapping[str, str] = {}
"""Keys of earlier releases by their dotted name, and where each stands now."""


def explain(error: ValidationError, model: type[BaseModel], environment: Mapping[str, str]) -> str:
    """Every fault of a configuration in one line, each with its key and what to write instead."""
    return "; ".join(dict.fromkeys(_sentences(error, model, environment)))


def refuse_unknown_variables(model: type[BaseModel], environment: Mapping[str, str]) -> str:
    """What is wrong with FIRSTREAD_ variables whose first level is no key, or ""; the model reads the deeper ones."""
    known = {name.upper() for name in model.model_fields}
    wrong = []
    for name in sorted(environment):
        if name.upper().startswith(PREFIX):
            head, *levels = name[len(PREFIX) :].upper().split(LEVELS)
            if head not in known:
                wrong.append(f"the variable {name} names no setting{_meant(head, known, levels)}")
    return "; ".join(wrong)


def _meant(head: str, known: Iterable[str], levels: list[str]) -> str:
    near = nearest(head, known)
    return f": did you mean {PREFIX}{LEVELS.join((near, *levels))}?" if near else ""


_ALTERNATIVE = re.compile(r"(literal|function-[a-z]+)\[.*\]")
"""What pydantic puts into a place for one of several forms that a value may have."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like ``name``, or "" where none is near."""
    found = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else ""


def _sentences(
    error: ValidationError, model: type[BaseModel], environment: Mapping[str, str]
) -> Iterator[str]:
    variables = {name.upper() for name in environment}
    for item in error.errors(include_url=False, include_input=False):
        places, tables = _walk(item["loc"], model)
        key = _written(places)
        variable = PREFIX + LEVELS.join(str(part) for part in places).upper()
        shown = f"{variable} ({key})" if variable in variables else key
        name = str(places[-1]) if places else ""
        yield f"{shown}: {_said(item, key, name, tables, _places_of(name, model))}"


def _walk(
    loc: tuple[int | str, ...], model: type[BaseModel]
) -> tuple[list[int | str], list[type[BaseModel]]]:
    """The places of ``loc`` as in the file, without the tags of alternatives, and the tables that hold the last."""
    places: list[int | str] = []
    tables = [model]
    for number, part in enumerate(loc):
        kinds = {_kind(table): table for table in tables}
        if len(tables) > 1 and part in kinds:
            tables = [kinds[str(part)]]
            continue
        if isinstance(part, str) and _ALTERNATIVE.fullmatch(part):
            continue
        places.append(part)
        if number + 1 < len(loc):
            tables = _below(tables, part)
    return places, tables


def _kind(table: type[BaseModel]) -> str:
    field = table.model_fields.get("kind")
    return str(get_args(field.annotation)[0]) if field is not None else ""


def _below(tables: list[type[BaseModel]], part: int | str) -> list[type[BaseModel]]:
    """The tables that may stand under ``part``; a name or number within a collection stays with what it holds."""
    fields = [table.model_fields[str(part)] for table in tables if part in table.model_fields]
    found = [held for field in fields for held in _held(field.annotation)]
    return found or tables


def _held(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (dict, tuple, Union, UnionType) or hasattr(annotation, "__metadata__"):
        for one in get_args(annotation):
            yield from _held(one)


def _written(places: list[int | str]) -> str:
    """As in the file: ``archives.ct.port``; an array of tables by its number, counted from 1."""
    for at, part in enumerate(places):
        if isinstance(part, int) and at and (at == 1 or at + 1 < len(places)):
            rest = ".".join(str(one) for one in places[at + 1 :])
            return f"[[{'.'.join(map(str, places[:at]))}]] number {part + 1}" + (f": {rest}" if rest else "")
    return ".".join(str(part) for part in places) or "the configuration"


def _said(item: Any, key: str, name: str, tables: list[type[BaseModel]], elsewhere: list[str]) -> str:
    if item["type"] == "extra_forbidden":
        return _unknown(key, name, tables, elsewhere)
    if item["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return f"kind must be one of {item['ctx'].get('expected_tags') or 'dicomweb, dimse, folder'}"
    if item["type"] in ("model_type", "dict_type"):
        return "must be a table"
    if item["type"] == "missing":
        return "this key is missing"
    message = re.sub(r"^(Value error, |Input should be )", "", str(item["msg"]))
    return f"must be {message}" if str(item["msg"]).startswith("Input should be ") else message


def _unknown(key: str, name: str, tables: list[type[BaseModel]], elsewhere: list[str]) -> str:
    if key in MOVED:
        return f"this setting has moved: it is {MOVED[key]} now"
    known = [field for table in tables for field in table.model_fields]
    if near := nearest(name, known):
        return f"unknown key: did you mean {near}?"
    if len(elsewhere) == 1:
        return f"unknown key here: did you mean {elsewhere[0]}?"
    return f"unknown key; known here: {', '.join(sorted(known))}"


def _places_of(name: str, model: type[BaseModel]) -> list[str]:
    """Where a key of exactly this name stands, at the top or one table below it."""
    below = [
        f"{part}.{name}"
        for part, field in model.model_fields.items()
        if isinstance(field.annotation, type)
        and issubclass(field.annotation, BaseModel)
        and name in field.annotation.model_fields
    ]
    return [name, *below] if name in model.model_fields else below
