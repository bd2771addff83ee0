"""Which draft stands, and which rows at rest work again: ``Store.standing``.

Each change is one transaction with the AuditEvent that says who asked for it.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from pipeline.errors import FailStudy
from pipeline.ledger import Circumstances, LedgerState
from pipeline.store.codec import as_json
from pipeline.store.connections import Connections
from pipeline.store.statements import statement
from pipeline.store.values import Elsewhere, SettledFilter, SettledRow

Event = Mapping[str, Any]


class StandingDrafts:
    """See the module."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def settled(self, wanted: SettledFilter) -> tuple[SettledRow, ...]:
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
        return tuple(_settled_row(*row) for row in self._rows("settled", values, prepare=False))

    def within(
        self,
        archive: str,
        recipe: str,
        since: date | None,
        until: date | None,
        modalities: Sequence[str] = (),
        *,
        after: int = 0,
        limit: int = 500,
    ) -> tuple[tuple[int, str], ...]:
        """Ledger id and UID of reported studies of these dates and modalities (any, where empty), behind ``after``."""
        values = {
            "archive": archive, "recipe": recipe, "since": since, "until": until, "modalities": list(modalities),
            "after": after, "limit": limit,
        }  # fmt: skip
        rows = self._rows("standing_within", values, prepare=False)
        return tuple((ledger_id, study) for ledger_id, study in rows)

    def elsewhere(self, archive: str, study_instance_uid: str, patient_key: str) -> Elsewhere | None:
        """The report of this study and patient that stands from another archive, or None."""
        values = {"archive": archive, "study": study_instance_uid, "patient_key": patient_key}
        rows = self._rows("standing_elsewhere", values)
        return Elsewhere(*rows[0]) if rows else None

    def reopen(
        self, ledger_ids: Sequence[int], events: Sequence[Event], *, again: bool = False
    ) -> tuple[int, ...]:
        """Make rows at rest work again, each with its event; returns those that were at rest.

        ``again`` has them drafted anew though nothing changed.
        """
        values = {"ledger_ids": list(ledger_ids), "events": as_json(events), "again": again}
        return tuple(ledger_id for (ledger_id,) in self._rows("reopen", values))

    def draft_anew(self, report_id: str, event: Event) -> bool:
        """Have the study of a report drafted anew; False where a person has taken it over or it is not at rest."""
        rows = self._rows("draft_anew", {"report_id": report_id, "event": as_json(event)})
        return bool(rows and rows[0][0])

    def reinstate(self, ledger_id: int, event: Event) -> bool:
        """Make the draft of a row at rest the current version of its report again; nothing is drafted.

        Its Observations return, those of the draft that stood are withdrawn. False where a person has taken over.
        """
        rows = self._rows("reinstate", {"ledger_id": ledger_id, "audit": as_json([event])})
        return bool(rows) and rows[0][0] != "signed"

    def retire(self, ledger_id: int, event: Event) -> bool:
        """Withdraw a wrong draft; False where the row has none that stands. Raises FailStudy("report-signed")."""
        rows = self._rows("retire", {"ledger_id": ledger_id, "audit": as_json([event])})
        outcome = rows[0][0] if rows else ""
        if outcome == "signed":
            raise FailStudy(
                "report-signed", "a person has taken over this report; the machine does not withdraw it"
            )
        return bool(outcome == "retired")

    def _rows(
        self, name: str, values: Mapping[str, Any], *, prepare: bool | None = None
    ) -> list[tuple[Any, ...]]:
        text = statement("ledger", name)
        return self._connections.run(lambda c: c.execute(text, values, prepare=prepare).fetchall())


def _settled_row(
    ledger_id: int, archive: str, study: str, state: str, code: str, reason: str, next_attempt_at: datetime | None,
    failed_at: datetime | None, program: str, settings: str, stands: bool, report_id: str, patient: str,
) -> SettledRow:  # fmt: skip
    under = Circumstances(program, settings)
    return SettledRow(
        ledger_id, archive, study, LedgerState(state), code, reason, next_attempt_at, failed_at, under, stands,
        report_id, patient,
    )  # fmt: skip
