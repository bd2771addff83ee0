"""The second validation: the R4 definitions compiled into one function per type.

Held: unknown elements, cardinality, types, choices, patterns of primitives, required bindings, codes of
known systems, targets of references, safe narratives, attachments that decode to their size and hash, and the
rules of ``invariants``. Stricter than the standard: no contained resources and no nulls in arrays.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pipeline.fhir.definitions import Definitions, ElementDefinition, load
from pipeline.fhir.invariants import invariants
from pipeline.fhir.primitives import BrokenRuleError, Check, primitive_checks
from pipeline.fhir.xhtml import check_div

_LITERAL = re.compile(
    r"(?P<base>https?://[^\s?#]+/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})(/_history/[A-Za-z0-9\-.]{1,64})?",
    re.ASCII,
)
_ABSOLUTE = ("urn:uuid:", "urn:oid:")


@cache
def resource_checks() -> Mapping[str, Check]:
    """One check per resource type; each raises BrokenRuleError and collects relative references."""
    return _Compiler(load()).resources


@cache
def element_names() -> frozenset[str]:
    """Every JSON name of the definitions: what a message may repeat of a resource's own property names."""
    types = load().types.values()
    return frozenset(name for elements in types for element in elements for name in element.names)


class _Compiler:
    """Builds the checks of all types at once, so that types may name each other in circles."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self.checks: dict[str, Check] = primitive_checks(definitions.primitives)
        self.checks["xhtml"] = check_div
        self.checks["Resource"] = self._any_resource
        fields: dict[str, dict[str, Check]] = {name: {} for name in definitions.types}
        for name, elements in definitions.types.items():
            if name != "Resource":
                self.checks[name] = self._object(name, elements, fields[name])
        for name, elements in definitions.types.items():
            for element in elements:
                fields[name].update(self._fields(name, element))
        self.resources = {
            name: self._resource(name, fields[name])
            for name, elements in definitions.types.items()
            if any("meta" in element.names for element in elements) and name != "Resource"
        }

    def _any_resource(self, value: Any, found: list[str]) -> None:
        name = value.get("resourceType") if type(value) is dict else None
        check = self.resources.get(name) if type(name) is str else None
        if check is None:
            raise BrokenRuleError("is not a resource of a known type")
        check(value, found)

    def _resource(self, name: str, fields: dict[str, Check]) -> Check:
        whole = self.checks[name]
        fields["id"] = self.checks["id"]
        fields["resourceType"] = _exactly(name)
        fields["contained"] = _refused

        def check(value: Any, found: list[str]) -> None:
            whole(value, found)
            if "resourceType" not in value:
                raise BrokenRuleError("has no resourceType")

        return check

    def _fields(self, type_name: str, element: ElementDefinition) -> dict[str, Check]:
        fields: dict[str, Check] = {}
        for name, kind in element.names.items():
            check = self._one(kind, element)
            if type_name == "Reference" and name == "reference":
                check = _reference_text
            fields[name] = _many(check) if element.repeats else check
            if kind in self.definitions.primitives:
                sibling = self.checks["Extension"]
                fields[f"_{name}"] = _sibling(sibling, repeats=element.repeats)
        return fields

    def _one(self, kind: str, element: ElementDefinition) -> Check:
        check = self.checks[kind]
        if kind == "Reference" and element.targets:
            return _target(check, element.targets)
        if element.codes:
            return _bound(check, kind, element.codes)
        return check

    def _object(self, name: str, elements: Sequence[ElementDefinition], fields: Mapping[str, Check]) -> Check:
        required = tuple(
            (only, f"_{only}")
            for element in elements
            if element.required and len(element.names) == 1
            for only in element.names
        )
        choices = tuple((frozenset(e.names), e.required) for e in elements if len(e.names) > 1)
        rules = invariants(name, self.definitions.code_systems)

        def check(value: Any, found: list[str]) -> None:
            if type(value) is not dict or not value:
                raise BrokenRuleError("must be an object with something in it")
            for key, inner in value.items():
                field = fields.get(key)
                if field is None:
                    raise BrokenRuleError("has an element that is not of its type")
                try:
                    field(inner, found)
                except BrokenRuleError as broken:
                    broken.path.append(key)
                    raise
            for key, sibling in required:
                if key not in value and sibling not in value:
                    raise BrokenRuleError(f"needs {key}")
            for names, needed in choices:
                count = len(names & value.keys())
                if count > 1 or (needed and not count):
                    raise BrokenRuleError(
                        "needs one value of a choice, not " + ("several" if count else "none")
                    )
            for rule in rules:
                rule(value)

        return check


def _many(one: Check) -> Check:
    def check(value: Any, found: list[str]) -> None:
        if type(value) is not list or not value:
            raise BrokenRuleError("must be an array with something in it")
        for position, inner in enumerate(value):
            try:
                one(inner, found)
            except BrokenRuleError as broken:
                broken.path.append(f"[{position}]")
                raise

    return check


def _sibling(extension: Check, *, repeats: bool) -> Check:
    """The check of ``_name`` beside a primitive: an ElementDefinition with an id or extensions (R4 json, 2.6.2)."""
    extensions = _many(extension)

    def one(value: Any, found: list[str]) -> None:
        if type(value) is not dict or not value or not value.keys() <= {"id", "extension"}:
            raise BrokenRuleError("must be an element with an id or extensions")
        if "extension" in value:
            extensions(value["extension"], found)

    def many(value: Any, found: list[str]) -> None:
        if type(value) is not list or not any(value):
            raise BrokenRuleError("must be an array with something in it")
        for inner in value:
            if inner is not None:
                one(inner, found)

    return many if repeats else one


def _bound(check: Check, kind: str, codes: Mapping[str, frozenset[str]]) -> Check:
    """A required binding: on a code, a Coding, or at least one coding of a CodeableConcept."""
    every = frozenset().union(*codes.values())

    def bound(value: Any, found: list[str]) -> None:
        check(value, found)
        if kind == "code":
            held = value in every
        else:
            codings = value.get("coding", ()) if kind == "CodeableConcept" else (value,)
            held = any(one.get("code") in codes.get(one.get("system", ""), ()) for one in codings)
        if not held:
            raise BrokenRuleError("is not a code of the required value set")

    return bound


def _target(check: Check, targets: frozenset[str]) -> Check:
    def target(value: Any, found: list[str]) -> None:
        check(value, found)
        literal = _LITERAL.fullmatch(value.get("reference", ""))
        named = {name for name in (literal and literal["type"], value.get("type")) if name}
        if not named <= targets:
            raise BrokenRuleError("refers to a type of resource that is not allowed here")

    return target


def _reference_text(value: Any, found: list[str]) -> None:
    """Reference.reference: a relative or absolute literal, or a URN; relative ones are collected."""
    literal = _LITERAL.fullmatch(value) if type(value) is str else None
    if literal is None:
        if type(value) is not str or not value.startswith(_ABSOLUTE) or " " in value:
            raise BrokenRuleError("is not a reference to a resource")
    elif literal["base"] is None:
        found.append(f"{literal['type']}/{literal['id']}")


def _exactly(name: str) -> Check:
    def check(value: Any, _found: list[str]) -> None:
        if value != name:
            raise BrokenRuleError(f"must be {name}")

    return check


def _refused(_value: Any, _found: list[str]) -> None:
    raise BrokenRuleError("contained resources are not written here")
