"""Patient and Organization: who the study is of, as it came, and who answers for the report."""

import hashlib
import unicodedata

from pipeline.fhir.elements import Body, clean, coding, concept, reference
from pipeline.fhir.ids import resource_id
from pipeline.fhir.site import Site
from pipeline.patient_number import identifying
from pipeline.study_context import StudyContext

_IDENTIFIER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
_REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
_GROUPS = ("ABC", "IDE", "SYL")
_GENDERS = {"M": "male", "F": "female", "O": "other"}


def patient(context: StudyContext, site: Site) -> Body:
    """The Patient: one per archive, issuer and PatientID; a study whose PatientID identifies nobody has its own."""
    identity = context.patient
    number, issuer = _number(context), clean(identity.issuer)
    body: Body = {"resourceType": "Patient", "id": _patient_id(context, site)}
    if number:
        system = site.system("patient", issuer) if issuer else site.system("patient")
        body["identifier"] = [
            {
                "type": concept(coding(_IDENTIFIER_TYPES, "MR", "Medical record number")),
                "system": system,
                "value": number,
            }
        ]
        if issuer:
            body["identifier"][0]["assigner"] = {"display": issuer}
    if names := _names(identity.name_groups):
        body["name"] = names
    if sex := identity.sex.strip().upper():
        body["gender"] = _GENDERS.get(sex, "unknown")
    if identity.birth_date is not None:
        body["birthDate"] = identity.birth_date.isoformat()
    return body


def patient_reference(context: StudyContext, site: Site) -> Body:
    """A Reference to the Patient of a study, with the name to read."""
    refers = reference("Patient", _patient_id(context, site))
    if name := shown_name(context):
        refers["display"] = name
    return refers


def patient_key(context: StudyContext) -> str:
    """SHA-256 (hex) over issuer and PatientID, the same in every archive; "" where the headers identify nobody."""
    number, issuer = _number(context), clean(context.patient.issuer)
    return hashlib.sha256(f"{issuer}\n{number}".encode()).hexdigest() if number else ""


def organization(site: Site) -> Body:
    """The Organization that runs Firstread and performs the report; R4 allows no Device as performer."""
    name = clean(site.organization)
    return {
        "resourceType": "Organization",
        "id": resource_id("organization", site.identifier_system, name),
        "active": True,
        "name": name,
    }


def shown_name(context: StudyContext) -> str:
    """The patient's name for a reader: every component group, or an empty string."""
    return " · ".join(name["text"] for name in _names(context.patient.name_groups))


def _number(context: StudyContext) -> str:
    """The PatientID, "" for one that identifies nobody: two studies of UNKNOWN are not of one patient."""
    number = clean(context.patient.patient_id)
    return number if identifying(number) else ""


def _patient_id(context: StudyContext, site: Site) -> str:
    number, issuer = _number(context), clean(context.patient.issuer)
    key = (issuer, number) if number else ("", "", context.study_instance_uid)
    return resource_id("patient", site.archive, *key)


def _names(groups: tuple[str, ...]) -> list[Body]:
    names = []
    for position, group in enumerate(groups[: len(_GROUPS)]):
        if name := _name(group):
            if not (position == 0 and _ideographic(name["text"])):
                name = {"extension": [{"url": _REPRESENTATION, "valueCode": _GROUPS[position]}]} | name
            names.append(name)
    return names


def _name(group: str) -> Body:
    """A HumanName from family^given^middle^prefix^suffix (PS3.5 section 6.2.1.1)."""
    family, given, middle, prefix, suffix = (clean(part) for part in (group.split("^") + [""] * 5)[:5])
    text = " ".join(part for part in (prefix, given, middle, family, suffix) if part)
    if _ideographic(text):
        text = " ".join(part for part in (family, given, middle) if part)
    if not text:
        return {}
    name: Body = {"text": text}
    if family:
        name["family"] = family
    if given or middle:
        name["given"] = [part for part in (given, middle) if part]
    if prefix:
        name["prefix"] = [prefix]
    if suffix:
        name["suffix"] = [suffix]
    return name


def _ideographic(text: str) -> bool:
    """True for East Asian script: archives send it in the alphabetic group, which is then not called ABC."""
    return any(
        unicodedata.name(letter, "").startswith(("CJK", "HANGUL", "HIRAGANA", "KATAKANA")) for letter in text
    )
