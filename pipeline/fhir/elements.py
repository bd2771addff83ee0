"""FHIR R4 data types as plain dictionaries: codings, references, dates and text that the standard allows."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.characters import CONTROLS, DIRECTIONS, HALVES, one_of

Body = dict[str, Any]
"""A FHIR resource or element in its JSON form."""

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
DICOM = "http://dicom.nema.org/resources/ontology/DCM"
UCUM = "http://unitsofmeasure.org"
AI_DEVICE_TYPES = "http://hl7.org/fhir/uv/aitransparency/CodeSystem/AIdeviceTypeCS"
AI_KIND = "http://hl7.org/fhir/uv/aitransparency/StructureDefinition/aitransparency.AIKind"
AI_CONFIDENCE = "http://hl7.org/fhir/uv/aitransparency/StructureDefinition/AIconfidence"
TZ_CODE = "http://hl7.org/fhir/StructureDefinition/tz-code"
INLINE_LABEL = "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label"
DATA_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

_FORBIDDEN = one_of(CONTROLS, "\f", DIRECTIONS, HALVES, "\ufffe\uffff")
_WIDEST_OFFSET = timedelta(hours=14)


def clean(text: str) -> str:
    """``text``, trimmed, without the characters that a FHIR string or XHTML may not hold (R4 datatypes).

    Control characters but tab, line feed and carriage return go; so do lone surrogates, the XML non-characters, and the
    overrides of writing direction (Unicode Standard Annex 9), which show another text than the one that is stored.
    """
    return _FORBIDDEN.sub("", text).strip()


def single_spaced(text: str) -> str:
    """``text`` as a FHIR code may hold it: cleaned, single spaces between words (R4 datatypes, code)."""
    return " ".join(clean(text).split())


def coding(system: str, code: str, display: str = "") -> Body:
    """A Coding."""
    body = {"system": system, "code": code}
    if display:
        body["display"] = display
    return body


def concept(*codings: Body, text: str = "") -> Body:
    """A CodeableConcept of these codings and this text, whichever there is."""
    body: Body = {}
    if codings:
        body["coding"] = list(codings)
    if text:
        body["text"] = text
    return body


def reference(resource_type: str, resource_id: str) -> Body:
    """A relative literal Reference."""
    return {"reference": f"{resource_type}/{resource_id}", "type": resource_type}


def date_time(moment: datetime) -> str:
    """A dateTime; a naive time is cut to its date, since R4 allows no time of day without a zone."""
    offset = moment.utcoffset()
    if offset is None:
        return moment.date().isoformat()
    if offset.total_seconds() % 60 or abs(offset) > _WIDEST_OFFSET:
        moment = moment.astimezone(UTC)
    return _iso(moment)


def dated(element: str, moment: datetime | None, time_zone: str) -> Body:
    """The dateTime ``element`` of ``moment``, and beside it the zone of a day that has none of its own.

    A day is told for a naive time (``date_time``), and searches by an instant need to know whose day it is.
    ``time_zone`` is an IANA name (R4 extension tz-code) or "". Empty where there is no ``moment``.
    """
    if moment is None:
        return {}
    body: Body = {element: date_time(moment)}
    if time_zone and moment.utcoffset() is None:
        body[f"_{element}"] = {"extension": [{"url": TZ_CODE, "valueCode": time_zone}]}
    return body


def instant(moment: datetime) -> str:
    """An instant in UTC, to the millisecond. ValueError for a naive ``moment``: a fault of the caller."""
    if moment.utcoffset() is None:
        raise ValueError("an instant needs a time zone")
    return _iso(moment.astimezone(UTC))


def _iso(moment: datetime) -> str:
    text = moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds")
    return text.replace("+00:00", "Z")


def unknown_date_time() -> Body:
    """The sibling element that says why a dateTime is absent."""
    return absent("unknown")


def absent(reason: str) -> Body:
    """The sibling of a primitive element that says why it is absent (R4 code system data-absent-reason)."""
    return {"extension": [{"url": DATA_ABSENT, "valueCode": reason}]}


AI_ASSERTED = coding(
    "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "AIAST", "Artificial Intelligence asserted"
)
"""The security label of whatever a model wrote (HL7 AI Transparency on FHIR)."""
INLINE_LABELLED = coding(
    "http://terminology.hl7.org/CodeSystem/v3-ActCode", "PROCESSINLINELABEL", "process inline security label"
)
"""Says that elements inside carry labels of their own."""
