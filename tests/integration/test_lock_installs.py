"""The lock installs and its packages are imported with the oldest and the newest Python that this machine has.

Without torch, whose build for another Python may be the one with CUDA: gigabytes.
"""

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.locked import MINORS

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("/usr/bin", "/usr/local/bin", "/opt/python*/bin", str(Path.home() / ".pyenv/versions/*/bin"))
UNREACHABLE = re.compile(
    r"dns error|error sending request|operation timed out|Connection (?:refused|reset)", re.I
)

# Run by the new environment: each requirement that holds for its Python is installed, as the package's own file
# says; then every module of pipeline is imported, and what Prefect's server could not import on 3.11.2.
COMPLETE = """
import importlib, pkgutil, sys
from importlib.metadata import distributions, version
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
missing = []
elsewhere = {"torch", "certifi"}  # left out here; docs/decisions/0002
installed = {canonicalize_name(one.name): one.version for one in distributions()}
for one in distributions():
    for need in map(Requirement, one.requires or []):
        name = canonicalize_name(need.name)
        if name in elsewhere or not (need.marker is None or need.marker.evaluate()):
            continue
        if name not in installed or not need.specifier.contains(installed[name], prereleases=True):
            missing.append(f"{one.name} needs {need}, installed {installed.get(name)}")
assert not missing, missing
import pipeline
for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
    importlib.import_module(module.name)
import redis.asyncio
print(sys.version_info[:3], len(installed))
"""


@functools.cache
def pythons() -> list[tuple[tuple[int, ...], str]]:
    """Version and path of each Python here that the project supports, the oldest first."""
    found: dict[tuple[int, ...], str] = {}
    for place in PLACES:
        for path in sorted(Path("/").glob(f"{place.lstrip('/')}/python3*")):
            if not re.fullmatch(r"python3(\.\d+)?", path.name) or not os.access(path, os.X_OK):
                continue
            asked = subprocess.run(
                [path, "-I", "-c", "import sys; print(*sys.version_info[:3])"],
                capture_output=True, text=True, check=False, timeout=30,
            )  # fmt: skip
            version = tuple(int(part) for part in asked.stdout.split()) if asked.returncode == 0 else (0, 0)
            if version[0] == 3 and version[1] in MINORS:
                found.setdefault(version, str(path))
    return sorted(found.items())


def uv(*words: str | Path, environment: Path) -> "subprocess.CompletedProcess[str]":
    """uv as scripts/environment.sh calls it."""
    pip = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    asked = subprocess.run(pip, capture_output=True, text=True, check=False)
    index = os.environ.get("PIP_INDEX_URL") or asked.stdout.strip()
    variables = {
        **os.environ,
        "VIRTUAL_ENV": str(environment),
        "UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", ""),
    }
    command = [
        Path(sys.executable).with_name("uv"),
        "--quiet",
        "--native-tls",
        "--no-python-downloads",
        *words,
    ]
    if index and words[0] == "pip":
        command += ["--default-index", index]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_the_lock_installs_and_is_complete(which: str, tmp_path: Path) -> None:
    if len(pythons()) < 2:
        pytest.skip(f"this machine has one supported Python: {pythons()}")
    _, python = pythons()[0 if which == "oldest" else -1]
    environment, rows = tmp_path / "environment", tmp_path / "without-torch.lock"
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines(keepends=True)
    rows.write_text("".join(line for line in lines if not line.startswith("torch==")), encoding="utf-8")
    try:
        made = uv("venv", "--python", python, environment, environment=environment)
        assert made.returncode == 0, made.stderr
        done = uv("pip", "install", "--no-deps", "-r", rows, environment=environment)
        if done.returncode != 0 and UNREACHABLE.search(done.stderr):
            pytest.skip(f"no package index is reached, and uv's cache lacks the files: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stderr
        tried = subprocess.run(
            [environment / "bin/python", "-c", COMPLETE],
            cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        assert tried.returncode == 0, tried.stderr[-3000:]
        assert tried.stdout.strip()
    finally:
        shutil.rmtree(environment, ignore_errors=True)  # 1 GB, which pytest would keep
