"""Ready names for tasks: classes of public data sets, assessment categories, landmarks (``name_sets.toml``)."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from models.family import Task
from pipeline.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class NameSet:
    """``names`` for one task; ``several`` of them may hold at once; ``source`` says whose they are."""

    task: Task
    names: tuple[str, ...]
    source: str
    several: bool = False


def name_set(name: str, task: Task) -> NameSet:
    """The set called ``name``. Raises ConfigurationError for none of that name and for one of another task."""
    sets = name_sets()
    if name not in sets:
        raise ConfigurationError(
            "name-set", f"there is no name_set {name!r} (there are: {', '.join(sorted(sets))})"
        )
    found = sets[name]
    if found.task is not task:
        raise ConfigurationError("name-set", f"name_set {name} is for task {found.task}, not {task}")
    return found


@cache
def name_sets() -> Mapping[str, NameSet]:
    """Every set by name."""
    stored = tomllib.loads(files("models.drafting").joinpath("name_sets.toml").read_text("utf-8"))
    return {
        name: NameSet(Task(one["task"]), tuple(one["names"]), one["source"], one.get("several", False))
        for name, one in stored.items()
    }
