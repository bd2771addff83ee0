"""Both locks hold all that is needed for every Python from 3.11.0 to 3.14 and both processors, whichever runs this."""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from scripts.locked import CUDA, MINORS, as_locked, environments, holding, read_rows, version_of

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RUNTIME = read_rows(ROOT / "requirements.lock")
BOTH = RUNTIME + read_rows(ROOT / "requirements-dev.lock")
DEPENDENCIES = [Requirement(text) for text in PROJECT["dependencies"]]
DEVELOPMENT = [Requirement(text) for text in PROJECT["optional-dependencies"]["dev"]]
OVERRIDES = {row.name: row for row in read_rows(ROOT / "scripts/overrides.txt")}


def requirements_of(name: str) -> list[Requirement]:
    """What the installed package declares, or our own word where ``scripts/overrides.txt`` has one."""
    declared = [Requirement(text) for text in requires(name) or []]
    return [OVERRIDES.get(canonicalize_name(one.name), one) for one in declared]


def wanted(roots: list[Requirement], locked: set[str]) -> Iterator[tuple[str, Requirement, frozenset[int]]]:
    """Each requirement that a locked package or the project has: whose, which, and in which environments."""
    todo = [("firstread", one, holding(one.marker)) for one in roots]
    done: dict[tuple[str, frozenset[str]], frozenset[int]] = {}
    while todo:
        owner, one, where = todo.pop()
        yield owner, one, where
        name, extras = canonicalize_name(one.name), frozenset(one.extras)
        seen = done.get((name, extras), frozenset())
        if where <= seen or name not in locked:
            continue
        done[name, extras] = seen | where
        try:
            needs = requirements_of(name)
        except PackageNotFoundError:
            # Told apart from a broken environment: a package that is not installed has no row that holds here.
            assert not any(row.name == name and (row.marker is None or row.marker.evaluate()) for row in BOTH)
            continue
        todo += [(name, need, where & holding(need.marker, extras)) for need in needs]


def faults(roots: list[Requirement], rows: list[Requirement]) -> set[str]:
    """What is missing, of another version, double or superfluous, each with the first environment where it is so."""
    found: set[str] = set()
    reached: dict[str, frozenset[int]] = {}
    for owner, need, where in wanted(roots, {row.name for row in rows}):
        name = canonicalize_name(need.name)
        if name.startswith(CUDA):
            continue
        reached[name] = reached.get(name, frozenset()) | where
        fitting = [
            holding(row.marker)
            for row in rows
            if row.name == name and need.specifier.contains(version_of(row), prereleases=True)
        ]
        if missing := where.difference(*fitting):
            found.add(f"{owner} needs {name}{need.specifier} {told(missing)}")
    taken: dict[str, frozenset[int]] = {}
    for row in rows:
        if double := holding(row.marker) & taken.get(row.name, frozenset()):
            found.add(f"{row.name} has two rows {told(double)}")
        taken[row.name] = holding(row.marker) | taken.get(row.name, frozenset())
        if idle := holding(row.marker) - reached.get(row.name, frozenset()):
            found.add(f"nothing needs {row.name} {told(idle)}")
    return found


def told(where: frozenset[int]) -> str:
    environment = environments()[min(where)]
    return f"(Python {environment['python_full_version']}, {environment['platform_machine']})"


@pytest.mark.parametrize("lock", ["requirements.lock", "both"])
def test_every_requirement_is_locked_for_every_python_and_processor(lock: str) -> None:
    roots, rows = (DEPENDENCIES, RUNTIME) if lock != "both" else (DEPENDENCIES + DEVELOPMENT, BOTH)
    assert faults(roots, rows) == set()


def test_a_missing_conditional_dependency_is_found() -> None:
    """The fault that Debian's Python 3.11.2 met: redis needs async-timeout before 3.11.3."""
    without = [row for row in RUNTIME if row.name != "async-timeout"]
    assert faults(DEPENDENCIES, without) == {"redis needs async-timeout>=4.0.3 (Python 3.11.0, x86_64)"}


def test_rows_that_are_double_or_needless_are_found() -> None:
    rows = [
        *RUNTIME,
        Requirement("redis==8.0.0; python_version >= '3.14'"),
        Requirement("requests-mock==1.12.1"),
    ]
    assert faults(DEPENDENCIES, rows) == {
        "redis has two rows (Python 3.14.0, x86_64)",
        "nothing needs requests-mock (Python 3.11.0, x86_64)",
    }


def test_a_marker_that_is_too_narrow_is_found() -> None:
    narrow = [
        Requirement("async-timeout==5.0.1; python_full_version < '3.11.2'")
        if row.name == "async-timeout"
        else row
        for row in RUNTIME
    ]
    assert faults(DEPENDENCIES, narrow) == {"redis needs async-timeout>=4.0.3 (Python 3.11.2, x86_64)"}


def test_the_environments_are_those_that_the_project_names() -> None:
    allowed = SpecifierSet(PROJECT["requires-python"])
    minors = [minor for minor in range(40) if f"3.{minor}.0" in allowed]
    assert minors == list(MINORS)
    assert all(environment["python_full_version"] in allowed for environment in environments())


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_rows_are_plain(lock: str) -> None:
    """A name and a version each, perhaps a marker: no address, no build of torch, no library of CUDA."""
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    plain = re.compile(r"[a-z0-9-]+==[0-9a-z.!]+( ; [^#]+)?")
    assert [line for line in lines if not plain.fullmatch(line) or line.startswith(CUDA)] == []
    assert lines == sorted(set(lines))


def test_rows_as_they_are_locked(tmp_path: Path) -> None:
    compiled = tmp_path / "compiled.txt"
    compiled.write_text(
        "torch==2.13.0 ; python_full_version >= '3.12' or platform_machine == 'aarch64'\n"
        "torch==2.13.0+cpu ; python_full_version < '3.12' and platform_machine == 'x86_64'\n"
        "nvidia-cublas==13.1.1.3\n"
        "numpy==2.4.6 ; python_full_version < '3.12'\n"
        "numpy==2.5.5 ; python_full_version >= '3.12'\n"
        "pywin32==312 ; sys_platform == 'win32'\n"
        "cffi==2.1.1 ; platform_python_implementation != 'PyPy'\n",
        encoding="utf-8",
    )
    rows = [Requirement(line) for line in as_locked(compiled)]
    assert [(row.name, version_of(row), row.marker) for row in rows] == [
        ("cffi", "2.1.1", None),
        ("numpy", "2.4.6", Marker('python_full_version < "3.12"')),
        ("numpy", "2.5.5", Marker('python_full_version >= "3.12"')),
        ("torch", "2.13.0", None),
    ]
