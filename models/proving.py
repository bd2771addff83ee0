"""Prove a brought folder: what ``firstread models prove`` shows, one row for each thing that was looked at.

The folder is opened as a run would open it, every file read whatever digests are kept of it; one film of noise goes
through tower and text, and the memory is told. The first row that is not sound is the last: what comes after it would
be of another model.
"""

import hashlib
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.catalog import CatalogEntry
from models.families.checked_weights import CheckedWeights, check_brought
from models.families.guarded import GuardedFamily
from models.families.preflight import FIXED_WORDS
from models.families.registry import check_use_limits, open_family
from models.family import Family, Request, Task
from models.model_choice import ModelChoice
from models.weight_loading.memory import GIB
from models.weight_loading.weight_files import SUMS_FILE
from pipeline.errors import ConfigurationError, FailStudy, FirstreadError
from pipeline.study import ImageSet, InstanceRef, StudyImage

ROW_OF = {
    "tokenizer": "tokens",
    "chat-template": "chat template",
    "generation-config": "decoding",
    "memory": "memory",
    "weights": "tensors",
}
"""Which row an error of opening belongs to; any other belongs to "folder"."""
FILM = (1024, 840)
"""Rows and columns of the film of noise."""
ASKED = (Task.VQA, Task.REPORT, Task.FINDINGS, Task.TEXT_QA, Task.CLASSIFY, Task.SUMMARIZE)
"""What is asked of it: the first of these that the family does."""
TRIAL_TOKENS = 32
"""Of its text at most: to the family's own limit weights that are not sound would write for minutes."""


@dataclass(frozen=True, slots=True)
class Proof:
    """One thing that was looked at, and what was found."""

    what: str
    sound: bool
    found: str


@dataclass(frozen=True, slots=True)
class Proven:
    """The rows of one folder and, where it opened, the digests and settings that go into a recipe."""

    proofs: tuple[Proof, ...]
    parts: Mapping[str, str] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether every row is."""
        return all(one.sound for one in self.proofs)


def prove(entry: CatalogEntry, choice: ModelChoice, cache: Path) -> Proven:
    """Open the weights of ``choice`` and try them; ``cache`` keeps graphs.

    Raises ConfigurationError for a server, for limits of use that are not accepted, and where no folder is named.
    """
    if choice.endpoint is not None:
        message = (
            f"{entry.id} is answered by a server here: `firstread doctor` tries it; prove looks at a folder"
        )
        raise ConfigurationError("prove", message)
    check_use_limits(entry, choice)
    folder = choice.folder(entry)
    rows: list[Proof] = []
    try:
        if not entry.weights:
            pin, runner = choice.sha256, choice.require_runner
            rows += _files(
                check_brought(entry, folder, precision=choice.precision, sha256=pin, runner=runner)
            )
        with open_family(entry, choice, cache, read_all=True) as family:
            rows += [Proof(what, True, found) for what, found in _own(family).items()]
            rows += _tried(family, entry)
            return Proven((*rows, _memory()), dict(family.parts))
    except FirstreadError as error:
        what = ROW_OF.get(error.code, "folder")
        return Proven((*rows, Proof(what, False, f"{error.code}: {error.message}")))


def _files(checked: CheckedWeights) -> list[Proof]:
    rows = []
    for one in checked.folders:
        name = f" of {one.folder.name}" if len(checked.folders) > 1 else ""
        sums = one.folder / SUMS_FILE
        pinned = f"no {SUMS_FILE}: python -m models.pin FOLDER writes it"
        if sums.is_file():
            pinned = f"all as in {SUMS_FILE} ({hashlib.sha256(sums.read_bytes()).hexdigest()})"
        rows.append(Proof(f"files{name}", True, f"{len(one.files)} of {one.size / GIB:.3g} GiB; {pinned}"))
        kinds = ", ".join(sorted({tensor.dtype for tensor in one.tensors.values()}))
        held = (
            f"{len(one.tensors)} of {one.parameters:,} numbers ({kinds})" if one.tensors else "one GGUF file"
        )
        rows.append(Proof(f"tensors{name}", True, f"{held}, each where its header says"))
    need = f"{checked.need.total / GIB:.3g} GiB at {checked.need.precision} with a text of {checked.need.tokens} tokens"
    free = f"{checked.free.bytes / GIB:.3g} GiB free ({checked.free.device})"
    return [*rows, Proof("memory needed", True, f"about {need}; {free}")]


def _own(family: Family) -> Mapping[str, str]:
    """What the family proved of its words when it was opened; nothing where it brings its own."""
    inner: Any = family.family if isinstance(family, GuardedFamily) else family
    opened = {"network": "opened; no tensor missing, left over or of another shape"}
    return opened | dict(getattr(inner, "proved", {}))


def _tried(family: Family, entry: CatalogEntry) -> list[Proof]:
    """One film through the tower, and one question about it."""
    began = time.monotonic()
    (features,) = family.encode([film_of_noise(entry)])
    took = time.monotonic() - began
    arrays = {name: array for name, array in features.arrays.items() if array.dtype.kind == "f"}
    shapes = ", ".join(f"{name} {'x'.join(map(str, array.shape))}" for name, array in arrays.items())
    sound = all(bool(np.isfinite(array).all()) for array in arrays.values())
    rows = []
    if entry.images:
        found = f"a film of {FILM[0]} x {FILM[1]} by {family.runner} in {took:.2f} s: {shapes}"
        rows.append(Proof("image", sound, found if sound else f"{found}, NOT all of them numbers"))
    asked = next((task for task in ASKED if task in family.tasks and not _fixed(task, entry)), None)
    if asked is None:
        return rows
    began = time.monotonic()
    language = next(iter(entry.languages))
    request = Request(
        asked, language, "Is there an effusion?", text="Clear lungs.", labels=("normal", "effusion")
    )
    try:
        (answer,) = family.answer([features], [replace(request, most_tokens=TRIAL_TOKENS)])
    except FailStudy:  # what thinks before it answers has to be heard to its end
        (answer,) = family.answer([features], [request])
    end = "cut off at its limit" if answer.truncated else "ended by itself"
    wrote = f"{asked}: {len(answer.text)} characters in {time.monotonic() - began:.2f} s, {end}"
    return [*rows, Proof("text", True, wrote)]


def _fixed(task: Task, entry: CatalogEntry) -> bool:
    return entry.adapter == FIXED_WORDS and task is not Task.REPORT


def _memory() -> Proof:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Proof("memory", True, f"{peak / GIB:.3g} GiB of main memory at most while it was opened and tried")


def film_of_noise(entry: CatalogEntry) -> ImageSet:
    """A frontal film of structured noise."""
    rows, columns = FILM
    coarse = np.random.default_rng(0).random((rows // 16, columns // 14), dtype=np.float32)
    pixels = np.kron(coarse, np.ones((16, 14), np.float32))
    modality = entry.modalities[0] if entry.modalities else "DX"
    ref = InstanceRef("2.25.1", "2.25.1.1", "2.25.1.1.1")
    image = StudyImage(ref, 0, pixels, rows, columns, None, modality, "CHEST", "PA", "MONOCHROME2")
    return ImageSet(ref.study_instance_uid, (image,))
