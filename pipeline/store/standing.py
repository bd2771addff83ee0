"""Which draft stands, and which rows at rest work again: each change with its audit event, in one transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pipeline.errors import FailStudy
from pipeline.ledger import Circumstances, LedgerState
from pipeline.store.codec import as_json
from pipeline.store.connections import Connection
from pipeline.store.statements import statement
from pipeline.store.values import Elsewhere, SettledFilter, SettledRow

Event = Mapping[str, Any]


def settled(connection: Connection, wanted: SettledFilter) -> tuple[SettledRow, ...]:
    """The rows at rest that ``wanted`` names, oldest first."""
    values = {
        "states": [state.value for state in wanted.states],
        "archive": wanted.archive,
        "recipe": wanted.recipe,
        "studies": list(wanted.study_instance_uids) or None,
        "ledger_ids": list(wanted.ledger_ids) if wanted.ledger_ids is not None else None,
        "codes": list(wanted.codes) or None,
        "since": wanted.since,
        "until": wanted.until,
        "hidden": wanted.hidden,
        "standing": wanted.standing,
    }
    rows = connection.execute(statement("ledger", "settled"), values, prepare=False).fetchall()
    return tuple(_settled_row(*row) for row in rows)


def reopen(
    connection: Connection, ledger_ids: Sequence[int], events: Sequence[Event], *, again: bool
) -> tuple[int, ...]:
    """Make rows at rest work again, each with its event; returns those that were at rest."""
    values = {"ledger_ids": list(ledger_ids), "events": as_json(events), "again": again}
    rows = connection.execute(statement("ledger", "reopen"), values).fetchall()
    return tuple(ledger_id for (ledger_id,) in rows)


def draft_anew(connection: Connection, report_id: str, event: Event) -> bool:
    """Have the study of a report drafted anew, with who asked; see ``Store.draft_anew``."""
    values = {"report_id": report_id, "event": as_json(event)}
    row = connection.execute(statement("ledger", "draft_anew"), values).fetchone()
    return row is not None and bool(row[0])


def reinstate(connection: Connection, ledger_id: int, event: Event) -> bool:
    """Make the draft of a row the current version of its report again; False where a person has taken over."""
    values = {"ledger_id": ledger_id, "audit": as_json([event])}
    row = connection.execute(statement("ledger", "reinstate"), values).fetchone()
    return row is not None and row[0] != "signed"


def retire(connection: Connection, ledger_id: int, event: Event) -> bool:
    """Withdraw the report of a row; False where none of its drafts stands. Raises FailStudy("report-signed")."""
    values = {"ledger_id": ledger_id, "audit": as_json([event])}
    row = connection.execute(statement("ledger", "retire"), values).fetchone()
    if row is not None and row[0] == "signed":
        raise FailStudy(
            "report-signed", "a person has taken over this report; the machine does not withdraw it"
        )
    return row is not None and row[0] == "retired"


def elsewhere(connection: Connection, archive: str, study: str, patient_key: str) -> Elsewhere | None:
    """The report of this study and patient that stands from another archive, or None."""
    values = {"archive": archive, "study": study, "patient_key": patient_key}
    row = connection.execute(statement("ledger", "standing_elsewhere"), values).fetchone()
    return Elsewhere(*row) if row is not None else None


def _settled_row(
    ledger_id: int, archive: str, study: str, state: str, code: str, reason: str, next_attempt_at: datetime | None,
    failed_at: datetime | None, program: str, settings: str, stands: bool, report_id: str, patient: str,
) -> SettledRow:  # fmt: skip
    under = Circumstances(program, settings)
    return SettledRow(
        ledger_id, archive, study, LedgerState(state), code, reason, next_attempt_at, failed_at, under, stands,
        report_id, patient,
    )  # fmt: skip
