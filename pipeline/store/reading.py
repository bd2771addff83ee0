"""Reading back: FHIR resources by id and version, reports for the review page, rows of the ledger."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from pipeline.ledger import LedgerState, Preview, StoredResource
from pipeline.lookup import (
    EarlierStudy,
    ListOrder,
    ReadMask,
    ReportDetail,
    ReportVersion,
)
from pipeline.report import PriorStudy
from pipeline.store.codec import checks_from, completeness_from, draft_from, left_out_from
from pipeline.store.connections import Connection
from pipeline.store.listing import listed_rows, neighbours
from pipeline.store.statements import statement
from pipeline.store.values import StatusCount, StatusFilter, StatusRow, StoredDraft, StudyRow
from pipeline.study import InstanceRef


def read(connection: Connection, resource_type: str, resource_id: str) -> StoredResource | None:
    """The current version, or None."""
    return _first(connection, "read", {"type": resource_type, "id": resource_id})


def vread(
    connection: Connection, resource_type: str, resource_id: str, version_id: int
) -> StoredResource | None:
    """One version, or None."""
    if not 0 < version_id < 2**31:
        return None
    return _first(connection, "vread", {"type": resource_type, "id": resource_id, "version": version_id})


def report_detail(connection: Connection, report_id: str, order: ListOrder) -> ReportDetail | None:
    """One report at its current version, or None; beside it those of the list in ``order``."""
    wanted = {"report_id": report_id}
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        rows = listed_rows(connection, statement("reading", "report_row"), wanted)
        parts = connection.execute(statement("reading", "report_parts"), wanted).fetchone()
        if not rows or parts is None:
            return None
        version, draft, checks, left_out, completeness = parts
        shown, drafted = rows[0], draft_from(draft)
        previews = _previews(connection, report_id, version, shown.study_instance_uid)
        versions = connection.execute(statement("reading", "report_versions"), wanted).fetchall()
        newer, older = neighbours(connection, shown, order)
        earlier = _earlier(connection, report_id, drafted.prior)
    return ReportDetail(
        row=shown,
        draft=drafted,
        checks=checks_from(checks),
        left_out=left_out_from(left_out),
        completeness=completeness_from(completeness),
        previews=previews,
        versions=tuple(ReportVersion(*one) for one in versions),
        newer=newer,
        older=older,
        earlier=earlier,
    )


def _previews(
    connection: Connection, report_id: str, version: int, study_instance_uid: str
) -> tuple[Preview, ...]:
    wanted = {"report_id": report_id, "version": version}
    rows = connection.execute(statement("reading", "previews"), wanted, binary=True).fetchall()
    return tuple(Preview(InstanceRef(study_instance_uid, *one[:2]), *one[2:]) for one in rows)


def _earlier(connection: Connection, report_id: str, prior: PriorStudy | None) -> EarlierStudy | None:
    """The report of the study that a draft compares with, where there is one in force and it is of the same patient."""
    if prior is None:
        return None
    wanted = {"report_id": report_id, "study_instance_uid": prior.study_instance_uid}
    found = connection.execute(statement("reading", "earlier_report"), wanted).fetchone()
    if found is None:
        return None
    earlier, version, day = found
    return EarlierStudy(earlier, day, _previews(connection, earlier, version, prior.study_instance_uid))


def mask(connection: Connection, sop_instance_uid: str) -> ReadMask | None:
    """A segmentation of ours by its UID, or None; none of a withdrawn report."""
    row = connection.execute(
        statement("masks", "mask"), {"instance": sop_instance_uid}, binary=True
    ).fetchone()
    return ReadMask(*row) if row else None


def masks_of(connection: Connection, report_id: str, version: int) -> tuple[tuple[str, bytes], ...]:
    """The segmentations that a version of a report names, each with its SOP Instance UID."""
    values = {"report_id": report_id, "version": version}
    rows = connection.execute(statement("masks", "masks_of"), values, binary=True).fetchall()
    return tuple((uid, bytes(content)) for uid, content in rows)


def studies(
    connection: Connection, archive: str | None, ledger_ids: Sequence[int] | None, limit: int
) -> tuple[StudyRow, ...]:
    """Ledger rows, newest first."""
    values = {
        "archive": archive,
        "ledger_ids": list(ledger_ids) if ledger_ids is not None else None,
        "limit": limit,
    }
    rows = connection.execute(statement("reading", "studies"), values, prepare=False).fetchall()
    return tuple(StudyRow(*row) for row in rows)


def status_counts(connection: Connection, wanted: StatusFilter) -> tuple[StatusCount, ...]:
    """Studies per archive, state and code by the recipe in force, and the rows of older recipes."""
    rows = connection.execute(statement("reading", "state_counts"), _status_values(wanted), prepare=False)
    return tuple(
        StatusCount(archive, LedgerState(state), studies, older, code)
        for archive, state, code, studies, older in rows
    )


def status_rows(connection: Connection, wanted: StatusFilter) -> tuple[StatusRow, ...]:
    """The rows themselves, last changed first."""
    values = {**_status_values(wanted), "older": wanted.older}
    rows = connection.execute(statement("reading", "status_rows"), values, prepare=False).fetchall()
    return tuple(StatusRow(*row) for row in rows)


def drafts_page(
    connection: Connection,
    archive: str | None,
    since: date | None,
    until: date | None,
    after: str,
    limit: int,
) -> tuple[StoredDraft, ...]:
    """Reports in force in the order of their ids, those behind ``after``."""
    values = {"archive": archive, "since": since, "until": until, "after": after, "limit": limit}
    rows = connection.execute(statement("reading", "drafts_page"), values, prepare=False).fetchall()
    return tuple(StoredDraft(*row) for row in rows)


def _status_values(wanted: StatusFilter) -> dict[str, Any]:
    return {
        "archive": wanted.archive,
        "states": [state.value for state in wanted.states] or None,
        "codes": list(wanted.codes) or None,
        "studies": list(wanted.study_instance_uids) or None,
        "accessions": list(wanted.accession_numbers) or None,
        "since": wanted.since,
        "until": wanted.until,
    }


def _first(connection: Connection, name: str, values: dict[str, Any]) -> StoredResource | None:
    found = _stored(connection, name, values)
    return found[0] if found else None


def _stored(connection: Connection, name: str, values: dict[str, Any]) -> tuple[StoredResource, ...]:
    rows = connection.execute(statement("reading", name), values)
    return tuple(StoredResource(*row) for row in rows)
