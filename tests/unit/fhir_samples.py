"""An invented drafted study for the FHIR tests and benchmark, everything filled in.

``python -m tests.unit.fhir_samples`` writes the golden files anew: look at the difference before it is kept.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.fhir.bundle import build_resources
from pipeline.fhir.site import Site
from pipeline.ledger import Completeness, Resource
from pipeline.report import (
    CheckOutcome,
    DraftReport,
    Extent,
    Finding,
    Label,
    Language,
    MaskRef,
    Place,
    Point,
    PriorStudy,
    Provenance,
    Region,
    Segment,
    Side,
    Support,
    TaskAnswer,
    Verdict,
)
from pipeline.study import Code, DamagedInstance, ImageSet, InstanceRef, LeftOut, StudyImage
from pipeline.study_context import InstanceDescription, PatientIdentity, StudyContext

STUDY = "2.25.100"
FRONTAL = InstanceRef(STUDY, "2.25.101", "2.25.102")
LATERAL = InstanceRef(STUDY, "2.25.101", "2.25.103")
SITE = Site(archive="main", organization="Invented Hospital", identifier_system="urn:firstread:site")
ISSUED = datetime(2026, 3, 1, 9, 30, 0, 250_000, tzinfo=UTC)
STARTED = datetime(2026, 2, 28, 14, 5, 6, tzinfo=timezone(timedelta(hours=1)))
PATIENT = PatientIdentity(
    patient_id="TEST-7",
    issuer="INVENTED",
    name_groups=("Fictitious^Ada^B^Dr^Jr", "虚构^艾达", ""),
    birth_date=date(1971, 3, 14),
    sex="F",
)
CONTEXT = StudyContext(
    study_instance_uid=STUDY,
    patient=PATIENT,
    accession_number="ACC-7",
    study_id="7",
    started=STARTED,
    description="Chest PA and lateral",
    institution="Invented Hospital",
    procedure_codes=(Code("99LOCAL", "XCHEST2", "Chest two views"),),
    indication="Cough",
    instances=(
        InstanceDescription(FRONTAL, "1.2.840.10008.5.1.4.1.1.1.1", "DX", 1, "Frontal", "CHEST", 1, "", "PA"),
        InstanceDescription(LATERAL, "1.2.840.10008.5.1.4.1.1.1.1", "DX", 1, "Lateral", "CHEST", 2, "", "LL"),
    ),
)
IMAGES = ImageSet(
    study_instance_uid=STUDY,
    images=(
        StudyImage(
            ref=FRONTAL,
            frame=0,
            pixels=np.zeros((4, 4), np.float32),
            original_rows=2048,
            original_columns=2000,
            spacing_mm=(0.15, 0.15),
            modality="DX",
            body_part="CHEST",
            view="PA",
            photometric_interpretation="MONOCHROME2",
        ),
    ),
    left_out=(LeftOut(LATERAL.sop_instance_uid, "lateral-view", "lateral view not used by this model"),),
)
CHECKS = (
    CheckOutcome("laterality", Verdict.PASSED),
    CheckOutcome("classifier", Verdict.WARNED, "the classifier sees a nodule that the text does not state"),
)
COMPLETE = Completeness(2, 2, (), "m" * 64, "a" * 64)
SHORT = Completeness(
    3, 2, ("2.25.104",), "m" * 64, "a" * 64, (DamagedInstance("2.25.105", "truncated", "file ends early"),)
)
PROVENANCE = Provenance(
    model_id="firstread-mini",
    model_version="0.1.0",
    recipe="r" * 64,
    runner="onnxruntime-cpu",
    started=ISSUED - timedelta(seconds=3),
    finished=ISSUED - timedelta(seconds=1),
    parts={"weights": "w" * 64, "prompt": "p" * 64, "code": "c" * 40},
)
FINDINGS = (
    Finding(
        "pleural_effusion",
        True,
        Side.LEFT,
        severity="moderate",
        sentence="There is a moderate left pleural effusion.",
        region=Region(FRONTAL, 0, 1203.25, 1400.0, 1700.5, 1900.75),
        confidence=0.9312,
    ),
    Finding(
        "nodule",
        True,
        Side.RIGHT,
        zone="upper",
        severity="small",
        sentence="There is a small nodule in the right upper zone.",
        region=Region(FRONTAL, 0, 400.0, 380.0, 460.0, 444.0),
        confidence=0.61,
    ),
    Finding("cardiomegaly", True, severity="mild", sentence="There is mild cardiomegaly.", confidence=0.8),
    Finding("pneumothorax", False, sentence="No pneumothorax."),
)
DRAFT = DraftReport(
    study_instance_uid=STUDY,
    language=Language.ENGLISH,
    findings_text=(
        "There is a small nodule in the right upper zone. "
        "There is a moderate left pleural effusion. "
        "No pneumothorax. There is mild cardiomegaly."
    ),
    impression_text="Moderate left pleural effusion. Small nodule in the right upper zone. Mild cardiomegaly.",
    findings=FINDINGS,
    probabilities={"nodule": 0.61, "pleural_effusion": 0.93},
    images=(FRONTAL,),
    provenance=PROVENANCE,
)
CHINESE = replace(
    DRAFT,
    language=Language.CHINESE,
    findings_text="左侧胸腔中等量积液。右上肺野小结节。未见气胸。",
    impression_text="左侧胸腔积液。右上肺小结节。",
    findings=tuple(replace(one, sentence="") for one in FINDINGS),
)


EFFUSION, NODULE = FINDINGS[0].region, FINDINGS[1].region
ANSWERS = (
    TaskAnswer(
        "classify",
        Language.ENGLISH,
        "normal; pneumonia",
        "normal",
        labels=(Label("normal", True, 0.81234), Label("pneumonia", False, 0.2)),
    ),
    TaskAnswer(
        "classify",
        Language.ENGLISH,
        "line; tube; clip",
        "line and tube",
        labels=(Label("line", True), Label("tube", True), Label("clip", False)),
    ),
    TaskAnswer("vqa", Language.ENGLISH, "Is there a <tube>?", "Yes & no.", truncated=True),
    TaskAnswer("vqa", Language.CHINESE, "有气胸吗？", "没有。"),
    TaskAnswer("detect", Language.ENGLISH, "nodule", "one", places=(Place("nodule", NODULE, None, 0.7),)),
    TaskAnswer("detect", Language.ENGLISH, "clip", "none", places=(Place("clip"),)),
    TaskAnswer(
        "landmark",
        Language.ENGLISH,
        "carina",
        "",
        places=(Place("carina", None, Point(FRONTAL, 0, 990.126, 700)),),
    ),
    TaskAnswer(
        "grounded_report",
        Language.ENGLISH,
        "",
        "Moderate left effusion.",
        places=(Place("left lung", EFFUSION, text="Moderate left effusion."),),
    ),
    TaskAnswer("summarize", Language.ENGLISH, "", "Effusion and nodule.", model_id="smollm2"),
    TaskAnswer("summarize", Language.ENGLISH, "", "Effusion and nodule.", model_id="smollm2"),
    TaskAnswer("structured", Language.ENGLISH, "", "", structured='{"nodules": 1}', schema_digest="5" * 64),
)
SUPPORTS = (
    Support("findings", "There is a moderate left pleural effusion.", FRONTAL, EFFUSION),
    Support("findings", "No pneumothorax.", FRONTAL),
    Support("impression", "Moderate left pleural effusion.", FRONTAL, EFFUSION),
    Support("impression", "Mild cardiomegaly.", source="findings"),
)
ANSWERED = replace(DRAFT, answers=ANSWERS, supports=SUPPORTS, prior=PriorStudy("2.25.90", date(2025, 11, 2)))


OF_PLANES = replace(
    DRAFT,
    answers=(
        TaskAnswer(
            "detect", Language.ENGLISH, "mass", "one",
            places=(Place("mass", extent=Extent(((FRONTAL, 0), (LATERAL, 2)), 10, 20, 30, 40)),),
        ),
        TaskAnswer(
            "segment", Language.ENGLISH, "liver", "", segments=(Segment(1, "liver", 1500.25, 9),),
            mask_ref=MaskRef(LATERAL, "1.2.840.10008.5.1.4.1.1.66.4", "0" * 64),
        ),
    ),
)  # fmt: skip
"""Answers on planes of a series: a box through several, a segmentation."""


def built(**changes: Any) -> tuple[Resource, ...]:
    """The resources of the sample study; ``changes`` replace arguments of ``build_resources``."""
    arguments: dict[str, Any] = {
        "draft": DRAFT,
        "context": CONTEXT,
        "image_set": IMAGES,
        "checks": CHECKS,
        "completeness": COMPLETE,
        "site": SITE,
        "issued": ISSUED,
    }
    return build_resources(**(arguments | changes))


def body(resources: tuple[Resource, ...], resource_type: str, position: int = 0) -> Mapping[str, Any]:
    """The body of the ``position``-th resource of a type."""
    return [one.body for one in resources if one.resource_type == resource_type][position]


GOLDEN = Path(__file__).with_name("golden")
GOLDEN_STUDIES: Mapping[str, Mapping[str, Any]] = {
    "report-en.json": {},
    "report-zh-short.json": {"draft": CHINESE, "completeness": SHORT},
    "report-answers.json": {"draft": ANSWERED},
}


def golden_text(name: str) -> str:
    """What a golden file must hold: the resources of one sample study, readable."""
    bodies = [one.body for one in built(**GOLDEN_STUDIES[name])]
    return json.dumps(bodies, ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    for golden_name in GOLDEN_STUDIES:
        (GOLDEN / golden_name).write_text(golden_text(golden_name), encoding="utf-8")
