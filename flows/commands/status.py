"""``firstread status``: how many studies stand in each state, and why some were skipped or failed."""

import json
import sys

from flows.commands import table as display
from pipeline.settings import Settings
from pipeline.store.opening import open_store

SHOWN_ROWS = 20


def show_status(settings: Settings, *, as_json: bool) -> None:
    """Counts by archive and state, and why studies were skipped or failed; a study is named by its ledger id."""
    with open_store(settings) as store:
        counts = store.status_counts()
        troubled = store.troubled(SHOWN_ROWS)
    if as_json:
        rows = [{"archive": one.archive, "state": str(one.state), "studies": one.studies} for one in counts]
        sys.stdout.write(json.dumps({"counts": rows}) + "\n")
        return
    display.rows_table(
        ("archive", "state", "studies"), [(one.archive, str(one.state), str(one.studies)) for one in counts]
    )
    if troubled:
        display.rows_table(
            ("study", "state", "code", "reason", "tries"),
            [
                (str(one.ledger_id), str(one.state), one.code, one.reason, str(one.attempts))
                for one in troubled
            ],
            title="Skipped and failed, newest first",
        )
