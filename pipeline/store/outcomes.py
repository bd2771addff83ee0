"""Writing what a study's work came to: one transaction per study, with everything it brings or nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

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


def save(connection: Connection, outcome: ReportOutcome, values: Values) -> SavedVersion:
    """Store one drafted study.

    Raises LostClaim, FailStudy("report-signed"), SkipStudy("duplicate-study"), psycopg errors.
    """
    beside = mask_values(outcome)
    if beside is None:
        row = connection.execute(statement("ledger", "save_report"), values).fetchone()
    else:
        with connection.transaction():
            row = connection.execute(statement("ledger", "save_report"), values).fetchone()
            if row is not None and row[0] == "saved":
                connection.execute(statement("masks", "save_masks"), {**beside, "version": row[1]})
    answer, version = row if row is not None else ("lost", None)
    if answer == "signed":
        raise FailStudy(
            "report-signed", "a person has taken over this report; the machine does not overwrite it"
        )
    if answer == "duplicate":
        raise SkipStudy("duplicate-study", "the same study was reported meanwhile from another archive")
    if answer != "saved":
        raise lost_claim()
    return SavedVersion(outcome.claim.ledger_id, outcome.diagnostic_report_id, version)


def settle(connection: Connection, outcome: SettledOutcome, values: Values) -> None:
    """Lay one study to rest. Raises LostClaim, psycopg errors."""
    row = connection.execute(statement("ledger", "settle_study"), values).fetchone()
    if row is None or row[0] != "saved":
        raise lost_claim()


def each(
    connection: Connection,
    pairs: Sequence[tuple[Outcome, Values | FirstreadError]],
    write: Callable[[Connection, Outcome, Values], Given],
) -> list[Given | FirstreadError]:
    """``write`` every outcome in its own transaction; returns its result or its error, in order.

    Commits wait for the disk together: each is made without waiting, and one last commit that does wait makes all
    of them durable before this returns (PostgreSQL manual, Asynchronous Commit). Errors of the database itself,
    not of one study, are raised as they came.
    """
    if len(pairs) == 1:
        return [_one(connection, *pairs[0], write)]
    connection.execute("SET synchronous_commit TO off")
    try:
        results = [_one(connection, outcome, values, write) for outcome, values in pairs]
    finally:
        if not connection.closed:
            connection.execute("SET synchronous_commit TO on")
    connection.execute(statement("ledger", "flush_commits"))
    return results


def report_values(outcome: ReportOutcome) -> Values | FirstreadError:
    """The parameters of ``save_report``, or the FailStudy that says why they cannot be stored."""
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
    try:
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
        }
    except FailStudy as error:
        return error


def mask_values(outcome: ReportOutcome) -> Values | None:
    """The parameters of ``save_masks`` but the version, None where the study has no masks."""
    drawn = [(number, one.overlay) for number, one in enumerate(outcome.previews) if one.overlay]
    if not outcome.masks and not drawn:
        return None
    return {
        "report_id": outcome.diagnostic_report_id,
        "series": [one.ref.series_instance_uid for one in outcome.masks],
        "instances": [one.ref.sop_instance_uid for one in outcome.masks],
        "classes": [one.sop_class_uid for one in outcome.masks],
        "contents": [one.content for one in outcome.masks],
        "ordinals": [number for number, _ in drawn],
        "overlays": [png for _, png in drawn],
    }


def settled_values(outcome: SettledOutcome) -> Values | FirstreadError:
    """The parameters of ``rest_study``, or the FailStudy that says why they cannot be stored."""
    try:
        return {
            "ledger_id": outcome.claim.ledger_id,
            "token": outcome.claim.token,
            "state": outcome.state.value,
            "code": outcome.code,
            "message": outcome.message,
            "next_attempt_at": outcome.next_attempt_at,
            "completeness": as_json(
                {
                    **_completeness(outcome.completeness),
                    **asdict(outcome.circumstances),
                    "received": outcome.received,
                }
            ),
            "left_out": as_json(outcome.left_out),
            "audit": as_json(outcome.audit),
        }
    except FailStudy as error:
        return error


def _completeness(known: Completeness | None) -> dict[str, Any]:
    """What is known of the instances; a study that was not retrieved has no manifest, and keeps the one it had."""
    if known is None:
        return {}
    return {**asdict(known), "manifest_digest": known.manifest_digest or None}


def _one(
    connection: Connection,
    outcome: Outcome,
    values: Values | FirstreadError,
    write: Callable[[Connection, Outcome, Values], Given],
) -> Given | FirstreadError:
    if isinstance(values, FirstreadError):
        return values
    try:
        return write(connection, outcome, values)
    except FirstreadError as error:
        return error
    except psycopg.Error as error:
        known = translated(error)
        if isinstance(known, RetryLater | StopRun):
            raise
        return known
