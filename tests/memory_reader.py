"""A reader that keeps report outcomes in memory and searches them like Postgres."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

from pipeline.ledger import ReportOutcome, StoredResource
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
from pipeline.report import Verdict
from tests.invented_outcomes import START
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
