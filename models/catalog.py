"""The catalogue of model families: ``models/catalog.toml`` as typed entries."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from models.families import Task
from pipeline.errors import ConfigurationError, StopRun
from pipeline.report import Language

CATALOG_FILE = Path(__file__).with_name("catalog.toml")
WEIGHTS_FOLDER = Path(__file__).with_name("weights")


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One family.

    ``repositories`` names the published weights per task ("*" for all) and is empty where they ship with us;
    ``revision`` is the commit that is meant. ``weights`` is the folder of shipped weights. ``box_convention``
    says how the family writes regions; they are stored in pixels of the original image whatever it is.
    """

    id: str
    name: str
    state: Literal["runnable", "planned"]
    adapter: str
    version: str
    repositories: Mapping[str, str]
    licence: str
    use_limits: str
    tasks: tuple[Task, ...]
    languages: tuple[Language, ...]
    modalities: tuple[str, ...]
    views: tuple[str, ...]
    images: int
    box_convention: str
    preprocessing: str
    prompts: str
    memory_gib: float
    weights: str = ""
    revision: str = ""
    reason: str = ""

    @property
    def card(self) -> Path | None:
        """The model card beside shipped weights."""
        folder = self.weights_folder
        return folder / "MODEL_CARD.md" if folder else None

    @property
    def weights_folder(self) -> Path | None:
        """Where the shipped weights lie; None for a family whose weights a site brings."""
        return WEIGHTS_FOLDER / self.weights if self.weights else None


def list_models() -> tuple[CatalogEntry, ...]:
    """Every family, as in the file. Raises StopRun when the file is not what this code expects."""
    return _read(CATALOG_FILE)


def show(model_id: str) -> CatalogEntry:
    """The entry of one family. Raises ConfigurationError naming the ones there are."""
    for entry in list_models():
        if entry.id == model_id:
            return entry
    known = ", ".join(entry.id for entry in list_models())
    raise ConfigurationError("unknown-model", f"no model family {model_id!r} (there are: {known})")


@cache
def _read(path: Path) -> tuple[CatalogEntry, ...]:
    try:
        stored = tomllib.loads(path.read_text(encoding="utf-8"))["family"]
        entries = tuple(_entry(values) for values in stored)
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise StopRun("catalog", f"{path.name} cannot be read: {error}") from None
    ids = [entry.id for entry in entries]
    if len(set(ids)) != len(ids):
        raise StopRun("catalog", f"{path.name} names a family twice")
    return entries


def _entry(values: Mapping[str, Any]) -> CatalogEntry:
    known = {field.name for field in fields(CatalogEntry)}
    unknown = set(values) - known
    if unknown:
        raise ValueError(f"unknown keys {', '.join(sorted(unknown))}")
    if values["state"] not in ("runnable", "planned"):
        raise ValueError("state is runnable or planned")
    lists = {name: tuple(values[name]) for name in ("modalities", "views")}
    tasks = tuple(Task(task) for task in values["tasks"])
    languages = tuple(Language(language) for language in values["languages"])
    return CatalogEntry(**{**values, **lists, "tasks": tasks, "languages": languages})
