"""What is installed: each file by its digest, each licence one that we may ship, and a bill of it all."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from scripts.locked import read_hashes, read_rows, version_of
from scripts.sbom import bill, licence_of

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = read_rows(ROOT / "requirements.lock")
DEVELOPMENT = read_rows(ROOT / "requirements-dev.lock")
HASHES = read_hashes(ROOT / "requirements.sha256")

FREE = re.compile(
    r"\b(?:MIT|MIT-0|MIT-CMU|Apache|BSD|0BSD|ISC|PSF|Python Software Foundation|matplotlib|Zlib|CC0|BSL|CNRI-Python"
    r"|MPL|Mozilla Public License|Dual License)\b",
    re.I,
)
STRONG = re.compile(r"\b(?:A?GPL|GNU (?:Affero )?General Public)", re.I)
KNOWN = {
    "psycopg": "LGPL-3.0: used as a library, unchanged; its source is on the index",
    "psycopg-binary": "LGPL-3.0, as psycopg",
    "text-unidecode": "Artistic or GPL: taken under the Artistic License",
}
"""Licences of what ships that are neither free of conditions nor refused."""
FOR_TESTS = {
    "pylibjpeg-libjpeg": "GPL-3.0: the other side of a benchmark and of tests of decoders, never shipped",
    "tensorrt-rtx-cu13": "NVIDIA's own, for tests of engines on a GPU",
    "tensorrt-rtx-cu13-bindings": "as tensorrt-rtx-cu13",
    "tensorrt-rtx-cu13-libs": "as tensorrt-rtx-cu13",
}


def shell(text: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["sh", "-eu", "-c", text], cwd=ROOT, capture_output=True, text=True, check=False)


def installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


@pytest.mark.parametrize("row", RUNTIME, ids=lambda row: row.name)
def test_what_ships_has_a_licence_that_we_may_ship(row: object) -> None:
    name = row.name  # type: ignore[attr-defined]
    if not installed(name):
        pytest.skip("not for this Python")
    licence = licence_of(name)
    if name in KNOWN:
        return
    assert licence, f"{name} says nothing of its licence"
    assert not STRONG.search(licence), f"{name}: {licence}"
    assert FREE.search(licence), f"{name}: {licence}"


def test_what_only_tests_use_is_known() -> None:
    odd = {
        row.name
        for row in DEVELOPMENT
        if installed(row.name)
        and (STRONG.search(licence_of(row.name)) or not FREE.search(licence_of(row.name)))
    }
    assert odd <= FOR_TESTS.keys(), odd


def test_nothing_that_only_tests_use_is_imported_by_what_ships() -> None:
    names = {"libjpeg", "jpeg_ls", "hypothesis", "pytest", "tensorrt_rtx_libs", "playwright"}
    pattern = re.compile(rf"^\s*(?:import|from)\s+(?:{'|'.join(names)})\b", re.M)
    for folder in ("pipeline", "models", "flows", "sql"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not pattern.search(path.read_text(encoding="utf-8")), path


def test_each_row_of_the_locks_has_the_digests_of_its_files_and_nothing_else_has() -> None:
    rows = {f"{row.name}=={version_of(row)}" for row in RUNTIME + DEVELOPMENT}
    assert rows == set(HASHES)
    assert all(HASHES[pin] and all(re.fullmatch("[0-9a-f]{64}", one) for one in HASHES[pin]) for pin in rows)


def test_the_installer_is_given_every_row_with_its_digests(tmp_path: Path) -> None:
    text = (ROOT / "scripts/environment.sh").read_text(encoding="utf-8")
    begin = text.index("hashed() {")
    function = text[begin : text.index("\n}\n", begin) + 3]
    done = shell(f"{function}\nhashed requirements.lock")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == len(RUNTIME)
    for line, row in zip(lines, RUNTIME, strict=True):
        given = re.findall(r"--hash=sha256:([0-9a-f]{64})", line)
        assert given == HASHES[f"{row.name}=={version_of(row)}"]
    (tmp_path / "lock").write_text("nobody-knows-this==1.0\n")
    refused = shell(f"{function}\nhashed {tmp_path}/lock")
    assert refused.returncode != 0
    assert "nobody-knows-this==1.0" in refused.stderr


def test_the_bill_lists_both_locks_and_is_the_same_each_time() -> None:
    written = [
        subprocess.run(
            [sys.executable, "-m", "scripts.sbom"], cwd=ROOT, capture_output=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert written[0] == written[1]
    listed = bill()
    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.6")
    scopes = {one["name"]: one["scope"] for one in listed["components"]}
    assert scopes == {
        **{row.name: "required" for row in RUNTIME},
        **{row.name: "excluded" for row in DEVELOPMENT},
    }
    assert all(one["purl"].startswith("pkg:pypi/") for one in listed["components"])


@pytest.mark.parametrize("wanted", ["", "skip"])
def test_nothing_is_installed_by_apt_unless_it_is_asked_for(tmp_path: Path, wanted: str) -> None:
    """A PATH on which no peer is, and an apt-get that would tell."""
    for name in ("id", "ls", "sh"):
        (tmp_path / name).symlink_to(
            f"/usr/bin/{name}" if Path(f"/usr/bin/{name}").exists() else f"/bin/{name}"
        )
    apt = tmp_path / "apt-get"
    apt.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    apt.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", str(ROOT / "tests/peers.sh")], env={"PATH": str(tmp_path), "PEERS": wanted},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "dcmtk" in done.stderr
    assert not (tmp_path / "called").exists()


def test_the_extra_for_videos_is_gpl_and_no_part_of_what_ships() -> None:
    """PyAV says BSD of itself; what its wheel carries does not. Once it no longer does, decision 43 is to be mended."""
    assert "av" not in {row.name for row in RUNTIME}
    carried = {path.name for path in distribution("av").files or ()}
    assert any(name.startswith("libx264") for name in carried)
    decision = (ROOT / "docs/decisions/0043-clips-slides-and-uptake.md").read_text(encoding="utf-8")
    assert "libx264" in decision
    assert "GPL" in decision
