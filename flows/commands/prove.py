"""``firstread models prove``: what was checked of a brought folder, as a table or JSON that a site can show."""

import sys
from dataclasses import asdict, replace
from pathlib import Path

from flows.commands import table as display
from flows.commands.json_text import json_text
from flows.environment.site_models import chosen_model
from flows.tally import ALL_WELL, SOME_FAILED
from models.catalog import show
from models.proving import prove
from pipeline.settings import Settings


def prove_model(settings: Settings, model: str, weights: Path | None, *, as_json: bool) -> int:
    """Prove the weights of ``model`` (as ``chosen_model`` takes it); returns 0 where every row is sound, else 1.

    Raises ConfigurationError for a server, limits of use that are not accepted, or no folder.
    """
    choice = chosen_model(settings, model)
    if weights is not None:
        choice = replace(choice, weights=weights)
    entry = show(choice.id)
    proven = prove(entry, choice, settings.data_dir / "engines")
    if as_json:
        told = {
            "model": entry.id,
            "version": entry.version,
            "sound": proven.sound,
            "proofs": [asdict(one) for one in proven.proofs],
            "parts": dict(proven.parts),
        }
        sys.stdout.write(json_text(told) + "\n")
    else:
        rows = [(one.what, "sound" if one.sound else "refused", one.found) for one in proven.proofs]
        display.rows_table(("what", "", "found"), rows, title=f"{entry.id} {entry.version}")
    return ALL_WELL if proven.sound else SOME_FAILED
