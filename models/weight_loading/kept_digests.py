"""Digests of weight files, kept so that an unchanged file is not read again only to be named in the recipe.

A digest is kept beside what the file system says of its file: device, inode, size, and the times of the last change of
content and of anything. The last of these (ctime) is set by the kernel alone, so a file that was exchanged, or written
in place with its old time put back, is read again. A file that changed within the last seconds is always read: a second
write in the same tick would not show. What is kept lies in the program's own folder and never beside the weights.
"""

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from models.weight_loading.verified import file_digest

KEPT_FILE = "weight-digests.json"
SETTLED_SECONDS = 5.0
MOST_BYTES = 16 << 20

Stated = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Believed:
    """A digest that was kept and believed; ``stated`` is what the file system said of its file then."""

    digest: str
    stated: Stated

    def still(self, path: Path) -> bool:
        """Whether the file system says the same of it now."""
        return _stated(path) == self.stated


@dataclass(slots=True)
class _Kept:
    """What one opening knows: digests by path with what the file system said then, and those that it believed."""

    known: dict[str, tuple[Stated, str]] = field(default_factory=dict)
    believed: dict[Path, Believed] = field(default_factory=dict)
    changed: bool = False


_KEPT: ContextVar[_Kept | None] = ContextVar("kept_digests", default=None)


def weight_digest(path: Path) -> str:
    """SHA-256 (hex) of a weight file, the kept one where the file is unchanged. Raises StopRun where it is unreadable.

    Outside :func:`keeping_digests` every file is read.
    """
    kept = _KEPT.get()
    if kept is None:
        return file_digest(path)
    name = str(path.resolve())
    before = _stated(path)
    if before is not None and (found := kept.known.get(name)) and found[0] == before:
        kept.believed[path.resolve()] = Believed(found[1], before)
        return found[1]
    digest = file_digest(path)
    if before is not None and before == _stated(path) and _settled(before):
        kept.known[name], kept.changed = (before, digest), True
    return digest


@contextmanager
def keeping_digests(cache: Path, *, read_all: bool = False) -> Iterator[Mapping[Path, Believed]]:
    """Keep digests under ``cache`` for the length of the block; ``read_all`` reads every file and keeps what it finds.

    Gives those that were believed, as they come. A cache that cannot be read or written keeps nothing: that costs time
    and no correctness.
    """
    file = cache / KEPT_FILE
    kept = _Kept({} if read_all else _read(file))
    token = _KEPT.set(kept)
    try:
        yield kept.believed
    finally:
        _KEPT.reset(token)
        if kept.changed:
            _write(file, {**_read(file), **kept.known})


def forget(cache: Path, path: Path) -> None:
    """Keep the digest of ``path`` (resolved) no more: its file is read when it is next asked for."""
    known = _read(cache / KEPT_FILE)
    if known.pop(str(path), None):
        _write(cache / KEPT_FILE, known)


def _stated(path: Path) -> Stated | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _settled(stated: Stated) -> bool:
    return time.time_ns() - max(stated[3], stated[4]) > SETTLED_SECONDS * 1e9


def _read(file: Path) -> dict[str, tuple[Stated, str]]:
    try:
        if file.stat().st_size > MOST_BYTES:
            return {}
        stored = json.loads(file.read_text(encoding="utf-8"))
        return {name: (_five(stated), str(digest)) for name, (stated, digest) in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _five(stated: object) -> Stated:
    if not isinstance(stated, list) or len(stated) != 5:
        raise ValueError("not what a file system says")
    device, inode, size, changed, touched = map(int, stated)
    return device, inode, size, changed, touched


def _write(file: Path, known: dict[str, tuple[Stated, str]]) -> None:
    here = {name: one for name, one in known.items() if Path(name).is_file()}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=f".{KEPT_FILE}-", dir=file.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(here, stream)
        Path(part).replace(file)
    except OSError:
        return
