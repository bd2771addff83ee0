"""The code part of the recipe: nothing that a draft passes through is forgotten, nothing else is counted."""

import shutil
from pathlib import Path

import grimp
import pytest

from flows.environment.code_version import APART, ROOTS, digest_of, shaping_files
from models.families.registry import ADAPTERS

ROOT = Path(__file__).resolve().parents[2]


def _apart(name: str) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in APART)


def _path(name: str) -> Path:
    module = ROOT.joinpath(*name.split("."))
    return module / "__init__.py" if module.is_dir() else module.with_suffix(".py")


def test_every_module_that_a_draft_passes_through_is_counted() -> None:
    """The import graph is read by import-linter's own library, which knows nothing of ours."""
    graph = grimp.build_graph("flows", "models", "pipeline", cache_dir=None)
    waiting = [*ROOTS, *(place.partition(":")[0] for place in ADAPTERS.values())]
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in reached and not _apart(name):
            reached.add(name)
            waiting.extend(graph.find_modules_directly_imported_by(name))
    assert {_path(name) for name in reached} <= set(shaping_files(ROOT))
    assert len(reached) > 100


def test_what_is_apart_exists() -> None:
    assert [name for name in APART if not _path(name).is_file()] == []


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for room in ("flows", "models", "pipeline"):
        shutil.copytree(ROOT / room, root / room, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    return root


@pytest.mark.parametrize(
    "source",
    [
        "models/vocabulary/chinese.py",
        "models/vocabulary/english.py",
        "models/vocabulary/task_words.py",
        "models/families/mini/prompts.py",
        "models/families/native/medrega.py",
        "models/prompts/firstread-mini.toml",
        "flows/given.py",
        "flows/priors.py",
        "pipeline/identifier_removal.py",
        "pipeline/reference_leakage.py",
        "pipeline/images/wording.toml",
        "pipeline/checks/terms.py",
        "pipeline/fhir/findings.toml",
    ],
)
def test_a_change_of_what_shapes_a_draft_changes_the_digest(copy: Path, source: str) -> None:
    before, path = digest_of(copy), copy / source
    text = path.read_bytes()
    path.write_bytes(text + b"\n# changed\n")
    changed = digest_of(copy)
    path.write_bytes(text)
    assert changed != before
    assert digest_of(copy) == before


@pytest.mark.parametrize(
    "source",
    [
        "models/evaluation/plots.py",
        "models/training/train.py",
        "models/simulation/film.py",
        "flows/commands/table.py",
        "flows/cli.py",
        "pipeline/web/app.py",
        "pipeline/archive/dicomweb/http.py",
        "pipeline/store/claims.py",
    ],
)
def test_a_change_of_anything_else_does_not(copy: Path, source: str) -> None:
    before, path = digest_of(copy), copy / source
    text = path.read_bytes()
    path.write_bytes(text + b"\n# changed\n")
    changed = digest_of(copy)
    path.write_bytes(text)
    assert changed == before
