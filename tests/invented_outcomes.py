"""Invented report outcomes, and their way into Postgres."""

import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from pipeline.ledger import Claim, Completeness, LedgerState, Preview, ReportOutcome, Resource
from pipeline.report import (
    CheckOutcome,
    DraftReport,
    Finding,
    Label,
    Language,
    Place,
    Point,
    PriorStudy,
    Provenance,
    Region,
    Side,
    Support,
    TaskAnswer,
    Verdict,
)
from pipeline.store.store import Store
from pipeline.study import FoundStudy, InstanceRef, LeftOut

START = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
FINDINGS = (
    "There is a small left pleural effusion. There is a nodule in the right upper zone. "
    "No pneumothorax. The cardiac silhouette is normal in size."
)
IMPRESSION = "Small left pleural effusion. Nodule in the right upper zone."


def save_as_flows(store: Store, outcomes: Sequence[ReportOutcome]) -> None:
    """Save in Postgres as the flows do: found, claimed, complete, drafted, saved."""
    known = {outcome.draft.study_instance_uid: outcome for outcome in outcomes}
    found = [
        FoundStudy(uid, None, ("DX",), outcome.accession_number, None, outcome.draft.impression_text)
        for uid, outcome in known.items()
    ]
    store.record_found("main", "recipe", found)
    claims = store.claim("recipe", owner="tests", limit=100, lease_seconds=60)
    assert {claim.study_instance_uid for claim in claims} == set(known)
    for claim in claims:
        store.record_complete(claim, known[claim.study_instance_uid].completeness)
    store.advance(claims, LedgerState.DRAFTED)
    for claim in claims:
        store.save(replace(known[claim.study_instance_uid], claim=claim))


def invented_outcome(
    number: int,
    *,
    name: str = "",
    findings: str = FINDINGS,
    impression: str = IMPRESSION,
    claim: Claim | None = None,
) -> ReportOutcome:
    """Study ``number``, a day later each: two findings with regions; even ones have a warning and a gap.

    Patients repeat every third study; every fourth report is preliminary, the others partial.
    """
    uid = study_uid(number)
    patient = f"patient-{number % 3}"
    studied = date(2026, 1, 1) + timedelta(days=number)
    moment = START + timedelta(hours=number)
    status = "preliminary" if number % 4 == 3 else "partial"
    ref = InstanceRef(uid, f"{uid}.1", f"{uid}.1.1")
    bodies = (
        _patient(patient, number % 3, name),
        _study(uid, number, patient),
        _report(number, patient, studied, status, impression),
    )
    checks: tuple[CheckOutcome, ...] = (CheckOutcome("sections", Verdict.PASSED),)
    if number % 2 == 0:
        warning = "nodule: stated, the classifier sees none"
        checks = (*checks, CheckOutcome("classifier", Verdict.WARNED, warning))
    missing = (f"{uid}.1.9",) if number % 2 == 0 else ()
    return ReportOutcome(
        claim=claim or Claim(number, "main", uid, "recipe", "tests", 1, 1, moment),
        draft=_draft(ref, findings, impression, moment),
        checks=checks,
        left_out=(LeftOut(f"{uid}.1.2", "view", "a lateral view; the model reads frontal ones"),),
        completeness=Completeness(3, 3 - len(missing), missing, f"m{number}", f"a{number}"),
        accession_number=f"ACC-{number}",
        diagnostic_report_id=f"report-{number}",
        status=status,
        resources=tuple(Resource(body["resourceType"], body["id"], body) for body in bodies),
        previews=(Preview(ref, 0, film_jpeg(), 2400, 2000),),
        audit=(),
    )


def answered_outcome(number: int, language: Language = Language.ENGLISH) -> ReportOutcome:
    """``invented_outcome`` with supports, an earlier study, and answers of every form."""
    outcome = invented_outcome(number)
    draft = outcome.draft
    (ref,) = draft.images
    effusion, nodule = (finding.region for finding in draft.findings[:2])
    chinese = language is Language.CHINESE
    findings = ("左侧少量胸腔积液。", "右上肺野结节。", "未见气胸。") if chinese else (
        "There is a small left pleural effusion.", "There is a nodule in the right upper zone.", "No pneumothorax."
    )  # fmt: skip
    impression = ("双侧异常：左侧积液及右上肺结节。", "建议复查。") if chinese else (
        "Small left pleural effusion and right nodule.", "Follow-up is advised."
    )  # fmt: skip
    supports = (
        Support("findings", findings[0], ref, effusion),
        Support("findings", findings[1], ref, nodule),
        Support("findings", findings[2], ref),
        Support("impression", impression[0], ref, effusion),
        Support("impression", impression[0], ref, nodule),
        Support("impression", impression[1], source="findings"),
    )
    words = ("有气胸吗？", "没有气胸。", "心脏", "隆突", "无") if chinese else (
        "Is there a pneumothorax?", "No, there is no pneumothorax.", "heart", "carina", "tube"
    )  # fmt: skip
    heart = Region(ref, 0, 760.0, 1050.0, 1420.0, 1720.0)
    answers = (
        TaskAnswer(
            "classify", language, "normal; pneumonia; other", "other",
            labels=(Label("normal", False, 0.08), Label("pneumonia", False, 0.2), Label("other", True, 0.72)),
        ),
        TaskAnswer("vqa", language, words[0], words[1], truncated=True),
        TaskAnswer("detect", language, words[2], "", places=(Place(words[2], heart, None, 0.88),)),
        TaskAnswer("landmark", language, words[3], "", places=(Place(words[3], None, Point(ref, 0, 1010, 820)),)),
        TaskAnswer("detect", language, words[4], "", places=(Place(words[4]),)),
        TaskAnswer(
            "structured", language, "", "", structured='{"effusion": {"side": "left", "size": "small"}, "nodules": 1}',
            schema_digest="5" * 64, model_id="smollm2",
        ),
    )  # fmt: skip
    told = replace(
        draft,
        language=language,
        findings_text=("" if chinese else " ").join(findings),
        impression_text=("" if chinese else " ").join(impression),
        supports=supports,
        answers=answers,
        prior=PriorStudy("1.2.826.0.1.99", date(2025, 4, 3)),
    )
    return replace(outcome, draft=told)


def study_uid(number: int) -> str:
    """The Study Instance UID of invented study ``number``."""
    return f"1.2.826.0.1.{number}"


def _patient(patient: str, number: int, name: str) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": patient,
        "identifier": [{"system": "urn:site:mrn", "value": f"MRN-{number}"}],
        "name": [{"text": name or f"Invented Person {number}"}],
    }


def _study(uid: str, number: int, patient: str) -> dict[str, Any]:
    return {
        "resourceType": "ImagingStudy",
        "id": f"study-{number}",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
        "status": "available",
        "subject": {"reference": f"Patient/{patient}"},
    }


def _report(number: int, patient: str, studied: date, status: str, impression: str) -> dict[str, Any]:
    return {
        "resourceType": "DiagnosticReport",
        "id": f"report-{number}",
        "identifier": [
            {"system": "urn:site:accession", "value": f"ACC-{number}"},
            {"value": f"bare-{number}"},
        ],
        "status": status,
        "category": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"}]},
            {"coding": [{"system": "http://loinc.org", "code": "LP29684-5"}]},
        ],
        "code": {"coding": [{"system": "http://loinc.org", "code": "18748-4"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": f"{studied.isoformat()}T10:30:00+00:00",
        "imagingStudy": [{"reference": f"ImagingStudy/study-{number}"}],
        "conclusion": impression,
    }


def _draft(ref: InstanceRef, findings: str, impression: str, moment: datetime) -> DraftReport:
    effusion = Region(ref, 0, 1150.0, 1500.0, 1650.0, 1950.0)
    nodule = Region(ref, 0, 420.0, 520.0, 560.0, 660.0)
    return DraftReport(
        study_instance_uid=ref.study_instance_uid,
        language=Language.ENGLISH,
        findings_text=findings,
        impression_text=impression,
        findings=(
            Finding("pleural_effusion", True, Side.LEFT, "lower", "small", "", effusion, 0.93),
            Finding("nodule", True, Side.RIGHT, "upper", "", "", nodule, 0.61),
            Finding("pneumothorax", False),
        ),
        probabilities={"pleural_effusion": 0.93, "nodule": 0.61, "pneumothorax": 0.03},
        images=(ref,),
        provenance=Provenance("firstread-mini", "1", "c0ffee" * 10, "onnxruntime-cpu", moment, moment),
    )


@cache
def film_jpeg(rows: int = 480, columns: int = 400) -> bytes:
    """A grey drawing of a chest film as JPEG."""
    y, x = np.mgrid[0:rows, 0:columns]
    u, v = x / columns - 0.5, y / rows - 0.5
    lungs = sum(np.exp(-(((u - s) / 0.13) ** 4) - (((v + 0.02) / 0.33) ** 4)) for s in (-0.22, 0.22))
    film = 30 + 190 * np.clip(1.1 - 1.6 * (u**2 + 0.4 * v**2), 0, 1) - 130 * lungs
    out = io.BytesIO()
    Image.fromarray(np.clip(film, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()
