"""The recipe of a model that was opened here before, known without opening it again.

Opening a model to learn its recipe costs its whole weight, and most runs have nothing to draft. So what was opened is
remembered in ``data_dir`` under a fingerprint of all that the recipe is made of, as far as it can be told from outside:
the settings, and for every file (our sources, the weights, the exported graphs and engines, the schemas) its size,
inode and times of change. Whatever differs, the model is opened and asked. A model that is opened to draft says its
recipe itself; where that is another one than remembered the run stops and the next one knows better.

A model behind an endpoint is never remembered: its server may have changed.
"""

import hashlib
import json
import logging
import os
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from models.catalog import show
from models.model_choice import ModelChoice
from pipeline import settings as configuration
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings

log = logging.getLogger(__name__)

FILE = "recipes.json"
KEPT = 16
_PACKAGES = Path(__file__).resolve().parents[2]
_OURS = ("flows", "models", "pipeline")
_SHAPING = frozenset({".py", ".toml", ".json", ".gz", ".npz", ".txt"})
_GPU = ("/dev/nvidia0", "/dev/nvidiactl", "/proc/driver/nvidia/version")


class KnownRecipe:
    """What is remembered of one choice of model, tasks and language."""

    def __init__(self, settings: Settings, model: ModelChoice, language: str) -> None:
        self._path = settings.data_dir / FILE
        self._engines = settings.data_dir / "engines"
        self._given = partial(fingerprint, settings, model, language)
        self._begun = self._given()

    @property
    def key(self) -> str:
        """Under what it is remembered, as the files are now; "" where it may not be.

        The first opening of a model writes graphs, so that their state is told anew each time.
        """
        graphs = _digest(_stated(_files((self._engines,), None)))
        return f"{self._begun[:32]}{graphs[:32]}" if self._begun else ""

    def recall(self) -> str:
        """The recipe, or "" where it has to be asked of the model."""
        key = self.key
        return str(_read(self._path).get(key, "")) if key else ""

    def remember(self, recipe: str) -> None:
        """Keep the recipe that the opened model said, unless a file changed while it was opened."""
        key = self.key
        known = _read(self._path)
        if key and known.get(key) != recipe and self._given() == self._begun:
            known.pop(key, None)
            _write(self._path, dict([*known.items(), (key, recipe)][-KEPT:]))

    def forget(self) -> None:
        """Another recipe than remembered was found."""
        key = self.key
        _write(self._path, {one: known for one, known in _read(self._path).items() if one != key})


def fingerprint(settings: Settings, model: ModelChoice, language: str) -> str:
    """SHA-256 (hex) over what a recipe is made of beside the graphs, from outside; "" where that cannot be told."""
    told = [*(one.model for one in settings.tasks), *(one.model for one in settings.routes)]
    named = {name for name in (model.impression, *told) if name}
    choices = [settings.models[name] for name in named if name in settings.models]
    if model.endpoint is not None or any(one.endpoint is not None for one in choices):
        return ""
    try:
        folders: list[Path | None] = [model.folder(show(model.id))]
        folders += [one.weights or show(one.id).weights_folder for one in choices]
    except ConfigurationError:
        return ""  # said by whoever opens it
    parts = (
        repr(model),
        language,
        settings.model_dump_json(include={"model", "models", "tasks", "routes", "policy"}),
        sys.version,
        configuration.environment().get("CUDA_VISIBLE_DEVICES", ""),
        *_stated(_files(folders, None)),
        *_stated(_files((_PACKAGES / name for name in _OURS), _SHAPING)),
        *_stated(one.schema_file for one in settings.tasks if one.schema_file is not None),
        *_stated(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")),
        *_stated(Path(one) for one in _GPU),
    )
    return _digest(parts)


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def _files(folders: Iterable[Path | None], suffixes: frozenset[str] | None) -> Iterator[Path]:
    for folder in folders:
        if folder is None:
            continue
        for parent, names, files in os.walk(folder):
            names[:] = sorted(name for name in names if name != "__pycache__")
            for name in sorted(files):
                if suffixes is None or os.path.splitext(name)[1] in suffixes:
                    yield Path(parent, name)


def _stated(paths: Iterable[Path]) -> Iterator[str]:
    """What the file system says of each path; a file changed in place changes at least its ctime."""
    for path in paths:
        try:
            found = os.stat(path)
        except OSError:
            yield f"{path} absent"
        else:
            yield f"{path} {found.st_size} {found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns}"


def _read(path: Path) -> dict[str, str]:
    with suppress(OSError, ValueError):
        stored = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(stored, dict):
            return {str(key): str(known) for key, known in stored.items()}
    return {}


def _write(path: Path, known: dict[str, str]) -> None:
    """Replace the file as a whole; a data folder that cannot be written keeps nothing, and each run opens the model."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=".recipes-", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(known, stream, indent=1)
        os.replace(name, path)
    except OSError as error:
        log.warning(
            "the recipe is not remembered (%s): the next run opens the model to know it", error.strerror
        )
