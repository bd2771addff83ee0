"""The part of the recipe that is our own code: a digest over the sources that shape a draft."""

import hashlib
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_SHAPING = (
    "models",
    "pipeline/images",
    "pipeline/checks",
    "pipeline/fhir",
    "pipeline/study.py",
    "pipeline/report.py",
)
_APART = ("models/training", "models/simulation")


def code_version() -> str:
    """SHA-256 (hex) over path and content of every Python source that shapes a draft, in path order."""
    digest = hashlib.sha256()
    for source in sorted(_sources()):
        name = source.relative_to(_ROOT).as_posix()
        if not name.startswith(_APART):
            digest.update(name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()


def _sources() -> list[Path]:
    found: list[Path] = []
    for name in _SHAPING:
        path = _ROOT / name
        found.extend(path.rglob("*.py") if path.is_dir() else [path])
    return found
