"""Open the family that a catalogue entry names."""

from pathlib import Path

from models.catalog import CatalogEntry
from models.families import Family
from models.families.mini import MiniFamily
from pipeline.errors import ConfigurationError


def open_family(
    entry: CatalogEntry,
    weights: Path | None,
    cache: Path,
    *,
    require_runner: str = "",
    threads: int = 0,
    revision: str = "",
    accept_use_limits: bool = False,
) -> Family:
    """The loaded family; ``weights`` None takes the ones that ship with us, ``revision`` "" the catalogue's.

    Raises ConfigurationError for a family that cannot run here, StopRun for unsound weights or an unmet
    runner.
    """
    if entry.state != "runnable":
        raise ConfigurationError("planned-model", f"{entry.id} cannot run yet: {entry.reason}")
    folder = weights or entry.weights_folder
    if folder is None:
        raise ConfigurationError(
            "weights-folder", f"{entry.id} needs a folder of weights: its files do not ship with us"
        )
    if entry.adapter == "firstread-mini":
        return MiniFamily(entry, folder, cache, require_runner=require_runner, threads=threads)
    raise ConfigurationError(
        "unknown-adapter", f"{entry.id} names the adapter {entry.adapter!r}, which does not exist"
    )
