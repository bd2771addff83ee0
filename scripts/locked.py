"""The rows of the locks, and every environment that they are for.

    python scripts/locked.py COMPILED > requirements.lock

writes what ``uv pip compile --universal`` compiled as a lock: without what no environment of ours takes, without a
marker that holds in each of them, without local versions (torch's ``+cpu``) and without the libraries of CUDA.

    python scripts/locked.py --hashes COMPILED FURTHER > requirements.sha256

writes one line a package, ``name==version`` and the SHA-256 of each of its files, from what ``uv pip compile
--generate-hashes`` compiled; FURTHER has lines of the same form for files that the index does not list.
"""

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

MINORS = range(11, 15)
"""Python 3.11 to 3.14, as ``requires-python`` of pyproject.toml."""
PATCHES = range(20)
"""A marker may tell apart any two patch releases; no series has had more."""
PROCESSORS = ("x86_64", "aarch64")
CUDA = ("nvidia-", "cuda-", "triton")
"""How the packages that only a CUDA build of torch needs are named; scripts/environment.sh installs them with it."""


@cache
def environments() -> tuple[Mapping[str, str], ...]:
    """Each environment that the locks are for, by the names that markers use: CPython on Linux."""
    return tuple(
        {
            "implementation_name": "cpython",
            "implementation_version": f"3.{minor}.{patch}",
            "os_name": "posix",
            "platform_machine": processor,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"3.{minor}.{patch}",
            "python_version": f"3.{minor}",
            "sys_platform": "linux",
        }
        for minor in MINORS
        for patch in PATCHES
        for processor in PROCESSORS
    )


@cache
def _holding(marker: str, extra: str) -> frozenset[int]:
    parsed = Marker(marker)
    return frozenset(
        number
        for number, environment in enumerate(environments())
        if parsed.evaluate({**environment, "extra": extra})
    )


def holding(marker: Marker | None, extras: frozenset[str] = frozenset()) -> frozenset[int]:
    """The indices of the ``environments`` in which a requirement with this marker counts, asked with ``extras``."""
    if marker is None:
        return frozenset(range(len(environments())))
    return frozenset().union(*(_holding(str(marker), extra) for extra in ("", *extras)))


def read_rows(lock: Path) -> list[Requirement]:
    """Every row of a lock or of a file of overrides."""
    lines = (line.strip() for line in lock.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def version_of(row: Requirement) -> str:
    """The one version that a row of a lock names."""
    (pin,) = row.specifier
    return pin.version


def as_locked(compiled: Path) -> list[str]:
    """The lines of a lock for what uv compiled."""
    pins: dict[str, list[Requirement]] = {}
    for row in read_rows(compiled):
        name = canonicalize_name(row.name)
        if not name.startswith(CUDA) and holding(row.marker):
            pins.setdefault(f"{name}=={version_of(row).partition('+')[0]}", []).append(row)
    return sorted(pin + _condition(rows) for pin, rows in pins.items())


def _condition(rows: list[Requirement]) -> str:
    if len(frozenset().union(*(holding(row.marker) for row in rows))) == len(environments()):
        return ""
    return " ; " + " or ".join(str(row.marker) for row in rows)


def hashes_of(compiled: Path, further: Path) -> list[str]:
    """The lines of ``requirements.sha256``."""
    known: dict[str, set[str]] = {}
    pin = ""
    for line in compiled.read_text(encoding="utf-8").splitlines():
        word = line.strip().removesuffix("\\").strip()
        if word.startswith("--hash=sha256:"):
            known[pin].add(word.removeprefix("--hash=sha256:"))
        elif word and not word.startswith("#"):
            pin = word.partition(" ")[0].partition(";")[0].partition("+")[0]
            known.setdefault(pin, set())
    for pin, hashes in read_hashes(further).items():
        known.setdefault(pin, set()).update(hashes)
    return [" ".join((pin, *sorted(hashes))) for pin, hashes in sorted(known.items())]


def read_hashes(path: Path) -> dict[str, list[str]]:
    """The SHA-256 of the files of each ``name==version``."""
    lines = (line.partition("#")[0].split() for line in path.read_text(encoding="utf-8").splitlines())
    return {words[0]: words[1:] for words in lines if words}


if __name__ == "__main__":
    if sys.argv[1] == "--hashes":
        written = hashes_of(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        written = as_locked(Path(sys.argv[1]))
    sys.stdout.write("".join(f"{line}\n" for line in written))
