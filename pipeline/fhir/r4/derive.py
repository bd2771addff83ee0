"""Derives ``definitions.json.gz`` from the R4 definition bundles; the package's docstring has the commands.

The result, all under version 4.0.1:

    types         {type or backbone path: {element: {"min", "max", "types", "targets"?, "codes"?}}}
    primitives    {primitive type: regular expression, or ""}
    value_sets    {URL: {system: [codes]}} of every required binding that the bundles spell out
    code_systems  {URL: [codes]} of the systems named in ``CHECKED_SYSTEMS``
    loinc         {code: [names]} of the codes in ``loinc.toml``, as the value sets name them
"""

import gzip
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

RESOURCES = (
    "AuditEvent",
    "Bundle",
    "CapabilityStatement",
    "Device",
    "DiagnosticReport",
    "ImagingStudy",
    "Observation",
    "OperationOutcome",
    "Organization",
    "Patient",
    "Provenance",
)
CHECKED_SYSTEMS = (
    "http://terminology.hl7.org/CodeSystem/audit-entity-type",
    "http://terminology.hl7.org/CodeSystem/audit-event-type",
    "http://terminology.hl7.org/CodeSystem/object-role",
    "http://terminology.hl7.org/CodeSystem/observation-category",
    "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
    "http://terminology.hl7.org/CodeSystem/v2-0074",
    "http://terminology.hl7.org/CodeSystem/v2-0203",
    "http://terminology.hl7.org/CodeSystem/v3-DataOperation",
    "http://terminology.hl7.org/CodeSystem/v3-ParticipationType",
    "http://hl7.org/fhir/restful-interaction",
)
_REGEX = "http://hl7.org/fhir/StructureDefinition/regex"
_STRING = "http://hl7.org/fhirpath/System.String"
_FHIR_TYPE = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"
Entries = dict[str, Any]


def main(folder: Path, out: Path) -> None:
    """Read the bundles in ``folder`` and write the trimmed definitions to ``out``."""
    structures = {
        **_by(folder / "profiles-types.json", "id"),
        **_by(folder / "profiles-resources.json", "id"),
    }
    terms = {
        **_by(folder / "v3-codesystems.json", "url"),
        **_by(folder / "v2-tables.json", "url"),
        **_by(folder / "valuesets.json", "url"),
    }
    types, primitives = _types(structures)
    bindings = sorted({e["codes"] for fields in types.values() for e in fields.values() if "codes" in e})
    value_sets = {url: codes for url in bindings if (codes := _expand(url, terms))}
    for fields in types.values():
        for element in fields.values():
            if element.get("codes") not in value_sets:
                element.pop("codes", None)
    trimmed = {
        "version": "4.0.1",
        "types": types,
        "primitives": primitives,
        "value_sets": value_sets,
        "loinc": _loinc_names(json.loads((folder / "valuesets.json").read_text("utf-8"))),
        "code_systems": {url: _concepts(terms[url].get("concept", [])) for url in CHECKED_SYSTEMS},
    }
    text = json.dumps(trimmed, sort_keys=True, separators=(",", ":"))
    out.write_bytes(gzip.compress(text.encode(), mtime=0))


def _by(path: Path, key: str) -> Entries:
    """The resources of a bundle by ``key``; a CodeSystem wins over a ValueSet of the same URL."""
    found: Entries = {}
    for entry in json.loads(path.read_text("utf-8"))["entry"]:
        resource = entry["resource"]
        if key in resource and (resource["resourceType"] != "ValueSet" or resource[key] not in found):
            found[resource[key]] = resource
    return found


def _types(structures: Entries) -> tuple[Entries, dict[str, str]]:
    types: Entries = {}
    primitives: dict[str, str] = {}
    waiting = list(RESOURCES)
    while waiting:
        name = waiting.pop()
        structure = structures.get(name)
        if name in types or name in primitives or structure is None:
            continue
        if structure["kind"] == "primitive-type":
            primitives[name] = _pattern(structure)
            continue
        types |= _elements(structure)
        waiting += [code for fields in types.values() for e in fields.values() for code in e["types"]]
    return types, primitives


def _elements(structure: Entries) -> Entries:
    """The elements of one structure, its backbones as types of their own, named by their paths."""
    types: Entries = {structure["id"]: {}}
    for element in structure["snapshot"]["element"][1:]:
        parent, _, name = element["path"].rpartition(".")
        nested = [code["code"] for code in element.get("type", [])] in (["BackboneElement"], ["Element"])
        if "contentReference" in element:
            kinds = [element["contentReference"].lstrip("#")]
        elif nested:
            kinds = [element["path"]]
            types.setdefault(element["path"], {})
        else:
            kinds = [_code(kind) for kind in element["type"]]
        entry: Entries = {"min": element["min"], "max": element["max"], "types": kinds}
        targets = {
            t.rsplit("/", 1)[1] for kind in element.get("type", []) for t in kind.get("targetProfile", [])
        }
        if targets and "Resource" not in targets:
            entry["targets"] = sorted(targets)
        binding = element.get("binding", {})
        if binding.get("strength") == "required":
            entry["codes"] = binding["valueSet"].split("|")[0]
        types.setdefault(parent, {})[name] = entry
    return types


def _code(kind: Entries) -> str:
    """The FHIR type of an element; ids are told as FHIRPath strings with the true type beside."""
    told = [e.get("valueUrl") for e in kind.get("extension", []) if e["url"] == _FHIR_TYPE]
    code: str = told[0] if told and told[0] else kind["code"]
    return "string" if code == _STRING else code


def _pattern(structure: Entries) -> str:
    for element in structure["snapshot"]["element"]:
        for kind in element.get("type", []):
            for extension in kind.get("extension", []):
                if extension["url"] == _REGEX:
                    return str(extension["valueString"])
    return ""


def _expand(url: str, terms: Entries) -> dict[str, list[str]]:
    """The codes of a value set by system; empty where the bundles do not spell it out (mime types)."""
    codes: dict[str, list[str]] = {}
    for part in terms.get(url, {}).get("compose", {}).get("include", []):
        system = part.get("system")
        if "filter" in part or system is None:
            return {}
        listed = [one["code"] for one in part.get("concept", [])] or _concepts(
            terms.get(system, {}).get("concept", [])
        )
        if not listed:
            return {}
        codes.setdefault(system, []).extend(listed)
    return {system: sorted(set(listed)) for system, listed in codes.items()}


def _loinc_names(bundle: Entries) -> dict[str, list[str]]:
    """How the specification names the LOINC codes of our table, wherever it does; a code it lacks is left out."""
    table = tomllib.loads(Path(__file__).parents[1].joinpath("loinc.toml").read_text("utf-8"))
    names: dict[str, set[str]] = {}
    waiting: list[tuple[Any, str]] = [(bundle, "")]
    while waiting:
        part, system = waiting.pop()
        if isinstance(part, list):
            waiting += [(one, system) for one in part]
        elif isinstance(part, dict):
            system = part.get("system", system)
            if system == "http://loinc.org" and part.get("code") in table["display"] and "display" in part:
                names.setdefault(part["code"], set()).add(part["display"])
            waiting += [(one, system) for one in part.values()]
    return {code: sorted(told) for code, told in names.items()}


def _concepts(concepts: list[Entries]) -> list[str]:
    found = []
    for one in concepts:
        found += [one["code"], *_concepts(one.get("concept", []))]
    return sorted(set(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_name("definitions.json.gz"))
