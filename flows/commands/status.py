"""``firstread status``: how many studies stand in each state, and why some were skipped or failed."""

import json
import sys

from flows.commands import table as display
from pipeline.ledger import LedgerState
from pipeline.mending import advice
from pipeline.settings import Settings
from pipeline.store.opening import open_store
from pipeline.store.values import StudyRow

SHOWN_ROWS = 20


def show_status(settings: Settings, *, as_json: bool) -> None:
    """Counts by archive and state, and why studies were skipped or failed; a study is named by its ledger id."""
    with open_store(settings) as store:
        counts = store.status_counts()
        troubled = store.troubled(SHOWN_ROWS)
    if as_json:
        rows = [
            {"archive": one.archive, "state": str(one.state), "studies": one.studies, "older": one.older}
            for one in counts
        ]
        sys.stdout.write(json.dumps({"counts": rows}) + "\n")
        return
    older = sum(one.older for one in counts)
    display.rows_table(
        ("archive", "state", "studies"),
        [(one.archive, str(one.state), str(one.studies)) for one in counts if one.studies],
        caption=f"Behind them lie {older} drafts and attempts of former recipes." if older else "",
    )
    if troubled:
        display.rows_table(
            ("study", "state", "code", "reason", "what to do"),
            [(str(one.ledger_id), str(one.state), one.code, one.reason, what_to_do(one)) for one in troubled],
            title="Skipped and failed, newest first",
        )


def what_to_do(row: StudyRow) -> str:
    """What a person can do about a study that was skipped or failed; nothing where it is tried again anyway."""
    if row.state is LedgerState.SKIPPED:
        return ""
    if row.next_attempt_at is not None:
        return f"nothing: try {row.attempts + 1} after {row.next_attempt_at:%H:%M} UTC"
    return advice(row.code)
