"""Which settled studies are taken up again: what the machine may do by itself, and what a person asks for.

Every change is one transaction with its audit event. A study is named by its ledger id here; the event, inside the
patient-data boundary, names the study and who asked.
"""

import logging
from collections.abc import Sequence

from flows.environment.workplace import Workplace
from pipeline.fhir import audit_events
from pipeline.ledger import LedgerState
from pipeline.mending import is_mended, mended_by
from pipeline.store.values import SettledFilter, SettledRow

log = logging.getLogger(__name__)

AT_ONCE = 500


def mended(workplace: Workplace, archive: str, recipe: str | None = None) -> tuple[SettledRow, ...]:
    """Studies that failed for good and that an upgrade, a changed setting or enough time may have mended."""
    now, present = workplace.store.now(), workplace.circumstances
    failed = workplace.store.standing.settled(SettledFilter(archive=archive, recipe=recipe))
    return tuple(
        row
        for row in failed
        if row.next_attempt_at is None and is_mended(row.code, row.failed_at, row.failed_under, now, present)
    )


def reopen_mended(workplace: Workplace, archive: str) -> int:
    """Make them work again; returns how many."""
    rows = mended(workplace, archive, workplace.recipe_of(archive))
    reopened = 0
    for kind in sorted({mended_by(row.code) for row in rows}):
        of_kind = [row for row in rows if mended_by(row.code) is kind]
        reopened += len(reopen(workplace, of_kind, "", f"may be mended by: {kind.value}"))
    if reopened:
        log.info("archive %s: %d failed studies may be mended and are tried again", archive, reopened)
    return reopened


def reopen(
    workplace: Workplace, rows: Sequence[SettledRow], asked_by: str, why: str, *, again: bool = False
) -> tuple[int, ...]:
    """Make rows at rest work again; ``asked_by`` "" is the machine. Gives those that were still at rest."""
    opened: list[int] = []
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        now = workplace.store.now()
        events = [
            audit_events.study_reopened(
                workplace.site(row.archive),
                row.study_instance_uid,
                asked_by,
                f"{why} ({row.code or row.state})",
                now,
                again=again,
            )
            for row in part
        ]
        opened += workplace.store.standing.reopen([row.ledger_id for row in part], events, again=again)
    return tuple(opened)


def reinstate_hidden(workplace: Workplace, archive: str) -> int:
    """A setting was taken back: the draft of the recipe in force becomes the current one again. Returns how many."""
    wanted = SettledFilter((LedgerState.REPORTED,), archive, workplace.recipe_of(archive), hidden=True)
    done = 0
    for row in workplace.store.standing.settled(wanted):
        event = audit_events.report_restored(
            workplace.site(archive), row.study_instance_uid, row.report_id, row.patient, workplace.store.now()
        )
        done += workplace.store.standing.reinstate(row.ledger_id, event)
    if done:
        log.info("archive %s: %d former drafts of this recipe are current again", archive, done)
    return done


def retire(workplace: Workplace, row: SettledRow, asked_by: str, why: str) -> bool:
    """Withdraw the wrong draft of a study; False where none of it stands. Raises FailStudy("report-signed")."""
    event = audit_events.report_retired(
        workplace.site(row.archive),
        row.study_instance_uid,
        row.report_id,
        row.patient,
        asked_by,
        why,
        workplace.store.now(),
    )
    return workplace.store.standing.retire(row.ledger_id, event)
