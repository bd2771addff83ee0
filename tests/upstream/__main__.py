"""``python -m tests.upstream SYSTEM [--source PATH] [--folder DIR]``; see the package."""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests.upstream.environment import prepare_environment, prepare_source, run_theirs
from tests.upstream.ours import SIDES
from tests.upstream.sides import Made
from tests.upstream.systems import BY_NAME, SYSTEMS, System

SIZES = ((2544, 3056), (3056, 2544), (512, 512), (701, 300), (333, 901), (97, 61))
"""Rows and columns of the films."""
CLOSE = 1e-5
"""Largest difference over the largest value that is called equal: rounding of another order of the same sums."""


def write_films(folder: Path) -> None:
    """Structured grey films of each size."""
    folder.mkdir(parents=True)
    for number, (rows, columns) in enumerate(SIZES):
        generator = np.random.default_rng(number)
        coarse = generator.integers(0, 256, (rows // 12 + 1, columns // 12 + 1), np.uint8)
        film = Image.fromarray(coarse).resize((columns, rows), Image.Resampling.BICUBIC)
        film.save(folder / f"{number}-{rows}x{columns}.png")


def compare(theirs: Path, ours: Made) -> Iterator[tuple[str, str]]:
    """What was compared, and "equal" or how far it is off."""
    arrays = np.load(theirs / "theirs.npz")
    told = json.loads((theirs / "theirs.json").read_text())
    for kind in ("pixels", "grids", "features"):
        names = [name for name in arrays.files if _kind(name) == kind]
        if names:
            worst = max(_apart(arrays[name], ours.arrays[name]) for name in names)
            word = "equal" if worst <= CLOSE else "DIFFERENT"
            yield f"{kind} of {len(names)}", f"{word} (largest difference {worst:.1e})"
    asked = told.get("ids", {})
    if asked:
        other = [name for name, ids in asked.items() if list(ours.ids[name]) != ids]
        yield f"token ids of {len(asked)} prompts", f"DIFFERENT: {', '.join(other)}" if other else "equal"
    for name, value in told.get("limits", {}).items():
        mine = ours.limits[name]
        yield f"{name} {value:g}", "equal" if mine == value else f"DIFFERENT: ours {mine:g}"


def _kind(name: str) -> str:
    return "features" if name.startswith("features") else "grids" if name.endswith("-grid") else "pixels"


def _apart(theirs: np.ndarray, ours: np.ndarray) -> float:
    if theirs.shape != np.shape(ours):
        return float("inf")
    scale = max(float(np.abs(theirs).max()), 1e-12)
    return float(np.abs(theirs.astype(np.float64) - ours).max()) / scale


def run(system: System, folder: Path, source: Path | None) -> bool:
    """Set one system up, run both sides and print the rows; returns whether all are equal."""
    home = folder / system.name
    home.mkdir(parents=True, exist_ok=True)
    code, python = prepare_source(system, home, source), prepare_environment(system, home)
    work = home / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    write_films(work / "films")
    side = SIDES[system.name]
    side.prepare(work)
    run_theirs(system, python, code, work)
    rows = list(compare(work, side.make(work)))
    at = f"{system.repository} {system.commit[:7]}" if system.repository else "no code of its own"
    versions = ", ".join(one for one in (*system.packages, *system.alone) if "==" in one)
    print(f"{system.name}: {at}; {versions}")
    for what, found in rows:
        print(f"  {what}: {found}")
    return all(found.startswith("equal") for _, found in rows)


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tests.upstream")
    parser.add_argument("system", choices=("all", *BY_NAME))
    parser.add_argument(
        "--source", type=Path, help="a git repository to clone from (of all: a folder of such)"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("build/upstream"), help="where code and environments go"
    )
    asked = parser.parse_args()
    equal = True
    for system in SYSTEMS if asked.system == "all" else (BY_NAME[asked.system],):
        source = asked.source
        if source is not None and asked.system == "all":
            source = source / system.repository.rpartition("/")[2]
        try:
            equal &= run(system, asked.folder.resolve(), source)
        except subprocess.CalledProcessError as error:
            print(f"{system.name}: not run ({error})", file=sys.stderr)
            equal = False
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
