"""One JPEG 2000 film of 2048 x 2048 decoded alone, by this build and by an earlier one, in turn, pixels compared.

    git archive 9cf15c0 pipeline | tar x -C EMPTY_FOLDER
    python -m tests.benchmarks.bench_film_alone EMPTY_FOLDER [--rounds 7] [--films 5]

Each round is a process for each side, which decodes the film once unmeasured, which starts decoders, and ``--films``
times measured. Needs two free cores. Exits 1 where the pixels differ or the bar of the project, 1.7 times as fast, is
missed: docs/decisions/0010-decoders.md says why it cannot be met.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline import dicom_writer as writer
from tests.benchmarks.bench_decode import film
from tests.synthetic import radiograph_header

BAR = 1.7
_DECODED = """
import hashlib, json, sys, time
from pathlib import Path
from pipeline.images.decode import declared_pixels, stored_values
from pipeline.images.headers import read_header
from pipeline.images.limits import ImageLimits
limits, path, taken = ImageLimits(), Path(sys.argv[1]), []
for number in range(int(sys.argv[2]) + 1):
    began = time.perf_counter()
    header = read_header(path, limits)
    values = stored_values(header, declared_pixels(header, limits), 0, limits)
    taken.append(time.perf_counter() - began)
digest = hashlib.sha256(values.astype("<i4").tobytes()).hexdigest()
print(json.dumps([sorted(taken[1:])[len(taken[1:]) // 2], digest]))
"""


def decoded(tree: Path, path: Path, films: int) -> tuple[float, str]:
    """Median seconds of a film, and a digest of its values, by the code in ``tree``."""
    command = [sys.executable, "-c", _DECODED, str(path), str(films)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True)
    seconds, digest = json.loads(done.stdout)
    return float(seconds), str(digest)


def main() -> int:
    """Print both sides and the ratio; 1 where the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("earlier", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--films", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.dcm"
        writer.write_radiograph(
            path,
            film(2048),
            radiograph_header(),
            transfer_syntax=writer.JPEG_2000_LOSSLESS,
            bits_stored=12,
        )
        trees = {"earlier": asked.earlier, "this": Path.cwd()}
        runs = [
            {name: decoded(tree, path, asked.films) for name, tree in trees.items()}
            for _ in range(asked.rounds)
        ]
    if len({digest for run in runs for _, digest in run.values()}) != 1:
        print("the pixels differ")
        return 1
    earlier, this = (statistics.median(run[name][0] for run in runs) for name in ("earlier", "this"))
    print(f"earlier {earlier * 1e3:.0f} ms, this {this * 1e3:.0f} ms: {earlier / this:.2f} times (bar {BAR})")
    return int(earlier / this < BAR)


if __name__ == "__main__":
    sys.exit(main())
