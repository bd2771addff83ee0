"""Invented report outcomes for the web's tests, and a reader that keeps them in memory, searched like Postgres."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from typing import Any

import numpy as np
from PIL import Image

from pipeline.ledger import Claim, Completeness, LedgerState, Preview, ReportOutcome, Resource, StoredResource
from pipeline.lookup import (
    EVERY_REPORT,
    LAST_PAGE,
    Criterion,
    DateIs,
    HistorySearch,
    IdIn,
    IsMissing,
    IsNot,
    ListOrder,
    NameIs,
    NameMatch,
    Order,
    PatientIn,
    ReadMask,
    ReportDetail,
    ReportFilter,
    ReportPage,
    ReportRow,
    ReportVersion,
    ResourcePage,
    ResourceSearch,
    SortKey,
    StatusIn,
    StudyIn,
    TargetIn,
    TokenIn,
)
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
from tests.plain_search import (
    NEVER,
    codings,
    compares,
    dated,
    folded,
    has,
    is_missing,
    is_wanted,
    names,
    position,
)

START = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
FINDINGS = (
    "There is a small left pleural effusion. There is a nodule in the right upper zone. "
    "No pneumothorax. The cardiac silhouette is normal in size."
)
IMPRESSION = "Small left pleural effusion. Nodule in the right upper zone."


@dataclass
class MemoryReader:
    """Satisfies ``pipeline.web.reader.Reader``."""

    versions: dict[tuple[str, str], list[StoredResource]] = field(default_factory=dict)
    details: dict[str, ReportDetail] = field(default_factory=dict)
    masks: dict[str, ReadMask] = field(default_factory=dict)
    broken: Exception | None = None

    def save_all(self, outcomes: Sequence[ReportOutcome]) -> None:
        """Keep outcomes, each an hour later for every version that there is."""
        for outcome in outcomes:
            hours = sum(len(versions) for versions in self.versions.values())
            self.save(outcome, START + timedelta(hours=hours))

    def save(self, outcome: ReportOutcome, moment: datetime) -> None:
        """Keep one study's outcome as the store does; an unchanged body makes no new version."""
        for resource in outcome.resources:
            past = self.versions.get((resource.resource_type, resource.resource_id), [])
            if not past or _without_meta(json.loads(past[-1].body)) != resource.body:
                self._put(resource.body, moment)
        report_id = outcome.diagnostic_report_id
        past = self.versions["DiagnosticReport", report_id]
        patient = next(r.body for r in outcome.resources if r.resource_type == "Patient")
        self.details[report_id] = ReportDetail(
            row=_row(outcome, patient, len(past), past[-1].last_updated),
            draft=outcome.draft,
            checks=outcome.checks,
            left_out=outcome.left_out,
            completeness=outcome.completeness,
            previews=outcome.previews,
            versions=tuple(
                ReportVersion(v.version_id, outcome.status, v.last_updated, outcome.draft.provenance.model_id)
                for v in reversed(past)
            ),
        )

    def _put(self, body: Mapping[str, Any], moment: datetime) -> StoredResource:
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

    def _written(self, wanted: HistorySearch) -> list[StoredResource]:
        every = (one for past in self.versions.values() for one in past)
        found = [
            one
            for one in every
            if one.resource_type in wanted.resource_types
            and wanted.resource_id in ("", one.resource_id)
            and (wanted.since is None or one.last_updated >= wanted.since)
        ]
        return sorted(
            found,
            key=lambda one: (one.last_updated, one.resource_type, one.resource_id, one.version_id),
            reverse=True,
        )

    def history(self, wanted: HistorySearch) -> ResourcePage:
        found = self._written(wanted)
        names = [f"{one.resource_type}/{one.resource_id}/{one.version_id}" for one in found]
        start = position(names, wanted.after)
        end = start + wanted.limit
        return ResourcePage(tuple(found[start:end]), names[end - 1] if end < len(found) else "")

    def count_history(self, wanted: HistorySearch) -> int:
        return len(self._written(wanted))

    def _matches(self, search: ResourceSearch) -> list[StoredResource]:
        if self.broken is not None:
            raise self.broken
        current = [past[-1] for (kind, _), past in self.versions.items() if kind == search.resource_type]
        found = [one for one in current if all(self._meets(one, wanted) for wanted in search.criteria)]

        for key in reversed([*search.keys, SortKey(Order.ID, search.keys[-1].ascending)]):
            found.sort(key=partial(_place, key.order), reverse=not key.ascending)
        return found

    def _meets(self, resource: StoredResource, wanted: Criterion) -> bool:
        body = json.loads(resource.body)
        match wanted:
            case IdIn(ids):
                return resource.resource_id in ids
            case PatientIn(patients):
                return body.get("subject", {}).get("reference", "").removeprefix("Patient/") in patients
            case TokenIn("identifier", tokens):
                return any(has(body.get("identifier", ()), token, "value") for token in tokens)
            case TokenIn(parameter, tokens):
                return any(has(codings(body, parameter), token, "code") for token in tokens)
            case NameIs(part, texts, NameMatch.EXACT):
                return any(one in texts for one in names(body, part))
            case NameIs(part, texts, match):
                said = [folded(one) for one in names(body, part)]
                found = str.startswith if match is NameMatch.STARTS else str.__contains__
                return any(found(one, folded(text)) for one in said for text in texts)
            case IsMissing(parameter, missing):
                return is_missing(body, parameter) is missing
            case IsNot(unwanted):
                return not self._meets(resource, unwanted)
            case StudyIn(uids):
                return self._study(body) in uids
            case StatusIn(codes):
                return body.get("status") in codes
            case TargetIn(references):
                return any(
                    one["reference"].split("/_history/")[0] in references for one in body.get("target", ())
                )
            case DateIs():
                span: tuple[datetime, datetime] | None
                if wanted.changed or wanted.issued:
                    at = datetime.fromisoformat(body["issued"]) if "issued" in body else None
                    at = resource.last_updated if wanted.changed else at
                    span = (at, at + timedelta(milliseconds=1)) if at else None
                else:
                    span = dated(body, local=wanted.start.tzinfo is None)
                return span is not None and compares(wanted, *span)

    def _study(self, body: Mapping[str, Any]) -> str:
        reference = body.get("imagingStudy", [{}])[0].get("reference", "").removeprefix("ImagingStudy/")
        study = self.read("ImagingStudy", reference)
        identifiers = json.loads(study.body)["identifier"] if study else []
        return next((i["value"].removeprefix("urn:oid:") for i in identifiers), "")

    def search(self, search: ResourceSearch) -> ResourcePage:
        found = self._matches(search)
        names, at = [r.resource_id for r in found], search.page.removeprefix(LAST_PAGE)
        if search.page.startswith(LAST_PAGE):
            end = names.index(at) if at else len(found)
            start = max(0, end - search.limit)
        else:
            start = position(names, at)
            end = start + search.limit
        page = found[start:end]
        return ResourcePage(
            tuple(page),
            page[-1].resource_id if end < len(found) else "",
            LAST_PAGE + page[0].resource_id if page and start else "",
        )

    def count(self, search: ResourceSearch) -> int:
        return len(self._matches(search))

    def report_rows(self, limit: int, after: str = "", wanted: ReportFilter = EVERY_REPORT) -> ReportPage:
        if self.broken is not None:
            raise self.broken
        kept = (d.row for d in self.details.values() if is_wanted(d.row, wanted))
        first = wanted.order is ListOrder.CRITICAL
        rows = sorted(kept, key=lambda r: (r.critical and first, r.created_at), reverse=True)
        start = position([row.report_id for row in rows], after)
        page = rows[start : start + limit]
        return ReportPage(tuple(page), page[-1].report_id if start + limit < len(rows) else "")

    def report_detail(self, report_id: str, order: ListOrder = ListOrder.NEWEST) -> ReportDetail | None:
        return self.details.get(report_id)

    def mask(self, sop_instance_uid: str) -> ReadMask | None:
        return self.masks.get(sop_instance_uid)


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


def _place(order: Order, resource: StoredResource) -> datetime | str:
    if order is Order.ID:
        return resource.resource_id
    day = dated(json.loads(resource.body)) if order is Order.DATED else (resource.last_updated,)
    return day[0] if day else NEVER


def _without_meta(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in body.items() if key != "meta"}


def _row(outcome: ReportOutcome, patient: Mapping[str, Any], version: int, moment: datetime) -> ReportRow:
    report = next(r.body for r in outcome.resources if r.resource_type == "DiagnosticReport")
    return ReportRow(
        report_id=outcome.diagnostic_report_id,
        patient=patient["id"],
        patient_name=patient["name"][0]["text"],
        patient_id=patient["identifier"][0]["value"],
        accession_number=outcome.accession_number,
        study_instance_uid=outcome.draft.study_instance_uid,
        study_date=date.fromisoformat(report["effectiveDateTime"][:10]),
        status=outcome.status,
        language=outcome.draft.language.value,
        model_id=outcome.draft.provenance.model_id,
        version=version,
        created_at=moment,
        warnings=sum(check.verdict is not Verdict.PASSED for check in outcome.checks),
        gap=len(outcome.completeness.missing),
        impression=report.get("conclusion", ""),
        sex=patient.get("gender", ""),
        birth_date=patient.get("birthDate", ""),
    )


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
