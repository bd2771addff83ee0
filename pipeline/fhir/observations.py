"""Observations: the two sections, and one per finding that the draft states as present.

A region is told by an extension of our own, ``REGION``, since R4 has no ImagingSelection. It holds, each as an
extension: ``sopInstanceUid`` and ``seriesInstanceUid`` (valueId, bare UIDs as in R4 ImagingStudy), ``frame``
(valuePositiveInt, counted from 1 as in DICOM), and ``x0``, ``y0``, ``x1``, ``y1`` (valueDecimal, pixels of the
stored image, x to the right, y down).

The two sections say by ``SUPPORT`` what each sentence rests on: ``sentence`` (valueString), and a ``REGION``, or the
image alone (its two UIDs as in ``REGION``), or ``source`` (valueString), the text that it repeats.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import FailStudy
from pipeline.fhir.codes import finding_code, finding_site, named_kind, section_code
from pipeline.fhir.elements import AI_ASSERTED, AI_CONFIDENCE, SNOMED, Body, clean, coding, concept
from pipeline.fhir.ids import run_id
from pipeline.fhir.narrative import observation_narrative, prior_note, summary_note, words
from pipeline.report import DraftReport, Finding, ImpressionSource, Language, Region, Side, Support
from pipeline.study import InstanceRef

REGION = "urn:firstread:StructureDefinition:region"
SUPPORT = "urn:firstread:StructureDefinition:support"
_IMAGING = concept(coding("http://terminology.hl7.org/CodeSystem/observation-category", "imaging", "Imaging"))
_NOT_PERFORMED = coding(
    "http://terminology.hl7.org/CodeSystem/data-absent-reason", "not-performed", "Not Performed"
)
_PRESENT = coding(SNOMED, "52101004", "Present")
_LATERALITY = coding(SNOMED, "272741003", "Laterality")
_SEVERITY_TEXT = {Language.ENGLISH: "Severity", Language.CHINESE: "程度"}
_PRESENT_TEXT = {Language.ENGLISH: "Present", Language.CHINESE: "存在"}
_SIDES = {
    Side.LEFT: (coding(SNOMED, "7771000", "Left"), {Language.ENGLISH: "left", Language.CHINESE: "左"}),
    Side.RIGHT: (coding(SNOMED, "24028007", "Right"), {Language.ENGLISH: "right", Language.CHINESE: "右"}),
    Side.BILATERAL: (
        coding(SNOMED, "51440002", "Bilateral"),
        {Language.ENGLISH: "bilateral", Language.CHINESE: "双侧"},
    ),
}
_ZONES = {
    "upper": {Language.ENGLISH: "upper zone", Language.CHINESE: "上野"},
    "mid": {Language.ENGLISH: "mid zone", Language.CHINESE: "中野"},
    "lower": {Language.ENGLISH: "lower zone", Language.CHINESE: "下野"},
}


@dataclass(frozen=True, slots=True)
class Run:
    """What the resources of one run share: the parts of their ids, whose they are and whence they came.

    ``effective`` is the element effectiveDateTime, empty for a study without a date.
    """

    archive: str
    manifest_digest: str
    subject: Body
    imaging_study: Body
    device: Body
    organization: Body
    effective: Body
    issued: str


def observations(draft: DraftReport, run: Run) -> tuple[Body, ...]:
    """Findings, impression, then one Observation per finding present, in the order of the draft.

    ``status`` is "preliminary" whatever the report's: ObservationStatus has no "partial", and its
    preliminary means incomplete or unverified (R4 code system observation-status). An impression that nobody wrote is
    an Observation without a value whose ``dataAbsentReason`` is "not-performed".
    """
    found = (_discrete(draft, run, number, one) for number, one in enumerate(_present(draft)))
    return (
        _section(draft, run, "findings", draft.findings_text),
        _section(draft, run, "impression", draft.impression_text),
        *found,
    )


def _present(draft: DraftReport) -> Sequence[Finding]:
    return [finding for finding in draft.findings if finding.present]


def _section(draft: DraftReport, run: Run, section: str, text: str) -> Body:
    shown = clean(text)
    if section == "impression" and draft.impression_source is ImpressionSource.UNWRITTEN:
        said = words(draft.language)["unwritten"]
        body = shared(draft, run, section, section_code(section, draft.language), said)
        return body | {"dataAbsentReason": concept(_NOT_PERFORMED, text=said)}
    if not shown:
        raise FailStudy(
            "draft-empty", f"the draft has no {section}; draft the study again or look at the model"
        )
    body = shared(draft, run, section, section_code(section, draft.language), shown) | {"valueString": shown}
    if rests := [_support(one) for one in draft.supports if one.section == section and clean(one.sentence)]:
        body["extension"] = rests
    remarks = [prior_note(draft.prior, draft.language)] if draft.prior is not None else []
    if section == "impression" and draft.impression_source is ImpressionSource.SUMMARY:
        remarks.append(summary_note(draft))
    if remarks:
        body["note"] = [{"text": text} for text in remarks]
    return body


def _discrete(draft: DraftReport, run: Run, number: int, finding: Finding) -> Body:
    language = draft.language
    code = finding_code(named_kind(finding, language), language)
    body = shared(draft, run, f"{number}:{finding.kind}", code, clean(finding.sentence) or code["text"])
    body["valueCodeableConcept"] = concept(_PRESENT, text=_PRESENT_TEXT[language])
    if site := _body_site(finding, language):
        body["bodySite"] = site
    if components := _components(finding, language):
        body["component"] = components
    if extensions := [
        *confidence_extension(finding.confidence),
        *(region_extension(finding.region) if finding.region else ()),
    ]:
        body["extension"] = extensions
    return body


def shared(draft: DraftReport, run: Run, key: str, code: Body, text: str) -> Body:
    """What every Observation of a run has; ``key`` tells it from the others, ``text`` is its narrative."""
    study, recipe = draft.study_instance_uid, draft.provenance.recipe
    body: Body = {
        "resourceType": "Observation",
        "id": run_id("observation", run.archive, study, recipe, run.manifest_digest, key),
        "meta": {"security": [AI_ASSERTED]},
        "language": draft.language.value,
        "text": observation_narrative(draft.language, text),
        "status": "preliminary",
        "category": [_IMAGING],
        "code": code,
        "subject": run.subject,
        "issued": run.issued,
        "performer": [run.organization],
        "device": run.device,
        "derivedFrom": [run.imaging_study],
    }
    return body | run.effective


def _body_site(finding: Finding, language: Language) -> Body:
    name, snomed = finding_site(finding.kind, language)
    side = _SIDES[finding.side][1][language] if finding.side else ""
    zone = _ZONES.get(finding.zone, {}).get(language, "")
    separator = "" if language is Language.CHINESE else " "
    text = separator.join(part for part in (side, name, zone) if part)
    return concept(*([coding(SNOMED, snomed)] if snomed else []), text=text)


def _components(finding: Finding, language: Language) -> list[Body]:
    components = []
    if finding.side:
        side, names = _SIDES[finding.side]
        components.append(
            {"code": concept(_LATERALITY), "valueCodeableConcept": concept(side, text=names[language])}
        )
    if severity := clean(finding.severity):
        components.append(
            {"code": concept(text=_SEVERITY_TEXT[language]), "valueCodeableConcept": concept(text=severity)}
        )
    return components


def _support(support: Support) -> Body:
    parts: list[Body] = [{"url": "sentence", "valueString": clean(support.sentence)}]
    if support.region is not None:
        parts += region_extension(support.region)
    elif support.image is not None:
        parts += image_extensions(support.image)
    elif source := clean(support.source):
        parts.append({"url": "source", "valueString": source})
    return {"url": SUPPORT, "extension": parts}


def confidence_extension(probability: float | None) -> list[Body]:
    """The AI Transparency extension, where there is a probability that the result is right, 0 to 1."""
    if probability is None:
        return []
    if not 0.0 <= probability <= 1.0:
        raise FailStudy("confidence-range", "a confidence is not between 0 and 1; look at the model")
    return [{"url": AI_CONFIDENCE, "valueDecimal": round(probability, 4)}]


def region_extension(region: Region) -> list[Body]:
    """``REGION`` of a box."""
    box = (region.x0, region.y0, region.x1, region.y1)
    if (
        not all(math.isfinite(edge) for edge in box)
        or region.x0 >= region.x1
        or region.y0 >= region.y1
        or min(box) < 0
    ):
        raise FailStudy("region-range", "a region is not a box inside its image; look at the model")
    edges = zip(("x0", "y0", "x1", "y1"), box, strict=True)
    return [
        {
            "url": REGION,
            "extension": [
                *image_extensions(region.ref, region.frame),
                *({"url": name, "valueDecimal": round(edge, 2)} for name, edge in edges),
            ],
        }
    ]


def image_extensions(ref: InstanceRef, frame: int | None = None) -> list[Body]:
    """Which instance, and which frame of it where that is meant, something lies on."""
    named: list[Body] = [
        {"url": "sopInstanceUid", "valueId": ref.sop_instance_uid},
        {"url": "seriesInstanceUid", "valueId": ref.series_instance_uid},
    ]
    return named if frame is None else [*named, {"url": "frame", "valuePositiveInt": frame + 1}]
