"""A store of the web's tests: resources and reports in memory, searched by the same rules as Postgres."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from PIL import Image

from pipeline.ledger import Completeness, Preview, StoredResource
from pipeline.lookup import (
    IdentifierToken,
    InstantRange,
    ReportDetail,
    ReportPage,
    ReportRow,
    ReportVersion,
    ResourcePage,
    ResourceSearch,
)
from pipeline.report import (
    CheckOutcome,
    DraftReport,
    Finding,
    Language,
    Provenance,
    Region,
    Side,
    Verdict,
)
from pipeline.study import InstanceRef, LeftOut

START = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


@dataclass
class MemoryReader:
    """Satisfies ``pipeline.web.reader.Reader``."""

    versions: dict[tuple[str, str], list[StoredResource]] = field(default_factory=dict)
    details: dict[str, ReportDetail] = field(default_factory=dict)
    broken: Exception | None = None

    def put(self, body: Mapping[str, Any], moment: datetime) -> StoredResource:
        """Store one more version of ``body``."""
        past = self.versions.setdefault((body["resourceType"], body["id"]), [])
        meta = {**body.get("meta", {}), "versionId": str(len(past) + 1), "lastUpdated": moment.isoformat()}
        text = json.dumps({**body, "meta": meta}, ensure_ascii=False)
        stored = StoredResource(body["resourceType"], body["id"], len(past) + 1, moment, text)
        past.append(stored)
        return stored

    def read(self, resource_type: str, resource_id: str) -> StoredResource | None:
        if self.broken is not None:
            raise self.broken
        return next(reversed(self.versions.get((resource_type, resource_id), [])), None)

    def vread(self, resource_type: str, resource_id: str, version_id: int) -> StoredResource | None:
        past = self.versions.get((resource_type, resource_id), [])
        return past[version_id - 1] if 0 < version_id <= len(past) else None

    def history(self, resource_type: str, resource_id: str) -> Sequence[StoredResource]:
        return tuple(reversed(self.versions.get((resource_type, resource_id), [])))

    def _matches(self, search: ResourceSearch) -> list[StoredResource]:
        if self.broken is not None:
            raise self.broken
        current = [past[-1] for (kind, _), past in self.versions.items() if kind == search.resource_type]
        found = [resource for resource in current if self._match(search, resource)]
        return sorted(found, key=lambda resource: (resource.last_updated, resource.resource_id), reverse=True)

    def _match(self, search: ResourceSearch, resource: StoredResource) -> bool:
        body = json.loads(resource.body)
        patient = body.get("subject", {}).get("reference", "").removeprefix("Patient/")
        effective = body.get("effectiveDateTime")
        return (
            (not search.ids or resource.resource_id in search.ids)
            and (not search.patients or patient in search.patients)
            and (not search.statuses or body.get("status") in search.statuses)
            and (not search.studies or self._study(body) in search.studies)
            and (not search.identifiers or any(_has(body, token) for token in search.identifiers))
            and all(_inside(wanted, resource.last_updated) for wanted in search.last_updated)
            and all(
                effective is not None and _inside(wanted, datetime.fromisoformat(effective))
                for wanted in search.dates
            )
        )

    def _study(self, body: Mapping[str, Any]) -> str:
        reference = body.get("imagingStudy", [{}])[0].get("reference", "").removeprefix("ImagingStudy/")
        study = self.read("ImagingStudy", reference)
        identifiers = json.loads(study.body)["identifier"] if study else []
        return next((i["value"].removeprefix("urn:oid:") for i in identifiers), "")

    def search(self, search: ResourceSearch) -> ResourcePage:
        found = self._matches(search)
        start = _position([r.resource_id for r in found], search.after)
        page = found[start : start + search.limit]
        more = start + search.limit < len(found)
        return ResourcePage(tuple(page), page[-1].resource_id if more else "")

    def count(self, search: ResourceSearch) -> int:
        return len(self._matches(search))

    def report_rows(self, limit: int, after: str = "") -> ReportPage:
        if self.broken is not None:
            raise self.broken
        rows = sorted((d.row for d in self.details.values()), key=lambda r: r.created_at, reverse=True)
        start = _position([row.report_id for row in rows], after)
        page = rows[start : start + limit]
        return ReportPage(tuple(page), page[-1].report_id if start + limit < len(rows) else "")

    def report_detail(self, report_id: str) -> ReportDetail | None:
        return self.details.get(report_id)


def _position(ids: list[str], after: str) -> int:
    if not after:
        return 0
    return ids.index(after) + 1


def _has(body: Mapping[str, Any], token: IdentifierToken) -> bool:
    return any(
        (token.system is None or token.system == identifier.get("system", ""))
        and (not token.value or token.value == identifier["value"])
        for identifier in body.get("identifier", ())
    )


def _inside(wanted: InstantRange, moment: datetime) -> bool:
    inside = (wanted.since is None or wanted.since <= moment) and (
        wanted.until is None or moment < wanted.until
    )
    return inside is not wanted.outside


def fill(reader: MemoryReader, count: int) -> None:
    """``count`` invented studies, one an hour and one study date a day, each with its resources and its report."""
    for number in range(count):
        moment = START + timedelta(hours=number)
        studied = date(2026, 1, 1) + timedelta(days=number)
        uid = f"1.2.826.0.1.{number}"
        patient = f"patient-{number % 3}"
        if number < 3:
            reader.put(_patient(patient, number), moment)
        reader.put(_study(uid, number, patient), moment)
        reader.put(_report(number, patient, studied), moment)
        reader.details[f"report-{number}"] = detail(number, patient, studied, moment)


def _patient(patient: str, number: int) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": patient,
        "identifier": [{"system": "urn:site:mrn", "value": f"MRN-{number}"}],
        "name": [{"text": f"Invented Person {number}", "family": f"Person{number}"}],
    }


def _study(uid: str, number: int, patient: str) -> dict[str, Any]:
    return {
        "resourceType": "ImagingStudy",
        "id": f"study-{number}",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
        "status": "available",
        "subject": {"reference": f"Patient/{patient}"},
    }


def _report(number: int, patient: str, studied: date) -> dict[str, Any]:
    return {
        "resourceType": "DiagnosticReport",
        "id": f"report-{number}",
        "identifier": [
            {"system": "urn:site:accession", "value": f"ACC-{number}"},
            {"value": f"bare-{number}"},
        ],
        "status": "preliminary" if number % 4 == 3 else "partial",
        "code": {"coding": [{"system": "http://loinc.org", "code": "18748-4"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": f"{studied.isoformat()}T10:30:00+00:00",
        "imagingStudy": [{"reference": f"ImagingStudy/study-{number}"}],
        "conclusion": "No acute cardiopulmonary abnormality.",
    }


def film_jpeg(rows: int = 480, columns: int = 400) -> bytes:
    """A grey drawing of a chest film as JPEG."""
    y, x = np.mgrid[0:rows, 0:columns]
    u, v = x / columns - 0.5, y / rows - 0.5
    lungs = sum(np.exp(-(((u - s) / 0.13) ** 4) - (((v + 0.02) / 0.33) ** 4)) for s in (-0.22, 0.22))
    film = 30 + 190 * np.clip(1.1 - 1.6 * (u**2 + 0.4 * v**2), 0, 1) - 130 * lungs
    out = io.BytesIO()
    Image.fromarray(np.clip(film, 0, 255).astype(np.uint8), "L").save(out, "JPEG", quality=85)
    return out.getvalue()


def detail(number: int, patient: str, studied: date, moment: datetime) -> ReportDetail:
    """One report as the review page needs it: two findings with regions, one warning, one missing instance."""
    ref = InstanceRef(f"1.2.826.0.1.{number}", f"1.2.826.0.1.{number}.1", f"1.2.826.0.1.{number}.1.1")
    row = ReportRow(
        report_id=f"report-{number}",
        patient=patient,
        patient_name=f"Invented Person {number % 3}",
        patient_id=f"MRN-{number % 3}",
        accession_number=f"ACC-{number}",
        study_instance_uid=ref.study_instance_uid,
        study_date=studied,
        status="partial",
        language="en",
        model_id="firstread-mini",
        version=2 if number == 0 else 1,
        created_at=moment,
        warnings=1 if number % 2 == 0 else 0,
        gap=1 if number % 2 == 0 else 0,
    )
    effusion = Region(ref, 0, 1150.0, 1500.0, 1650.0, 1950.0)
    nodule = Region(ref, 0, 420.0, 520.0, 560.0, 660.0)
    findings = (
        Finding(
            "pleural_effusion", True, Side.LEFT, "lower", "small", "Small left effusion.", effusion, 0.93
        ),
        Finding("nodule", True, Side.RIGHT, "upper", "", "Nodule.", nodule, 0.61),
        Finding("pneumothorax", False),
    )
    draft = DraftReport(
        study_instance_uid=ref.study_instance_uid,
        language=Language.ENGLISH,
        findings_text=(
            "There is a small left pleural effusion. There is a nodule in the right upper zone. "
            "No pneumothorax. The cardiac silhouette is normal in size."
        ),
        impression_text="Small left pleural effusion. Nodule in the right upper zone.",
        findings=findings,
        probabilities={"pleural_effusion": 0.93, "nodule": 0.61, "pneumothorax": 0.03},
        images=(ref,),
        provenance=Provenance(
            "firstread-mini", "1", "c0ffee" * 10 + "beef", "onnxruntime-cpu", moment, moment
        ),
    )
    damaged = f"{ref.study_instance_uid}.1.9"
    return ReportDetail(
        row=row,
        draft=draft,
        checks=(
            CheckOutcome("sections", Verdict.PASSED),
            CheckOutcome("classifier", Verdict.WARNED, "nodule: stated, the classifier sees none"),
        ),
        left_out=(
            LeftOut(f"{ref.study_instance_uid}.1.2", "view", "a lateral view; the model reads frontal ones"),
        ),
        completeness=Completeness(3, 2, (damaged,), "m", "a"),
        previews=(Preview(ref, 0, film_jpeg(), 2400, 2000),),
        versions=(
            ReportVersion(2, "partial", moment, "firstread-mini"),
            ReportVersion(1, "partial", moment - timedelta(hours=2), "firstread-mini"),
        ),
    )
