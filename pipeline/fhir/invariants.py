"""Rules that join several elements of one type: the standard's invariants that concern what we write."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.fhir.codes import is_loinc
from pipeline.fhir.elements import LOINC
from pipeline.fhir.primitives import BrokenRuleError

Invariant = Callable[[Mapping[str, Any]], None]


def invariants(type_name: str, code_systems: Mapping[str, frozenset[str]]) -> tuple[Invariant, ...]:
    """The rules of one type; ``code_systems`` are those whose codes are known in full."""
    if type_name == "Coding":
        return (_known_code(code_systems),)
    return _RULES.get(type_name, ())


def _known_code(code_systems: Mapping[str, frozenset[str]]) -> Invariant:
    def rule(coding: Mapping[str, Any]) -> None:
        system, code = coding.get("system"), coding.get("code", "")
        if system == LOINC and not is_loinc(code) and not code.startswith(("LP", "LA", "LG")):
            raise BrokenRuleError("code has no valid LOINC check digit")
        if code not in code_systems.get(system or "", (code,)):
            raise BrokenRuleError("code is not in its code system")

    return rule


def _extension(extension: Mapping[str, Any]) -> None:
    holds_value = any(name.startswith(("value", "_value")) for name in extension)
    if holds_value == ("extension" in extension):
        raise BrokenRuleError("must hold either a value or extensions (ext-1)")


def _attachment(attachment: Mapping[str, Any]) -> None:
    if "data" not in attachment:
        return
    if "contentType" not in attachment:
        raise BrokenRuleError("data needs a contentType (att-1)")
    raw = base64.b64decode(attachment["data"])
    if attachment.get("size", len(raw)) != len(raw):
        raise BrokenRuleError("size is not that of the data")
    digest = base64.b64encode(hashlib.sha1(raw, usedforsecurity=False).digest()).decode()
    if attachment.get("hash", digest) != digest:
        raise BrokenRuleError("hash is not the SHA-1 of the data")


def _period(period: Mapping[str, Any]) -> None:
    start, end = period.get("start", ""), period.get("end", "")
    same_zone = start[19:] == end[19:] and len(start) == len(end)
    if start and end and same_zone and start > end:
        raise BrokenRuleError("ends before it starts (per-1)")


def _observation(observation: Mapping[str, Any]) -> None:
    if "dataAbsentReason" in observation and any(name.startswith("value") for name in observation):
        raise BrokenRuleError("dataAbsentReason goes without a value (obs-6)")
    codes = [component.get("code") for component in observation.get("component", ())]
    if any(name.startswith("value") for name in observation) and observation.get("code") in codes:
        raise BrokenRuleError("a component repeats the code beside a value (obs-7)")


def _organization(organization: Mapping[str, Any]) -> None:
    if "name" not in organization and "identifier" not in organization:
        raise BrokenRuleError("needs a name or an identifier (org-1)")


def _audit_entity(entity: Mapping[str, Any]) -> None:
    if "name" in entity and "query" in entity:
        raise BrokenRuleError("holds a name or a query, not both (sev-1)")


def _reference(reference: Mapping[str, Any]) -> None:
    if not {"reference", "identifier", "display"} & reference.keys():
        raise BrokenRuleError("refers to nothing")


_RULES: Mapping[str, tuple[Invariant, ...]] = {
    "Extension": (_extension,),
    "Attachment": (_attachment,),
    "Period": (_period,),
    "Observation": (_observation,),
    "Organization": (_organization,),
    "AuditEvent.entity": (_audit_entity,),
    "Reference": (_reference,),
}
