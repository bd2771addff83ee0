"""``firstread models list`` and ``show``: the catalogue, a line a model; one model with all that is known of it."""

import json
import sys
from dataclasses import asdict
from typing import Any

from flows.commands import table as display
from models.catalog import CatalogEntry, Conclusion, State, list_models
from models.catalog import show as catalogue_entry
from models.families.preflight import known_words
from models.families.registry import ADAPTERS
from models.family import Sections

STATES = {
    State.RUNNABLE: "ships",
    State.BRING_WEIGHTS: "weights",
    State.SEPARATE_WORKER: "server",
    State.NOT_FOR_ARCHIVES: "no",
}
NO_ADAPTER = "none"
CAPTION = """\
ships: the weights come with Firstread. weights: the site brings a folder.
server: reached as an OpenAI-compatible endpoint. no: not run by this pipeline.
none: this version has no adapter for it. GiB: the weights alone in 16 bits.
*: limits of use to accept. Everything about one: firstread models show ID"""
TASKS_WIDTH = 36

UNKNOWN_REVISION = "unknown here: pin what you bring (python -m models.pin FOLDER)"
"""Of weights whose commits could not be read where the catalogue was written."""


def show_models(*, as_json: bool) -> None:
    """Every family of the catalogue, a line each."""
    entries = list_models()
    if as_json:
        sys.stdout.write(json.dumps({"models": [_entry_values(entry) for entry in entries]}) + "\n")
        return
    rows = [_row(entry) for state in STATES for entry in entries if entry.state is state]
    display.rows_table(("id", "tasks", "state", "GiB", "*"), rows, caption=CAPTION)


def _row(entry: CatalogEntry) -> tuple[str, ...]:
    lacks = bool(entry.adapter) and entry.adapter not in ADAPTERS
    size = f"{entry.memory_gib['bf16']:.3g}" if entry.memory_gib else "-"
    return (
        entry.id,
        _short(entry.tasks),
        NO_ADAPTER if lacks else STATES[entry.state],
        size,
        "*" if entry.acknowledge else "",
    )


def _short(tasks: tuple[str, ...]) -> str:
    """As many tasks as fit, and how many more there are."""
    for shown in range(len(tasks), 0, -1):
        text = ", ".join(tasks[:shown]) + (f", +{len(tasks) - shown}" if shown < len(tasks) else "")
        if len(text) <= TASKS_WIDTH:
            return text
    return f"{len(tasks)} tasks" if tasks else "-"


def _drafts(entry: CatalogEntry) -> str:
    """What a draft holds, and where its Impression comes from."""
    concludes = entry.concludes()
    if concludes is None:
        return "writes no reports"
    held = "a caption as Findings" if Sections.CAPTION in entry.drafts.values() else "Findings"
    return {
        Conclusion.REPORT: "Findings and Impression",
        Conclusion.OWN_SUMMARY: f"{held}; it summarises them itself for the Impression",
        Conclusion.OTHER_OR_UNWRITTEN: f"{held}; another model ([model] impression) writes the Impression, or none",
    }[concludes]


def _entry_values(entry: CatalogEntry) -> dict[str, Any]:
    """The entry with what is computed from it, as JSON can hold it."""
    return {
        **json.loads(json.dumps(asdict(entry))),
        "memory_gib": entry.memory_gib,
        "impression": entry.concludes() or "",
        "can_be_asked": known_words(entry),
        "adapter_here": entry.adapter in ADAPTERS,
    }


def show_model(model_id: str, *, as_json: bool) -> None:
    """One entry, with its model card where it ships one. Raises ConfigurationError for an unknown id."""
    entry = catalogue_entry(model_id)
    values = _entry_values(entry)
    if as_json:
        sys.stdout.write(json.dumps(values) + "\n")
        return
    accepts = ["films of the chest"] if entry.images else []
    accepts += [str(one) for one in entry.accepts]
    shown = {**values, "accepts": "\n".join(accepts) or "no images", "drafts_hold": _drafts(entry)}
    if entry.repositories and not entry.revision:
        shown["revision"] = UNKNOWN_REVISION
    asked = shown.pop("can_be_asked")
    display.rows_table(("key", "value"), [(key, _readable(value)) for key, value in shown.items()])
    for language, words in asked.items():
        for kind, known in words.items():
            sys.stdout.write(f"\n{kind}, {language}:\n" + "".join(f"  {one}\n" for one in known))
    card = entry.card
    if card is not None and card.is_file():
        sys.stdout.write("\n" + card.read_text(encoding="utf-8"))


def _readable(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_readable(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(str(one) for one in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if value not in ("", 0) else "not found or none"
