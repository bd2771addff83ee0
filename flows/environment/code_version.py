"""The part of the recipe that is our own code: a digest over every source that a draft passes through.

The list is derived from the imports, never kept by hand: from ``ROOTS`` along every import of our own, the adapters
that are named by text ("module:function") included, and not into what is ``APART``. The data files beside a source
(tables, prompts, word lists) count with it.
"""

import hashlib
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOTS = ("flows.path", "models.drafter")
"""What happens to one study, and the door to the models."""
APART = (
    "flows.environment",  # what is held open: where, not what
    "flows.fetching",  # where the bytes come from; the manifest holds what they are
    "flows.received",
    "pipeline.archive",
    "pipeline.store",
    "pipeline.settings",  # a value that shapes a draft is a part of the recipe itself
    "pipeline.logs",
    "models.simulation",  # for one start in 8 bits; the digest of what it made is a part of the recipe
    "models.training",
    "models.evaluation",
)
DATA = (".toml", ".json", ".gz", ".npz", ".txt")
_ROOT = Path(__file__).resolve().parents[2]
_IMPORT = re.compile(
    r"^[ \t]*from[ \t]+((?:flows|models|pipeline)[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)"
    r"|^[ \t]*import[ \t]+((?:flows|models|pipeline)[\w.]*)"
    r"|[\"']((?:flows|models|pipeline)(?:\.\w+)+):\w+[\"']",
    re.MULTILINE,
)


@cache
def code_version() -> str:
    """SHA-256 (hex) over path and content of every source and data file that shapes a draft, in path order."""
    return digest_of(_ROOT)


@cache
def program_digest() -> str:
    """SHA-256 (hex) over every source of our own, also of what no draft passes through."""
    rooms = (_ROOT / room for room in ("flows", "models", "pipeline", "sql"))
    sources = (path for room in rooms for path in sorted(room.rglob("*")) if path.suffix in (".py", ".sql"))
    return _digest(_ROOT, sources)


def digest_of(root: Path) -> str:
    """As ``code_version``, of the tree at ``root``."""
    return _digest(root, shaping_files(root))


def _digest(root: Path, paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def shaping_files(root: Path) -> list[Path]:
    """The sources that ``ROOTS`` reach, and the data files in their folders, sorted."""
    waiting, sources = list(ROOTS), dict[str, Path]()
    while waiting:
        name = waiting.pop()
        path = _source(root, name)
        if path is None or name in sources or _apart(name):
            continue
        sources[name] = path
        waiting.extend(_imports(path.read_text(encoding="utf-8")))
        waiting.extend(_packages(name))
    folders = {path.parent for path in sources.values()}
    data = {one for folder in folders for one in folder.iterdir() if one.suffix in DATA and one.is_file()}
    return sorted({*sources.values(), *data})


def _imports(text: str) -> list[str]:
    """Every module that a source may mean; a name that is no module is sorted out by its absence."""
    found: list[str] = []
    for module, names, plain, named in _IMPORT.findall(text):
        if module:
            found += [
                module,
                *(f"{module}.{one}" for one in re.findall(r"\w+", re.sub(r"#[^\n]*", "", names))),
            ]
        else:
            found.append(plain or named)
    return found


def _packages(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _source(root: Path, name: str) -> Path | None:
    place = root.joinpath(*name.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None


def _apart(name: str) -> bool:
    return name.startswith(APART) and any(name == one or name.startswith(f"{one}.") for one in APART)
