"""Invented studies, claims and outcomes for the tests and the benchmark of the store."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from pipeline.ledger import (
    Claim,
    Completeness,
    LedgerState,
    Preview,
    ReportOutcome,
    Resource,
    SettledOutcome,
    WorkFilter,
)
from pipeline.report import CheckOutcome, DraftReport, Finding, Language, Provenance, Region, Side, Verdict
from pipeline.store.store import Store
from pipeline.study import DamagedInstance, FoundStudy, InstanceRef, LeftOut

ARCHIVE = "main"
RECIPE = "r" * 64
OWNER = "test-owner"
STARTED = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
DEVICE = {"resourceType": "Device", "id": "device-1", "version": [{"value": "0.1.0"}]}


def study_uid(number: int) -> str:
    """A Study Instance UID."""
    return f"2.25.{1000 + number}"


def found(number: int, **changes: Any) -> FoundStudy:
    """One study as an archive announces it."""
    study = FoundStudy(
        study_instance_uid=study_uid(number),
        study_date=date(2026, 2, 1 + number % 28),
        modalities=("DX",),
        accession_number=f"ACC{number}",
        announced_instances=2,
        demographics_digest=f"{number:064x}",
    )
    return replace(study, **changes)


def discover(store: Store, count: int, archive: str = ARCHIVE) -> tuple[int, ...]:
    """Put ``count`` studies into the ledger; gives their ids."""
    return store.record_found(archive, RECIPE, [found(n) for n in range(count)]).ledger_ids_to_do


def claim(
    store: Store, limit: int = 100, *, owner: str = OWNER, lease_seconds: float = 60.0, **which: Any
) -> list[Claim]:
    """Claim from the sample recipe."""
    return store.claim(RECIPE, WorkFilter(**which), owner=owner, limit=limit, lease_seconds=lease_seconds)


def draft(uid: str) -> DraftReport:
    """A draft with everything filled in."""
    image = InstanceRef(uid, f"{uid}.1", f"{uid}.1.1")
    return DraftReport(
        study_instance_uid=uid,
        language=Language.ENGLISH,
        findings_text="There is a moderate left pleural effusion. No pneumothorax.",
        impression_text="Moderate left pleural effusion.",
        findings=(
            Finding(
                "pleural_effusion",
                True,
                Side.LEFT,
                zone="lower",
                severity="moderate",
                sentence="There is a moderate left pleural effusion.",
                region=Region(image, 0, 1203.25, 1400.0, 1700.5, 1900.75),
                confidence=0.93,
            ),
            Finding("pneumothorax", False, sentence="No pneumothorax."),
        ),
        probabilities={"pleural_effusion": 0.93},
        images=(image,),
        provenance=Provenance(
            "firstread-mini", "0.1.0", RECIPE, "onnxruntime-cpu", STARTED, STARTED, {"code": "c" * 40}
        ),
    )


def resources(
    uid: str, *, status: str = "partial", impression: str = "Moderate left pleural effusion."
) -> tuple[Resource, ...]:
    """The resources of one study, plainer than those of ``pipeline.fhir`` and of about the same size."""
    number = uid.rsplit(".", 1)[1]
    subject = {"reference": f"Patient/patient-{number}"}
    bodies: list[dict[str, Any]] = [
        DEVICE,
        {
            "resourceType": "Patient",
            "id": f"patient-{number}",
            "identifier": [{"system": "urn:site:patient", "value": f"P{number}"}],
            "name": [{"text": f"Invented {number}", "family": "Invented"}],
        },
        {
            "resourceType": "ImagingStudy",
            "id": f"study-{number}",
            "status": "available",
            "subject": subject,
            "started": "2026-02-28T14:05:06+01:00",
            "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
        },
        {
            "resourceType": "DiagnosticReport",
            "id": report_id(uid),
            "status": status,
            "subject": subject,
            "effectiveDateTime": "2026-02-28T14:05:06+01:00",
            "identifier": [{"system": "urn:site:report", "value": f"R{number}"}],
            "conclusion": impression,
            "text": {"status": "generated", "div": f"<div>{'A moderate left pleural effusion. ' * 60}</div>"},
        },
    ]
    bodies += [
        {
            "resourceType": "Observation",
            "id": f"observation-{number}-{index}",
            "status": "preliminary" if status == "partial" else status,
            "subject": subject,
            "valueString": "There is a moderate left pleural effusion.",
        }
        for index in range(4)
    ]
    return tuple(Resource(body["resourceType"], body["id"], body) for body in bodies)


def report_id(uid: str) -> str:
    """Id of the sample study's DiagnosticReport."""
    return f"report-{uid.rsplit('.', 1)[1]}"


def audit_events(uid: str, count: int = 3) -> tuple[dict[str, Any], ...]:
    """AuditEvents of one study."""
    return tuple(
        {
            "resourceType": "AuditEvent",
            "action": "C",
            "outcome": "0",
            "n": n,
            "entity": [{"what": {"identifier": {"value": uid}}}],
        }
        for n in range(count)
    )


def completeness(uid: str, manifest: str = "m" * 64, missing: Sequence[str] = ()) -> Completeness:
    """Two instances announced; ``missing`` of them are not held."""
    damaged = (DamagedInstance(f"{uid}.9", "truncated", "ends early"),)
    return Completeness(2, 2 - len(missing), tuple(missing), manifest, "a" * 64, damaged)


def outcome(held: Claim, *, manifest: str = "m" * 64, **changes: Any) -> ReportOutcome:
    """A drafted study ready to be saved."""
    uid = held.study_instance_uid
    drafted = ReportOutcome(
        claim=held,
        draft=draft(uid),
        checks=(
            CheckOutcome("laterality", Verdict.PASSED),
            CheckOutcome("classifier", Verdict.WARNED, "disagrees"),
        ),
        left_out=(LeftOut(f"{uid}.1.2", "lateral-view", "lateral view not used by this model"),),
        completeness=completeness(uid, manifest),
        accession_number="ACC-7",
        diagnostic_report_id=report_id(uid),
        status="partial",
        resources=resources(uid),
        previews=(
            Preview(
                InstanceRef(uid, f"{uid}.1", f"{uid}.1.1"), 0, b"\xff\xd8" + b"\x7f" * 20_000, 2048, 2000
            ),
        ),
        audit=audit_events(uid),
    )
    return replace(drafted, **changes)


def settled(held: Claim, state: LedgerState = LedgerState.SKIPPED, **changes: Any) -> SettledOutcome:
    """A study that comes to rest without a report."""
    uid = held.study_instance_uid
    rested = SettledOutcome(
        held, state, "not-chest", "no chest radiograph", None, completeness(uid), audit_events(uid, 1)
    )
    return replace(rested, **changes)
