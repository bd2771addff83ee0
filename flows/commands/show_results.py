"""Commands that read: the ledger's state, the model catalogue, the audit chain; and the schema upgrade."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.commands import table as display
from models.catalog import CatalogEntry, Conclusion, State, list_models
from models.catalog import show as catalogue_entry
from models.families.registry import ADAPTERS
from models.family import Sections
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.store.migrations import upgrade
from pipeline.store.opening import database_url, open_store

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


STATE_TITLES = {
    State.RUNNABLE: "Runnable: the weights ship with Firstread",
    State.BRING_WEIGHTS: "Bring weights: the adapter is here, the site names a folder (or a server)",
    State.SEPARATE_WORKER: "Separate worker: an environment of its own, reached as an OpenAI-compatible endpoint",
    State.NOT_FOR_ARCHIVES: "Not run by this pipeline",
}
MODELS_CAPTION = (
    "GiB: the weights alone in 16, 8 and 4 bits, computed from the parameters. "
    "Drafts hold F Findings and I Impression: F+I in the report; F, own I: the model summarises its Findings; F: "
    "another model does ([model] impression), or the draft says that none was written. Others write no reports. "
    "*: limits of use to accept in the configuration (`firstread models show ID`)."
)


def show_models(*, as_json: bool) -> None:
    """Every family of the catalogue, by state, and why it is in it."""
    entries = list_models()
    if as_json:
        sys.stdout.write(json.dumps([_entry_values(entry) for entry in entries]) + "\n")
        return
    for state, title in STATE_TITLES.items():
        rows = [_model_row(entry) for entry in entries if entry.state is state]
        last = state is State.NOT_FOR_ARCHIVES
        display.rows_table(
            ("id", "tasks", "lang", "GiB 16/8/4", "licence", "why"),
            rows,
            title=title,
            caption=MODELS_CAPTION if last else "",
        )


def _model_row(entry: CatalogEntry) -> tuple[str, ...]:
    memory = entry.memory_gib
    sizes = "/".join(f"{memory[name]:.3g}" for name in ("bf16", "int8", "int4")) if memory else "-"
    licence = entry.licence + (" *" if entry.acknowledge else "")
    why = entry.reason
    if entry.adapter and entry.adapter not in ADAPTERS:
        why = f"this version has no adapter {entry.adapter!r}: cannot be opened; {why}"
    return (entry.id, _tasks(entry), " ".join(entry.languages), sizes, licence, why)


def _tasks(entry: CatalogEntry) -> str:
    """The tasks, what a draft holds, and where its Impression comes from."""
    tasks, concludes = ", ".join(entry.tasks), entry.concludes()
    if concludes is None:
        return tasks
    held = "F (caption)" if Sections.CAPTION in entry.drafts.values() else "F"
    names = {
        Conclusion.REPORT: "F+I",
        Conclusion.OWN_SUMMARY: f"{held}, own I",
        Conclusion.OTHER_OR_UNWRITTEN: held,
    }
    return f"{tasks}. Drafts: {names[concludes]}"


def _entry_values(entry: CatalogEntry) -> dict[str, Any]:
    """The entry with what is computed from it, as JSON can hold it."""
    return {
        **json.loads(json.dumps(asdict(entry))),
        "memory_gib": entry.memory_gib,
        "impression": entry.concludes() or "",
        "adapter_here": entry.adapter in ADAPTERS,
    }


def show_model(model_id: str, *, as_json: bool) -> None:
    """One entry, with its model card where it ships one. Raises ConfigurationError for an unknown id."""
    entry = catalogue_entry(model_id)
    values = _entry_values(entry)
    if as_json:
        sys.stdout.write(json.dumps(values) + "\n")
        return
    display.rows_table(("key", "value"), [(key, _readable(value)) for key, value in values.items()])
    card = entry.card
    if card is not None and card.is_file():
        sys.stdout.write(card.read_text(encoding="utf-8"))


def _readable(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_readable(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(str(one) for one in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if value not in ("", 0) else "not found or none"


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
