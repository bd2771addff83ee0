"""Reading back: FHIR resources by id, version and search, and reports for the review page."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from psycopg.rows import dict_row

from pipeline.ledger import LedgerState, Preview, StoredResource
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
from pipeline.store.codec import checks_from, completeness_from, draft_from, left_out_from
from pipeline.store.connections import Connection
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


def history(connection: Connection, resource_type: str, resource_id: str) -> tuple[StoredResource, ...]:
    """Every version, newest first."""
    return _stored(connection, "history", {"type": resource_type, "id": resource_id})


def search(connection: Connection, wanted: ResourceSearch) -> ResourcePage:
    """One page. Raises ValueError for a token that is not ours."""
    before_time, before_id = _place(wanted.after)
    values = _criteria(wanted) | {
        "before_time": before_time,
        "before_id": before_id,
        "limit": wanted.limit + 1,
    }
    found = _stored(connection, "search", values)
    page = found[: wanted.limit]
    more = len(found) > wanted.limit and page
    return ResourcePage(page, _token(page[-1].last_updated, page[-1].resource_id) if more else "")


def count(connection: Connection, wanted: ResourceSearch) -> int:
    """How many match."""
    row = connection.execute(statement("reading", "count"), _criteria(wanted), prepare=False).fetchone()
    return int(row[0]) if row else 0


def report_rows(connection: Connection, limit: int, after: str) -> ReportPage:
    """One page of reports, last changed first. Raises ValueError for a token that is not ours."""
    before_time, before_id = _place(after)
    values = {"before_time": before_time, "before_id": before_id, "limit": limit + 1}
    rows = _report_rows(connection, "report_rows", values)
    page = rows[:limit]
    more = len(rows) > limit and page
    return ReportPage(page, _token(page[-1].created_at, page[-1].report_id) if more else "")


def report_detail(connection: Connection, report_id: str) -> ReportDetail | None:
    """One report at its current version, or None."""
    wanted = {"report_id": report_id}
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        rows = _report_rows(connection, "report_row", wanted)
        parts = connection.execute(statement("reading", "report_parts"), wanted).fetchone()
        if not rows or parts is None:
            return None
        version, draft, checks, left_out, completeness = parts
        previews = connection.execute(
            statement("reading", "previews"), wanted | {"version": version}, binary=True
        ).fetchall()
        versions = connection.execute(statement("reading", "report_versions"), wanted).fetchall()
    shown = rows[0]
    return ReportDetail(
        row=shown,
        draft=draft_from(draft),
        checks=checks_from(checks),
        left_out=left_out_from(left_out),
        completeness=completeness_from(completeness),
        previews=tuple(
            Preview(InstanceRef(shown.study_instance_uid, *one[:2]), *one[2:]) for one in previews
        ),
        versions=tuple(ReportVersion(*one) for one in versions),
    )


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
    # A search is planned for its own values: most of its conditions are not asked.
    rows = connection.execute(statement("reading", name), values, prepare=False if name == "search" else None)
    return tuple(StoredResource(*row) for row in rows)


def _report_rows(connection: Connection, name: str, values: dict[str, Any]) -> tuple[ReportRow, ...]:
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(statement("reading", name), values, prepare=False)
        return tuple(ReportRow(**row) for row in cursor)


def _criteria(wanted: ResourceSearch) -> dict[str, Any]:
    return {
        "type": wanted.resource_type,
        "ids": list(wanted.ids) or None,
        "patients": [f"Patient/{one}" for one in wanted.patients] or None,
        "identifiers": [_identifier(one) for one in wanted.identifiers] or None,
        "studies": list(wanted.studies) or None,
        "statuses": list(wanted.statuses) or None,
        **_ranges("date", wanted.dates),
        **_ranges("updated", wanted.last_updated),
    }


def _identifier(token: IdentifierToken) -> str:
    """The form under which ``identifier_tokens`` (sql/versions/0001/resources.sql) keeps it."""
    if token.system is None:
        return f"v={token.value}"
    return f"s={token.system}|{token.value}" if token.value else f"y={token.system}"


def _ranges(name: str, ranges: Sequence[InstantRange]) -> dict[str, Any]:
    return {
        f"{name}_since": [one.since for one in ranges],
        f"{name}_until": [one.until for one in ranges],
        f"{name}_outside": [one.outside for one in ranges],
    }


def _token(instant: datetime, resource_id: str) -> str:
    return f"{int(instant.timestamp()):x}.{instant.microsecond:x}.{resource_id}"


def _place(token: str) -> tuple[datetime | None, str | None]:
    if not token:
        return None, None
    seconds, microseconds, resource_id = token.split(".", 2)
    try:
        return datetime.fromtimestamp(int(seconds, 16), UTC).replace(
            microsecond=int(microseconds, 16)
        ), resource_id
    except (OverflowError, OSError):
        raise ValueError("not a page token") from None
