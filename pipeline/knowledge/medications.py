"""Passages of FHIR R4 Medication, MedicationKnowledge and Substance resources (http://hl7.org/fhir/R4).

Other resources are left out by their type: those of patients do not belong into a knowledge base.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from pipeline.knowledge.splitting import LONGEST, made
from pipeline.passages import Passage

TYPES = frozenset({"Medication", "MedicationKnowledge", "Substance"})
_UNSAID = frozenset(
    """resourceType id meta implicitRules language text contained extension modifierExtension identifier status code
    synonym system reference url version userSelected""".split()  # noqa: SIM905 - a paragraph reads better
)
_DEEPEST = 30
_WORD = re.compile(r"[A-Za-z]{1,64}")
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
"""An id of R4 section 2.24.0.1."""
_MOST_PARTS = 2_000_000
"""Lists and objects of one document: those of 32 MiB that hold nothing else would take a gigabyte."""


def medication_passages(text: str, *, lines: bool, left_out: Counter[str]) -> Iterator[Passage]:
    """Passages of one resource, a Bundle, or of NDJSON (``lines``); ``left_out`` counts resources of other types.

    Raises ValueError for what is no JSON or no FHIR.
    """
    try:
        for number, one in enumerate(_documents(text, lines=lines), 1):
            for entry, resource in enumerate(_resources(one), 1):
                kind = resource.get("resourceType")
                if kind not in TYPES:
                    left_out[kind if isinstance(kind, str) and _WORD.fullmatch(kind) else "unnamed"] += 1
                    continue
                where = f"line {number}" if lines else f"entry {entry}"
                yield from _passages(resource, where)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _documents(text: str, *, lines: bool) -> Iterator[Any]:
    if not lines:
        yield _parsed(text)
        return
    for line in text.split("\n"):
        if line.strip():
            yield _parsed(line)


def _parsed(text: str) -> Any:
    if text.count("{") + text.count("[") > _MOST_PARTS:
        raise ValueError(f"it has more than {_MOST_PARTS} lists and objects: divide it")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        place = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "a number in it"
        raise ValueError(f"it is not JSON at {place}") from None


def _refuse_constant(_: str) -> Any:
    raise ValueError  # NaN and Infinity, which Python's reader takes


def _resources(document: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(document, dict) or "resourceType" not in document:
        raise ValueError("it is JSON, and no FHIR resource or Bundle")
    if document["resourceType"] != "Bundle":
        yield document
        return
    entries = document.get("entry", [])
    for entry in entries if isinstance(entries, list) else []:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if isinstance(resource, dict):
            yield resource


def _passages(resource: dict[str, Any], where: str) -> Iterator[Passage]:
    names = tuple(dict.fromkeys(_names(resource)))
    known = resource.get("id")
    named = isinstance(known, str) and _ID.fullmatch(known)
    place = f"{resource['resourceType']}/{known}" if named else where
    title = names[0] if names else place
    told = [("", f"Also called: {'; '.join(names[1:])}")] if names[1:] else []
    for element, value in resource.items():
        told_here = element not in _UNSAID and _WORD.fullmatch(element)
        said = list(dict.fromkeys(_said(value, 0))) if told_here else []
        if said:
            label = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", element).lower()
            told.append((label, f"{label}: {'; '.join(said)}"))
    gathered: list[tuple[str, str]] = []
    for part in [*told, None]:
        full = part is not None and sum(len(one[1]) for one in gathered) + len(part[1]) > LONGEST
        if gathered and (part is None or full):
            labels = ", ".join(label for label, _ in gathered if label)
            at = f"{place}, {labels}" if labels else place
            yield from made(at, title, "\n".join(line for _, line in gathered), names)
            gathered = []
        if part is not None:
            gathered.append(part)


def _names(resource: dict[str, Any]) -> Iterator[str]:
    code = resource.get("code")
    if isinstance(code, dict):
        codings = code.get("coding", [])
        shown = (
            [one.get("display") for one in codings if isinstance(one, dict)]
            if isinstance(codings, list)
            else []
        )
        yield from (one for one in (code.get("text"), *shown) if isinstance(one, str) and one)
    synonyms = resource.get("synonym", [])
    if isinstance(synonyms, list):
        yield from (one for one in synonyms if isinstance(one, str) and one)


def _said(value: Any, depth: int) -> Iterator[str]:
    """The words for people in an element: texts, displays, quantities with their units; no codes, no references."""
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _said(one, depth + 1)
    elif isinstance(value, dict):
        text = value.get("text") or value.get("display")
        if isinstance(text, str):
            yield text
        elif _is_amount(value.get("value")) and isinstance(
            unit := value.get("unit") or value.get("code"), str
        ):
            yield f"{value['value']} {unit}"
        elif "coding" in value:
            yield from _said(value["coding"], depth + 1)
        for name, one in value.items():
            if name not in _UNSAID and name not in ("display", "coding", "value", "unit"):
                yield from _said(one, depth + 1)
    elif _is_amount(value):
        yield str(value)


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
