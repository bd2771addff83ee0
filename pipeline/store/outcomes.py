"""Writing what a study's work came to: one transaction per study, with everything it brings or nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Generic, NamedTuple, TypeVar

import psycopg

from pipeline.errors import FailStudy, FirstreadError, RetryLater, SkipStudy, StopRun
from pipeline.ledger import Completeness, ReportOutcome, SettledOutcome
from pipeline.store.claims import lost_claim
from pipeline.store.codec import as_json
from pipeline.store.connections import Connection
from pipeline.store.refusals import translated
from pipeline.store.statements import statement
from pipeline.store.values import SavedVersion

Outcome = TypeVar("Outcome", ReportOutcome, SettledOutcome)
Given = TypeVar("Given")
Values = Mapping[str, Any]
Row = tuple[Any, ...]
Cursor = psycopg.Cursor[Row]


class Writing(NamedTuple, Generic[Outcome, Given]):
    """How one kind of outcome is written: by which statement, with which values, and what its row says."""

    statement: Callable[[Outcome], str]
    values: Callable[[Outcome], Values]
    """Raises FailStudy where the outcome cannot be stored."""
    answer: Callable[[Outcome, Row | None], Given]
    """Raises the error that the row tells."""


def each(
    connection: Connection, many: Sequence[Outcome], writing: Writing[Outcome, Given]
) -> list[Given | FirstreadError]:
    """Write every outcome in its own transaction; returns its result or its error, in order.

    They are sent one behind the other without waiting (PostgreSQL manual, libpq Pipeline Mode), each prepared while the
    server writes the one before. Commits wait for the disk together: each is made without waiting, and one last commit
    that does wait makes all of them durable before this returns (Asynchronous Commit). Errors of the database itself,
    not of one study, are raised as they came.
    """
    if len(many) == 1:
        return [_alone(connection, many[0], writing, "on")]
    heard = _sent_together(connection, many, writing)
    for place, outcome in enumerate(many):
        if place not in heard:
            alone = _alone(connection, outcome, writing, "off")
            heard[place] = alone
    connection.execute(statement("ledger", "flush_commits"))
    return [heard[place] for place in range(len(many))]


def _sent_together(
    connection: Connection, many: Sequence[Outcome], writing: Writing[Outcome, Given]
) -> dict[int, Given | FirstreadError]:
    """The result of each outcome by its place; those that the database refused, and those not sent, are not among them.

    They are to be written once more: what was written and not heard of gives the same answer again.
    """
    heard: dict[int, Given | FirstreadError] = {}
    sent: dict[int, Cursor] = {}
    try:
        with connection.pipeline() as pipeline:
            for place, outcome in enumerate(many):
                try:
                    values = {**writing.values(outcome), "commit": "off"}
                except FirstreadError as error:
                    heard[place] = error
                    continue
                sent[place] = connection.cursor()
                sent[place].execute(writing.statement(outcome), values)
                pipeline.sync()  # the end of its transaction
    except psycopg.Error:
        if connection.closed:
            raise
    for place, cursor in sent.items():
        if cursor.pgresult is not None:
            try:
                heard[place] = writing.answer(many[place], cursor.fetchone())
            except FirstreadError as error:
                heard[place] = error
    return heard


def _alone(
    connection: Connection, outcome: Outcome, writing: Writing[Outcome, Given], commit: str
) -> Given | FirstreadError:
    try:
        values = {**writing.values(outcome), "commit": commit}
        return writing.answer(outcome, connection.execute(writing.statement(outcome), values).fetchone())
    except FirstreadError as error:
        return error
    except psycopg.Error as error:
        known = translated(error)
        if isinstance(known, RetryLater | StopRun):
            raise
        return known


def _saved(outcome: ReportOutcome, row: Row | None) -> SavedVersion:
    """Raises LostClaim, FailStudy("report-signed"), SkipStudy("duplicate-study")."""
    answer, version = row[:2] if row is not None else ("lost", None)
    if answer == "signed":
        raise FailStudy(
            "report-signed", "a person has taken over this report; the machine does not overwrite it"
        )
    if answer == "duplicate":
        raise SkipStudy("duplicate-study", "the same study was reported meanwhile from another archive")
    if answer != "saved":
        raise lost_claim()
    return SavedVersion(outcome.claim.ledger_id, outcome.diagnostic_report_id, version)


def _settled(outcome: SettledOutcome, row: Row | None) -> None:
    """Raises LostClaim."""
    if row is None or row[0] != "saved":
        raise lost_claim()


def _report_values(outcome: ReportOutcome) -> Values:
    """The parameters of ``save_report`` and ``save_with_masks``. Raises FailStudy."""
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
    return {
        "ledger_id": outcome.claim.ledger_id,
        "token": outcome.claim.token,
        "report": as_json(report),
        "resources": as_json([resource.body for resource in outcome.resources]),
        "audit": as_json(outcome.audit),
        "series": [preview.ref.series_instance_uid for preview in outcome.previews],
        "instances": [preview.ref.sop_instance_uid for preview in outcome.previews],
        "frames": [preview.frame for preview in outcome.previews],
        "rows": [preview.original_rows for preview in outcome.previews],
        "columns": [preview.original_columns for preview in outcome.previews],
        "jpegs": [preview.jpeg for preview in outcome.previews],
        **(_mask_values(outcome) if _has_masks(outcome) else {}),
    }


def _has_masks(outcome: ReportOutcome) -> bool:
    return bool(outcome.masks) or any(one.overlay for one in outcome.previews)


def _mask_values(outcome: ReportOutcome) -> Values:
    """The further parameters of ``save_with_masks``."""
    drawn = [(number, one.overlay) for number, one in enumerate(outcome.previews) if one.overlay]
    return {
        "report_id": outcome.diagnostic_report_id,
        "mask_series": [one.ref.series_instance_uid for one in outcome.masks],
        "mask_instances": [one.ref.sop_instance_uid for one in outcome.masks],
        "mask_classes": [one.sop_class_uid for one in outcome.masks],
        "mask_contents": [one.content for one in outcome.masks],
        "ordinals": [number for number, _ in drawn],
        "overlays": [png for _, png in drawn],
    }


def _settled_values(outcome: SettledOutcome) -> Values:
    """The parameters of ``settle_study``. Raises FailStudy."""
    known = {
        **_completeness(outcome.completeness),
        **asdict(outcome.circumstances),
        "received": outcome.received,
    }
    return {
        "ledger_id": outcome.claim.ledger_id,
        "token": outcome.claim.token,
        "state": outcome.state.value,
        "code": outcome.code,
        "message": outcome.message,
        "next_attempt_at": outcome.next_attempt_at,
        "completeness": as_json(known),
        "left_out": as_json(outcome.left_out),
        "audit": as_json(outcome.audit),
    }


def _completeness(known: Completeness | None) -> dict[str, Any]:
    """What is known of the instances; a study that was not retrieved has no manifest, and keeps the one it had."""
    if known is None:
        return {}
    return {**asdict(known), "manifest_digest": known.manifest_digest or None}


SAVING = Writing(
    lambda outcome: statement("ledger", "save_with_masks" if _has_masks(outcome) else "save_report"),
    _report_values,
    _saved,
)
SETTLING = Writing(lambda _: statement("ledger", "settle_study"), _settled_values, _settled)
