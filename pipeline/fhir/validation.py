"""Two validations of different descent stand before the store; neither is trusted alone.

First ``fhir.resources.R4B`` (``fragments``), then the R4 definitions (``structure``), then the set as a
whole: every relative reference resolves inside it, and no resource comes twice.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from pipeline.errors import FailStudy
from pipeline.fhir.fragments import validated
from pipeline.fhir.primitives import BrokenRuleError
from pipeline.fhir.structure import element_names, resource_checks
from pipeline.ledger import Resource

_ADVICE = "nothing was stored; report this as a fault of the program"


def validate(resources: Sequence[Resource]) -> None:
    """Raise FailStudy("fhir-invalid") naming path and rule, without any value, unless all is sound.

    Valid are resources with an id of their own, right by both validations, whose relative references all
    point into ``resources``.
    """
    held = {f"{one.resource_type}/{one.resource_id}" for one in resources}
    if len(held) < len(resources):
        raise _invalid("the set", "holds a resource twice")
    for one in resources:
        if one.body.get("resourceType") != one.resource_type or one.body.get("id") != one.resource_id:
            raise _invalid(one.resource_type, "its body has another type or id")
        for target in validate_body(one.body):
            if target not in held:
                raise _invalid(one.resource_type, "refers to a resource that is not in the set")


def validate_body(body: Mapping[str, Any]) -> list[str]:
    """Both validations of one resource; returns its relative references as "Type/id". Raises FailStudy."""
    named = body.get("resourceType")
    check = resource_checks().get(named) if type(named) is str else None
    if check is None or type(named) is not str:
        raise _invalid("the resource", "its type is not one that is written here")
    try:
        validated(named, body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise _invalid(_joined(named, first["loc"]), first["type"]) from None
    except (KeyError, TypeError, ValueError):
        raise _invalid(named, "it cannot be read as this type") from None
    found: list[str] = []
    try:
        check(body, found)
    except BrokenRuleError as broken:
        raise _invalid(_joined(named, broken.path[::-1]), broken.rule) from None
    return found


def _joined(resource_type: str, path: Sequence[str | int]) -> str:
    """The path to read; a property name that the standard has not could be anything and is not repeated."""
    known = element_names()
    parts = [resource_type]
    for part in path:
        if isinstance(part, int):
            parts[-1] += f"[{part}]"
        elif part.startswith("["):
            parts[-1] += part
        else:
            parts.append(part if part in known else "?")
    return ".".join(parts)


def _invalid(where: str, rule: str) -> FailStudy:
    return FailStudy("fhir-invalid", f"{where} {rule}; {_ADVICE}")
