"""DiagnosticReport: the draft as consumers find it. A draft status, a label, a banner; never final."""

import base64
import hashlib
from collections.abc import Sequence
from urllib.parse import quote

from pipeline.errors import FailStudy
from pipeline.fhir.codes import report_code
from pipeline.fhir.elements import (
    AI_ASSERTED,
    INLINE_LABEL,
    INLINE_LABELLED,
    LOINC,
    Body,
    absent,
    clean,
    coding,
    concept,
    date_time,
    unknown_date_time,
)
from pipeline.fhir.ids import report_id
from pipeline.fhir.imaging_study import accession_identifiers
from pipeline.fhir.narrative import Heading, page, report_narrative, words
from pipeline.fhir.observations import Run
from pipeline.fhir.patient import shown_name
from pipeline.fhir.site import Site
from pipeline.ledger import Completeness
from pipeline.report import DraftReport, ImpressionSource
from pipeline.study import ImageSet
from pipeline.study_context import StudyContext

_CATEGORY = (
    concept(coding("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology")),
    concept(coding(LOINC, "LP29684-5", "Radiology")),
)


def diagnostic_report(
    draft: DraftReport,
    context: StudyContext,
    image_set: ImageSet,
    completeness: Completeness,
    site: Site,
    run: Run,
    results: Sequence[Body],
    lines: Sequence[str],
) -> Body:
    """The DiagnosticReport. ``results`` refer to its Observations; ``lines`` are the notes about the draft.

    ``conclusion`` is the impression as drafted, labelled AIAST on the element itself, so that a copy of it can be told
    apart; where none was written it is absent, with the reason "not-performed". ``performer`` is the organisation,
    since R4 allows no Device there.
    """
    unwritten = draft.impression_source is ImpressionSource.UNWRITTEN
    conclusion = "" if unwritten else clean(draft.impression_text)
    identifier = report_id(site.archive, context.study_instance_uid)
    accession = accession_identifiers(context, site)
    body: Body = {
        "resourceType": "DiagnosticReport",
        "id": identifier,
        "meta": {
            "source": f"urn:firstread:archive:{quote(site.archive, safe='')}",
            "security": [AI_ASSERTED, *([INLINE_LABELLED] if conclusion else [])],
        },
        "language": draft.language.value,
        "text": report_narrative(draft, lines),
        "identifier": [{"system": "urn:firstread:report", "value": identifier}, *accession],
        "status": site.draft_status,
        "category": list(_CATEGORY),
        "code": report_code(context, image_set, completeness, site),
        "subject": run.subject,
        "issued": run.issued,
        "performer": [run.organization],
        "result": list(results),
        "imagingStudy": [run.imaging_study],
        **_conclusion(conclusion),
        "presentedForm": [_presented(draft, page(draft, lines, _heading(context)), run.issued)],
    }
    if accession:
        body["basedOn"] = [{"type": "ServiceRequest", "identifier": accession[0]}]
    return body | (run.effective or {"_effectiveDateTime": unknown_date_time()})


def _conclusion(text: str) -> Body:
    if not text:
        return {"_conclusion": absent("not-performed")}
    label = {"extension": [{"url": INLINE_LABEL, "valueCoding": AI_ASSERTED}]}
    return {"conclusion": text, "_conclusion": label}


def _heading(context: StudyContext) -> Heading:
    born = context.patient.birth_date
    return Heading(
        patient=shown_name(context),
        patient_id=context.patient.patient_id,
        birth_date=born.isoformat() if born else "",
        accession=context.accession_number,
        study_date=date_time(context.started)[:10] if context.started else "",
        exam=context.description,
    )


def _presented(draft: DraftReport, html: str, created: str) -> Body:
    """The page as an Attachment; ``hash`` is SHA-1 over the bytes before base64 (R4 Attachment.hash)."""
    raw = html.encode("utf-8")
    encoded = base64.b64encode(raw).decode("ascii")
    if base64.b64decode(encoded, validate=True) != raw:
        raise FailStudy(
            "presented-form", "the report page does not survive base64; this is a fault of the program"
        )
    return {
        "contentType": "text/html",
        "language": draft.language.value,
        "data": encoded,
        "size": len(raw),
        "hash": base64.b64encode(hashlib.sha1(raw, usedforsecurity=False).digest()).decode("ascii"),
        "title": words(draft.language)["title"],
        "creation": created,
    }
