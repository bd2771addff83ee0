"""A part of a resource instead of the whole (R4 sections 3.1.1.5.8 and 3.1.1.5.9): ``_elements``, ``_summary``."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

_ALWAYS: Final = frozenset({"resourceType", "id", "meta", "implicitRules"})
_MANDATORY: Final = {
    "DiagnosticReport": frozenset({"status", "code"}),
    "Observation": frozenset({"status", "code"}),
    "ImagingStudy": frozenset({"status", "subject"}),
    "Patient": frozenset({"active", "link", "deceasedBoolean", "deceasedDateTime"}),
    "Device": frozenset({"status"}),
    "Organization": frozenset({"active"}),
    "Provenance": frozenset({"target", "recorded", "agent"}),
}
"""Elements without which a resource of the type is none, or would be misread."""
_CHOICES: Final = frozenset({"effective", "value", "deceased", "multipleBirth", "occurred"})
_SUBSETTED: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
    "display": "subsetted",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """Which top-level elements are wanted: all unless ``only`` names some; never those of ``without``."""

    only: frozenset[str] | None = None
    without: frozenset[str] = frozenset()


def shape_of(*, elements: Iterable[str] = (), summary: str = "") -> Shape:
    """The shape that ``_elements``, or ``_summary`` with text or data, asks for."""
    if summary == "data":
        return Shape(without=frozenset({"text"}))
    return Shape(only=frozenset({"text"} if summary == "text" else elements))


def shaped(body: str, shape: Shape) -> str:
    """``body`` (JSON text) in ``shape``, marked SUBSETTED; labels of its meta stay."""
    if shape == Shape():
        return body
    whole: dict[str, Any] = json.loads(body)
    kept = {
        key: value
        for key, value in whole.items()
        if _wanted(key.removeprefix("_"), whole["resourceType"], shape)
    }
    meta = whole.get("meta", {})
    kept["meta"] = {**meta, "tag": [*meta.get("tag", ()), _SUBSETTED]}
    return json.dumps(kept, ensure_ascii=False)


def _wanted(element: str, kind: str, shape: Shape) -> bool:
    if element in _ALWAYS or element in _MANDATORY[kind]:
        return True
    if shape.only is None:
        return element not in shape.without
    return element in shape.only or any(
        name in shape.only and element.startswith(name) and element[len(name) :][:1].isupper()
        for name in _CHOICES
    )
