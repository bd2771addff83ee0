"""ImagingStudy: what the headers say about the study, its series and its instances."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from pipeline.fhir.codes import code_system
from pipeline.fhir.elements import DICOM, SNOMED, Body, clean, coding, concept, dated, single_spaced
from pipeline.fhir.ids import resource_id
from pipeline.fhir.site import Site, uid_identifier
from pipeline.ledger import Completeness
from pipeline.study import Code
from pipeline.study_context import InstanceDescription, StudyContext

_ACCESSION = coding("http://terminology.hl7.org/CodeSystem/v2-0203", "ACSN", "Accession ID")
_UNKNOWN_MODALITY = "OT"
_SIDES = {
    "L": coding(SNOMED, "7771000", "Left"),
    "R": coding(SNOMED, "24028007", "Right"),
    "B": coding(SNOMED, "51440002", "Bilateral"),
}
"""Laterality of PS3.16 CID 244."""
_URI = "urn:ietf:rfc:3986"


def imaging_study(
    context: StudyContext,
    completeness: Completeness,
    site: Site,
    subject: Body,
    own: Sequence[InstanceDescription] = (),
) -> Body:
    """The ImagingStudy of the instances described; the archive's count is given where it is more.

    ``own`` are instances of ours beside those of the archive: each in a series of its own, which says so.
    """
    described = replace(context, instances=(*context.instances, *own))
    series = [
        _series(list(members))
        for _, members in groupby(sorted(described.instances, key=_order), key=_series_uid)
    ]
    body: Body = {
        "resourceType": "ImagingStudy",
        "id": resource_id("study", site.archive, context.study_instance_uid),
        "identifier": [uid_identifier(context.study_instance_uid), *accession_identifiers(context, site)],
        "status": "available",
        "subject": subject,
        "numberOfSeries": len(series),
        "numberOfInstances": max(completeness.announced, len(context.instances)) + len(own),
    }
    if series:
        body["modality"] = [
            coding(DICOM, code) for code in sorted({one["modality"]["code"] for one in series})
        ]
        body["series"] = series
    body |= dated("started", context.started, site.time_zone)
    if description := clean(context.description):
        body["description"] = description
    if context.procedure_codes:
        body["procedureCode"] = [
            _procedure(code, site) for code in context.procedure_codes if clean(code.value)
        ]
    if indication := clean(context.indication):
        body["reasonCode"] = [concept(text=indication)]
    return {key: value for key, value in body.items() if value != []}


def accession_identifiers(context: StudyContext, site: Site) -> list[Body]:
    """The accession number as an identifier of its archive; none where the study has none."""
    number, issuer = clean(context.accession_number), clean(context.accession_issuer)
    if not number:
        return []
    system = site.system("accession", issuer) if issuer else site.system("accession")
    return [{"type": concept(_ACCESSION), "system": system, "value": number}]


def _procedure(code: Code, site: Site) -> Body:
    return concept(coding(code_system(code.scheme, site), single_spaced(code.value), clean(code.meaning)))


def _series(members: list[InstanceDescription]) -> Body:
    first = members[0]
    body: Body = {
        "uid": first.ref.series_instance_uid,
        "modality": coding(DICOM, single_spaced(first.modality) or _UNKNOWN_MODALITY),
        "numberOfInstances": len(members),
        "instance": [_instance(member) for member in members],
    }
    if first.series_number is not None and first.series_number >= 0:
        body["number"] = first.series_number
    if description := clean(first.series_description):
        body["description"] = description
    parts, sides = {one.part for one in members}, {one.laterality.upper() for one in members}
    if len(parts) == 1 and first.part is not None:
        body["bodySite"] = coding(SNOMED, first.part.value, first.part.meaning)
    elif body_part := clean(first.body_part):
        body["bodySite"] = {"display": body_part}
    if len(sides) == 1 and (side := _SIDES.get(first.laterality.upper())):
        body["laterality"] = side
    elif len(sides) == 1 and (laterality := clean(first.laterality)):
        body["laterality"] = {"display": laterality}
    return body


def _instance(instance: InstanceDescription) -> Body:
    known = instance.sop_class_uid
    sop_class = coding(_URI, f"urn:oid:{known}") if known else {"display": "unknown"}
    body: Body = {"uid": instance.ref.sop_instance_uid, "sopClass": sop_class}
    if instance.instance_number is not None and instance.instance_number >= 0:
        body["number"] = instance.instance_number
    if view := clean(instance.view_position):
        body["title"] = view
    return body


def _series_uid(instance: InstanceDescription) -> str:
    return instance.ref.series_instance_uid


def _order(instance: InstanceDescription) -> tuple[str, int, str]:
    return instance.ref.series_instance_uid, instance.instance_number or 0, instance.ref.sop_instance_uid
