"""Prompts: one TOML file per family, a table per task, a text per language."""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.family import Task
from pipeline.errors import StopRun
from pipeline.report import Language

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Prompts:
    """Texts by task and language, and the SHA-256 of the file they came from."""

    texts: Mapping[tuple[Task, Language], str]
    digest: str


def read_prompts(name: str) -> Prompts:
    """The prompts of the file ``name``. Raises StopRun when it is not what this code expects."""
    try:
        content = (_FOLDER / name).read_bytes()
        stored = tomllib.loads(content.decode("utf-8"))
        texts = {
            (Task(task), Language(language)): str(text)
            for task, by_language in stored.items()
            for language, text in by_language.items()
        }
    except (OSError, ValueError, AttributeError) as error:
        raise StopRun("prompts", f"the prompt file {name} cannot be read: {error}") from None
    return Prompts(texts, hashlib.sha256(content).hexdigest())


@dataclass(frozen=True, slots=True)
class Wordings:
    """Texts by name (a task, or a variant of one such as "vqa-options") and language, and the file's SHA-256."""

    texts: Mapping[tuple[str, Language], str]
    digest: str


def read_wordings(name: str) -> Wordings:
    """As :func:`read_prompts`, for a file that also holds variants. Raises StopRun when it cannot be read."""
    return read_own_wordings(_FOLDER / name)


def read_own_wordings(path: Path) -> Wordings:
    """As :func:`read_wordings`, of a file anywhere. Raises StopRun when it cannot be read."""
    try:
        content = path.read_bytes()
        stored = tomllib.loads(content.decode("utf-8"))
        texts = {
            (key, Language(language)): str(text)
            for key, by_language in stored.items()
            for language, text in by_language.items()
        }
    except (OSError, ValueError, AttributeError) as error:
        raise StopRun("prompts", f"the prompt file {path.name} cannot be read: {error}") from None
    return Wordings(texts, hashlib.sha256(content).hexdigest())
