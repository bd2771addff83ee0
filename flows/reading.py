"""Commands that read: the ledger's state, the model catalogue, the audit chain; and the schema upgrade."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from flows import show as display
from models.catalog import list_models
from models.catalog import show as catalogue_entry
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.store.migrations import upgrade
from pipeline.store.opening import database_url, open_store

SHOWN_ROWS = 20
MODEL_CARD = "MODEL_CARD.md"


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
            ("ledger id", "state", "code", "reason", "attempts", "next attempt"),
            [
                (
                    str(one.ledger_id),
                    str(one.state),
                    one.code,
                    one.reason,
                    str(one.attempts),
                    one.next_attempt_at.isoformat(timespec="minutes")
                    if one.next_attempt_at
                    else "a person looks",
                )
                for one in troubled
            ],
            title="Skipped and failed, newest first",
        )


def show_models(*, as_json: bool) -> None:
    """Every family of the catalogue with its state."""
    entries = list_models()
    if as_json:
        sys.stdout.write(json.dumps([asdict(entry) for entry in entries], default=str) + "\n")
        return
    display.rows_table(
        ("id", "state", "tasks", "languages", "licence"),
        [(one.id, one.state, ", ".join(one.tasks), ", ".join(one.languages), one.licence) for one in entries],
    )


def show_model(model_id: str, *, as_json: bool) -> None:
    """One entry, with its model card where it ships one. Raises ConfigurationError for an unknown id."""
    entry = catalogue_entry(model_id)
    if as_json:
        sys.stdout.write(json.dumps(asdict(entry), default=str) + "\n")
        return
    display.rows_table(("key", "value"), [(key, str(value)) for key, value in asdict(entry).items()])
    card = entry.weights_folder / MODEL_CARD if entry.weights_folder else None
    if card is not None and card.is_file():
        sys.stdout.write(card.read_text(encoding="utf-8"))


def verify_audit(settings: Settings, *, as_json: bool) -> int:
    """Prove the chain; gives the exit code: 0 when it holds, 1 when a row is broken."""
    with open_store(settings) as store:
        verdict = store.audit_verify()
    if as_json:
        sys.stdout.write(json.dumps(asdict(verdict), default=str) + "\n")
    elif verdict.ok:
        sys.stderr.write(f"the audit chain holds: {verdict.rows} rows\n")
    else:
        sys.stderr.write(f"the audit chain is broken at row {verdict.first_broken}: {verdict.reason}\n")
    return 0 if verdict.ok else 1


def export_audit(settings: Settings, out: Path | None) -> None:
    """Write the chain as NDJSON. The events name patients: the file belongs where patient data may be."""
    with open_store(settings) as store:
        if out is None:
            store.audit_export(sys.stdout.buffer)
            return
        try:
            with out.open("xb") as file:
                store.audit_export(file)
        except FileExistsError:
            raise ConfigurationError("audit-export", f"{out} exists; name another file") from None


def upgrade_database(settings: Settings) -> None:
    """Bring the schema to this version."""
    with database_url(settings) as url:
        sys.stderr.write(f"schema is at {upgrade(url)}\n")
