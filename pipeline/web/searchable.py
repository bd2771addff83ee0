"""What this server can be searched by: one table, from which searches are read and the CapabilityStatement is made."""

from typing import Final

from pipeline.lookup import Order

_SHARED: Final = {"_id": "token", "_lastUpdated": "date"}
_OF_PATIENT: Final = {"patient": "reference", "subject": "reference", "patient.identifier": "token"}
SEARCHABLE: Final[dict[str, dict[str, str]]] = {
    "DiagnosticReport": _SHARED
    | _OF_PATIENT
    | {"identifier": "token", "study-uid": "token", "status": "token", "code": "token", "category": "token"}
    | {"date": "date", "issued": "date"},
    "ImagingStudy": _SHARED
    | _OF_PATIENT
    | {"identifier": "token", "status": "token", "modality": "token", "started": "date"},
    "Observation": _SHARED
    | _OF_PATIENT
    | {"status": "token", "code": "token", "category": "token", "date": "date"},
    "Patient": _SHARED
    | {"identifier": "token", "name": "string", "family": "string", "given": "string"}
    | {"birthdate": "date", "gender": "token"},
    "Device": _SHARED | {"identifier": "token"},
    "Organization": _SHARED,
    "Provenance": _SHARED | {"target": "reference", "recorded": "date"},
}
"""Resource types served, and the type of each search parameter.

``study-uid`` is our own: R4 has no parameter that finds a DiagnosticReport by its study.
"""

DATES: Final = {
    "DiagnosticReport": "date",
    "Observation": "date",
    "ImagingStudy": "started",
    "Patient": "birthdate",
    "Provenance": "recorded",
}
"""The date by which a type is searched, and may be sorted by."""

MODIFIERS: Final[dict[str, tuple[str, ...]]] = {
    "token": ("missing", "not"),
    "date": ("missing",),
    "string": ("missing", "contains", "exact"),
    "reference": ("missing",),
}
"""The modifiers of each type of parameter (R4 sections 3.1.1.4.5, 3.1.1.4.8 and 3.1.1.4.10)."""

TARGETS: Final = ("DiagnosticReport", "Observation")
"""What our Provenance speaks of."""

STATUS_SYSTEMS: Final = {
    "DiagnosticReport": "http://hl7.org/fhir/diagnostic-report-status",
    "Observation": "http://hl7.org/fhir/observation-status",
    "ImagingStudy": "http://hl7.org/fhir/imagingstudy-status",
}

INCLUDES: Final[dict[str, dict[str, tuple[str, tuple[str, ...]]]]] = {
    "DiagnosticReport": {
        "patient": ("subject", ("Patient",)),
        "subject": ("subject", ("Patient",)),
        "performer": ("performer", ("Organization",)),
        "result": ("result", ("Observation",)),
    },
    "ImagingStudy": {"patient": ("subject", ("Patient",)), "subject": ("subject", ("Patient",))},
    "Observation": {
        "patient": ("subject", ("Patient",)),
        "subject": ("subject", ("Patient",)),
        "derived-from": ("derivedFrom", ("ImagingStudy",)),
        "device": ("device", ("Device",)),
        "performer": ("performer", ("Organization",)),
    },
    "Provenance": {"target": ("target", TARGETS)},
}
"""``_include`` by type and parameter: the element that holds the references, and the types that they name."""

REVINCLUDE: Final = "Provenance:target"
"""The one ``_revinclude``, of every other type."""


def sort_keys(resource_type: str) -> dict[str, Order]:
    """The keys of ``_sort`` for a type."""
    dated = {DATES[resource_type]: Order.DATED} if resource_type in DATES else {}
    return {"_lastUpdated": Order.CHANGED, **dated, "_id": Order.ID}
