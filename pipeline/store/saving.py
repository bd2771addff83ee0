"""Drafted studies as the sets that ``save_reports`` takes (sql/versions/0017): an array for each column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import FailStudy, FirstreadError, SkipStudy
from pipeline.ledger import ReportOutcome
from pipeline.store.claims import lost_claim
from pipeline.store.codec import as_json
from pipeline.store.values import SavedVersion

MOST_TOGETHER = 16
"""Studies in one transaction."""


@dataclass(frozen=True)
class PreparedReport:
    """One drafted study as JSON."""

    outcome: ReportOutcome
    report: str
    events: tuple[str, ...]
    resources: tuple[tuple[str, str, str], ...]
    """Type, id and body."""


def prepared(outcome: ReportOutcome) -> PreparedReport:
    """Raises FailStudy where it holds what cannot be stored."""
    report = {
        "report_id": outcome.diagnostic_report_id,
        "accession_number": outcome.accession_number,
        "completeness": outcome.completeness,
        "draft": outcome.draft,
        "checks": outcome.checks,
        "left_out": outcome.left_out,
        "received": outcome.received,
        "patient_key": outcome.patient_key,
    }
    return PreparedReport(
        outcome,
        as_json(report),
        tuple(as_json(event) for event in outcome.audit),
        tuple((one.resource_type, one.resource_id, as_json(one.body)) for one in outcome.resources),
    )


def fits(batch: Sequence[PreparedReport], more: PreparedReport) -> bool:
    """Whether one transaction may write ``more`` too: another study, which means the same by what both name."""
    bodies = {(kind, name): body for kind, name, body in more.resources}
    study = more.outcome.claim.study_instance_uid
    return len(batch) < MOST_TOGETHER and all(
        one.outcome.claim.study_instance_uid != study
        and all(bodies.get((kind, name), body) == body for kind, name, body in one.resources)
        for one in batch
    )


def values(batch: Sequence[PreparedReport]) -> Mapping[str, Any]:
    """The parameters of the statement ``save_reports``; places count from 1, as arrays do in SQL."""
    studies = [one.outcome for one in batch]
    events = [(place, event) for place, one in enumerate(batch, 1) for event in one.events]
    resources = list(  # what several bring comes once, by the first of them
        {
            resource: (place, *resource)
            for place, one in reversed([*enumerate(batch, 1)])
            for resource in one.resources
        }.values()
    )
    previews = [
        (place, ordinal, preview)
        for place, outcome in enumerate(studies, 1)
        for ordinal, preview in enumerate(outcome.previews)
    ]
    masks = [(place, mask) for place, outcome in enumerate(studies, 1) for mask in outcome.masks]
    drawn = [(place, ordinal, preview.overlay) for place, ordinal, preview in previews if preview.overlay]
    return {
        "ledger_ids": [one.claim.ledger_id for one in studies],
        "tokens": [one.claim.token for one in studies],
        "reports": [one.report for one in batch],
        "event_places": [place for place, _ in events],
        "events": [event for _, event in events],
        "resource_places": [place for place, *_ in resources],
        "resource_types": [kind for _, kind, _, _ in resources],
        "resource_ids": [name for _, _, name, _ in resources],
        "resources": [body for *_, body in resources],
        "preview_places": [place for place, _, _ in previews],
        "preview_ordinals": [ordinal for _, ordinal, _ in previews],
        "preview_series": [one.ref.series_instance_uid for *_, one in previews],
        "preview_instances": [one.ref.sop_instance_uid for *_, one in previews],
        "preview_frames": [one.frame for *_, one in previews],
        "preview_rows": [one.original_rows for *_, one in previews],
        "preview_columns": [one.original_columns for *_, one in previews],
        "preview_jpegs": [one.jpeg for *_, one in previews],
        "mask_places": [place for place, _ in masks],
        "mask_series": [one.ref.series_instance_uid for _, one in masks],
        "mask_instances": [one.ref.sop_instance_uid for _, one in masks],
        "mask_classes": [one.sop_class_uid for _, one in masks],
        "mask_contents": [one.content for _, one in masks],
        "overlay_places": [place for place, _, _ in drawn],
        "overlay_ordinals": [ordinal for _, ordinal, _ in drawn],
        "overlays": [png for *_, png in drawn],
    }


def answers(
    batch: Sequence[PreparedReport], row: tuple[Any, ...] | None
) -> list[SavedVersion | FirstreadError]:
    """What the row says of each: its version, or LostClaim, FailStudy("report-signed"), SkipStudy("duplicate-study").

    Empty where one of several was not stored, so that none was.
    """
    said, versions = row if row is not None else (["lost"], None)
    return (
        [
            _answer(one.outcome, outcome, version)
            for one, outcome, version in zip(batch, said, versions or [None] * len(said), strict=True)
        ]
        if said
        else []
    )


def _answer(outcome: ReportOutcome, said: str, version: int | None) -> SavedVersion | FirstreadError:
    if said == "signed":
        return FailStudy(
            "report-signed",
            "a person has taken over this report, and its study has changed since: look at both",
        )
    if said == "duplicate":
        return SkipStudy("duplicate-study", "the same study was reported meanwhile from another archive")
    if said != "saved" or version is None:
        return lost_claim()
    return SavedVersion(outcome.claim.ledger_id, outcome.diagnostic_report_id, version)
