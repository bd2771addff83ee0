"""The CapabilityStatement (R4 section 5.2): exactly what ``fhir_rest`` does."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pipeline.web.definitions import SEARCHED_BY, Definition
from pipeline.web.reader import Interaction
from pipeline.web.searchable import INCLUDES, MODIFIERS, REVINCLUDE, SEARCHABLE, sort_keys

OF_RESOURCES: Final = (
    Interaction.READ,
    Interaction.VREAD,
    Interaction.HISTORY,
    Interaction.HISTORY_OF_TYPE,
    Interaction.SEARCH,
)
_EXPORT = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export"
_STUDY_UID = (
    "Our own parameter: Study Instance UID of the DICOM study, plain or as urn:oid:. "
    "R4 has no search parameter from DiagnosticReport to its ImagingStudy."
)
_SECURITY = (
    "Read only. A bearer token (Authorization: Bearer) wherever one is configured, and always off loopback. "
    "Every read and search is audited."
)


def capability_statement(
    *, base: str, started: datetime, software_version: str, published: Sequence[Definition] = ()
) -> dict[str, Any]:
    """The statement of this server at ``base``; ``started`` dates it. ``published``: what it defines itself."""
    own = {one["code"]: one["url"] for one in published if one["resourceType"] == "SearchParameter"}
    software = {"name": "Firstread", **({"version": software_version} if software_version else {})}
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": started.isoformat(timespec="seconds"),
        "kind": "instance",
        "software": software,
        "implementation": {"description": "Firstread: machine-made draft reports, read only", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["json", "application/fhir+json"],
        "rest": [
            {
                "mode": "server",
                "security": {"description": _SECURITY},
                "resource": [
                    *(_resource(resource_type, own) for resource_type in SEARCHABLE),
                    *(_definitions(kind) for kind in sorted({one["resourceType"] for one in published})),
                ],
                "interaction": [{"code": Interaction.HISTORY_OF_ALL.value}],
                "operation": [{"name": "export", "definition": _EXPORT}],
            }
        ],
    }


def _resource(resource_type: str, own: Mapping[str, str]) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "type": resource_type,
        "documentation": _documentation(resource_type),
        "interaction": [{"code": interaction.value} for interaction in OF_RESOURCES],
        "versioning": "versioned",
        "readHistory": True,
        "updateCreate": False,
        "searchParam": [
            _parameter(name, kind, own) for name, kind in SEARCHABLE[resource_type].items() if "." not in name
        ],
    }
    if resource_type in INCLUDES:
        resource["searchInclude"] = [f"{resource_type}:{name}" for name in INCLUDES[resource_type]]
    if resource_type != "Provenance":
        resource["searchRevInclude"] = [REVINCLUDE]
    return resource


def _documentation(resource_type: str) -> str:
    modifiers = "; ".join(
        f"{kind}: {' '.join(f':{one}' for one in MODIFIERS[kind])}"
        for kind in sorted(set(SEARCHABLE[resource_type].values()))
    )
    return (
        f"_sort by {', '.join(sort_keys(resource_type))}, by several in their turn, with - for the latest first; "
        "unsorted is -_lastUpdated. _count, _total, _elements, and _summary by text, data, count and false. "
        f"Modifiers of parameters by type: {modifiers}. Every filter that is given must hold. Anything else is refused."
    )


def _parameter(name: str, kind: str, own: Mapping[str, str]) -> dict[str, Any]:
    parameter: dict[str, Any] = {"name": name, "type": kind}
    if name in own:
        parameter["definition"] = own[name]
    if name == "study-uid":
        parameter["documentation"] = _STUDY_UID
    elif name == "patient":
        parameter["documentation"] = "Also chained: patient.identifier."
    elif kind == "string":
        parameter["documentation"] = "Begins with the value, without regard to case and accents."
    elif kind == "date":
        parameter["documentation"] = (
            "Every prefix. A value without a zone is compared with the clock on the wall."
        )
    return parameter


def _definitions(kind: str) -> dict[str, Any]:
    return {
        "type": kind,
        "documentation": "What resources here use beside the standard; given without a token.",
        "interaction": [{"code": Interaction.READ.value}, {"code": Interaction.SEARCH.value}],
        "searchParam": [{"name": name, "type": of} for name, of in SEARCHED_BY.items()],
    }
