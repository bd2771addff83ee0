"""Opening a family: memory against its weights, and how often its files are read.

    python -m tests.benchmarks.bench_load [--only NAME] [--folder FOLDER]

Random networks of some hundred MB in the published layouts (tests/large_models.py), opened on the CPU as the program
opens them: weights stored in 16 bits become float32. Each is opened by a fresh process twice. The first opening
exports the tower's graph into the cache, the second finds it there; the bar is on the second. ``peak`` is the most
memory that the process had resident (VmHWM, files it maps counted in) above a process that opens the small network
of the same layout, over the bytes of the weights in float32. Before each opening the files leave the page cache, so
``from disk`` is what the machine really read, over the size of weights and graph; ``read()`` is what the process asked
for, digests counted in. Exits with 1 above the bar.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from models.catalog import show
from models.families.checked_weights import weight_folders
from models.families.registry import open_family
from models.model_choice import ModelChoice
from models.weight_loading.weight_files import inspect_folder
from tests.large_models import FAMILIES, Large

MOST = 1.2
BYTES = 4
"""Of a parameter in float32."""


def counters() -> dict[str, int]:
    """Peak resident bytes of this process, and bytes that it asked for and that a disk gave."""
    status = Path("/proc/self/status").read_text(encoding="ascii").split("\n")
    asked = dict(line.split(": ") for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines())
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    return {"peak": peak, "asked": int(asked["rchar"]), "disk": int(asked["read_bytes"])}


def open_once(catalogue_id: str, weights: Path, cache: Path) -> None:
    """Open the family here, once, and print what it took as JSON."""
    warnings.simplefilter("ignore")
    started = time.perf_counter()
    with open_family(show(catalogue_id), ModelChoice(catalogue_id, weights, accept_use_limits=True), cache):
        took = time.perf_counter() - started
        print(json.dumps({**counters(), "seconds": took}))


def measure(catalogue_id: str, weights: Path, cache: Path) -> dict[str, float]:
    """The same in a process of its own, the files out of the page cache."""
    forget(weights)
    forget(cache)
    command = [sys.executable, "-m", __spec__.name, "--open", catalogue_id, str(weights), str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def forget(folder: Path) -> None:
    """Take the files of ``folder`` out of the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def parameters(folder: Path) -> int:
    """Numbers in the weight files of a folder and of those in it."""
    own, inner = weight_folders(folder)
    return sum(inspect_folder(one).parameters for one in (*own, *inner))


def size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def compare(family: Large, folder: Path) -> bool:
    """Print the row of a family; True where its second opening keeps to the bar."""
    cache = {large: folder / f"cache-{large}" for large in (False, True)}
    weights = {large: folder / f"weights-{large}" for large in (False, True)}
    for large, path in weights.items():
        if not path.exists():
            path.mkdir(parents=True)
            family.write(path, large)
        cache[large].mkdir(exist_ok=True)
    first = {large: measure(family.catalogue_id, weights[large], cache[large]) for large in weights}
    second = {large: measure(family.catalogue_id, weights[large], cache[large]) for large in weights}
    held = BYTES * parameters(weights[True])
    files = size(weights[True]) + size(cache[True])
    peaks = [(opened[True]["peak"] - opened[False]["peak"]) / held for opened in (first, second)]
    disk = (second[True]["disk"] - second[False]["disk"]) / files
    asked = (second[True]["asked"] - second[False]["asked"]) / files
    print(
        f"{family.name:14} {held / 1e6:6.0f} MB  peak {peaks[1]:5.2f} (bar {MOST}), first opening {peaks[0]:5.2f}   "
        f"from disk {disk:4.2f}, read() {asked:4.2f} of {files / 1e6:5.0f} MB   "
        f"{second[True]['seconds']:5.1f} s, first {first[True]['seconds']:5.1f} s",
        flush=True,
    )
    return peaks[1] <= MOST


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="families whose name holds this")
    parser.add_argument("--folder", type=Path, help="keep the folders of weights here")
    parser.add_argument("--open", nargs=3, metavar=("ID", "WEIGHTS", "CACHE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    if asked.open:
        open_once(asked.open[0], Path(asked.open[1]), Path(asked.open[2]))
        return
    with tempfile.TemporaryDirectory(prefix="firstread-bench-") as temporary:
        root = asked.folder or Path(temporary)
        chosen = [family for family in FAMILIES if asked.only.lower() in family.name.lower()]
        good = [compare(family, root / family.name.replace(" ", "-")) for family in chosen]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
