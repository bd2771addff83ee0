"""The catalogue of model families: ``models/catalog.toml`` as typed entries."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from models.family import PromptContext, Sections, Task, Traits
from models.prompts import read_wordings
from models.weight_loading.memory import Precision, weights_gib
from pipeline.accepts import USUAL_SIDE, WHOLE_FILM, Accepts, Kind, StudyReader
from pipeline.errors import ConfigurationError, StopRun
from pipeline.report import Language
from pipeline.study import LATERAL_VIEWS

CATALOG_FILE = Path(__file__).with_name("catalog.toml")
WEIGHTS_FOLDER = Path(__file__).with_name("weights")
ENDPOINT_ADAPTER = "openai-endpoint"


class State(StrEnum):
    """How a family can be had."""

    RUNNABLE = "runnable"
    """The weights ship with us."""
    BRING_WEIGHTS = "bring-weights"
    """The adapter is here; a site brings the published (or its own) weights."""
    SEPARATE_WORKER = "separate-worker"
    """It needs an environment of its own and is reached through the endpoint adapter."""
    NOT_FOR_ARCHIVES = "not-for-archives"
    """Not run by this pipeline at all."""


class Conclusion(StrEnum):
    """Where the Impression of a family's drafts comes from, unless a site says otherwise ([model] impression)."""

    REPORT = "report"
    """The report holds it."""
    OWN_SUMMARY = "own-summary"
    """The family summarises its own Findings, where the report holds none."""
    OTHER_OR_UNWRITTEN = "other-model-or-unwritten"
    """Another model that the site names summarises the Findings; else the draft says that none was written."""


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One family.

    ``repositories`` names the published weights per task ("*" for all the others); it is empty where they ship with us
    or were never published. ``revision`` is the commit that is meant, "" where the reference names none.
    ``network_class`` is what loads them. ``use_limits`` says what the licence or its absence demands of a site, and
    ``acknowledge`` that the site has to say in its configuration that it knows. ``language_tasks`` lists the tasks of a
    language that has fewer than ``tasks``. ``box_convention`` says how the family writes regions; they are stored in
    pixels of the original image whatever it is. ``parameters`` is in billions, 0 where not found. ``drafts`` names the
    wordings that a draft can be asked by, the usual one first, each with what its text holds; empty where the family
    drafts no reports. ``wordings`` are further ones of its tasks, asked by ``variant``. ``context`` are the fields of
    ``PromptContext`` that its wordings hold. ``accepts`` is what it reads beside films of the chest. ``whole_film``
    gives its preprocessing a film as stored, where others are given one of ``USUAL_SIDE`` pixels at most. ``reason``
    says why the state is what it is, ``not_found`` names the facts that were looked for in vain.
    """

    id: str
    name: str
    state: State
    adapter: str
    version: str
    licence: str
    use_limits: str
    acknowledge: bool
    tasks: tuple[Task, ...]
    languages: tuple[Language, ...]
    modalities: tuple[str, ...]
    views: tuple[str, ...]
    images: int
    box_convention: str
    preprocessing: str
    prompts: str
    parameters: float
    network_class: str
    repositories: Mapping[str, str] = field(default_factory=dict)
    language_tasks: Mapping[Language, tuple[Task, ...]] = field(default_factory=dict)
    environment: str = ""
    weights: str = ""
    revision: str = ""
    drafts: Mapping[str, Sections] = field(default_factory=dict)
    wordings: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    accepts: tuple[Accepts, ...] = ()
    whole_film: bool = False
    reason: str = ""
    not_found: tuple[str, ...] = ()

    @property
    def reads_laterals(self) -> bool:
        """Whether a lateral film is given to it beside the frontal one; no ``views`` means any."""
        return self.images > 1 and (not self.views or any(view in LATERAL_VIEWS for view in self.views))

    @property
    def reader(self) -> StudyReader:
        """What it reads, for admission."""
        side = WHOLE_FILM if self.whole_film else USUAL_SIDE
        return StudyReader(self.id, self.reads_laterals, self.accepts, side)

    @property
    def card(self) -> Path | None:
        """The model card beside shipped weights."""
        folder = self.weights_folder
        return folder / "MODEL_CARD.md" if folder else None

    @property
    def weights_folder(self) -> Path | None:
        """Where the shipped weights lie; None for a family whose weights a site brings."""
        return WEIGHTS_FOLDER / self.weights if self.weights else None

    @property
    def memory_gib(self) -> dict[str, float]:
        """GiB of the weights alone per precision, computed from ``parameters``; empty where that is not known."""
        if not self.parameters:
            return {}
        return {str(one): round(weights_gib(self.parameters, one), 2) for one in Precision}

    def concludes(self, language: Language = Language.ENGLISH) -> Conclusion | None:
        """Where the Impression of its usual draft comes from; None where it drafts no reports."""
        if not self.drafts:
            return None
        if next(iter(self.drafts.values())) is Sections.BOTH:
            return Conclusion.REPORT
        return (
            Conclusion.OWN_SUMMARY if self.does(Task.SUMMARIZE, language) else Conclusion.OTHER_OR_UNWRITTEN
        )

    @property
    def traits(self) -> Traits:
        """What a loaded family of this entry says of itself."""
        return Traits(
            {language: frozenset(tasks) for language, tasks in self.language_tasks.items()},
            {language: self._variants(language) for language in self.languages},
            frozenset(self.context),
        )

    def _variants(self, language: Language) -> frozenset[str]:
        further = {name for name in self.drafts if name not in set(Task)} | set(self.wordings)
        texts = read_wordings(self.prompts).texts if further else {}
        return frozenset(name for name in further if (name, language) in texts)

    def does(self, task: Task, language: Language) -> bool:
        """Whether the family has this task in this language."""
        return language in self.languages and task in self.language_tasks.get(language, self.tasks)


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
    read = dict(values)
    read["state"] = State(values["state"])
    read["tasks"] = tuple(Task(task) for task in values["tasks"])
    read["languages"] = tuple(Language(language) for language in values["languages"])
    read["language_tasks"] = {
        Language(language): tuple(Task(task) for task in tasks)
        for language, tasks in values.get("language_tasks", {}).items()
    }
    read["drafts"] = {name: Sections(held) for name, held in values.get("drafts", {}).items()}
    if strange := [name for name in read["drafts"] if task_of(name) not in read["tasks"]]:
        raise ValueError(f"{values['id']}: drafts by {', '.join(strange)}, which is none of its tasks")
    if strange := [name for name in values.get("wordings", ()) if task_of(name) not in read["tasks"]]:
        raise ValueError(f"{values['id']}: wordings {', '.join(strange)} are of none of its tasks")
    known = {field.name for field in fields(PromptContext)}
    if strange := [name for name in values.get("context", ()) if name not in known]:
        raise ValueError(f"{values['id']}: there is no context {', '.join(strange)}")
    for name in ("modalities", "views", "not_found", "context", "wordings"):
        read[name] = tuple(values.get(name, ()))
    read["accepts"] = tuple(_accepts(one) for one in values.get("accepts", ()))
    if read["acknowledge"] and not read["use_limits"]:
        raise ValueError(f"{values['id']}: a limit to acknowledge has to be said")
    return CatalogEntry(**read)


def _accepts(values: Mapping[str, Any]) -> Accepts:
    windows = tuple((float(low), float(high)) for low, high in values.get("windows", ()))
    plain = {
        "kind": Kind(values["kind"]),
        "modalities": tuple(values.get("modalities", ())),
        "windows": windows,
        "suv": (float(values["suv"][0]), float(values["suv"][1])) if "suv" in values else None,
        **{name: tuple(values.get(name, ())) for name in ("body_parts", "views", "planes")},
    }
    return Accepts(**{**values, **plain})


def task_of(wording: str) -> Task:
    """The task of a wording: "report-iu" is one of report. ValueError for none."""
    return Task(wording.partition("-")[0])
