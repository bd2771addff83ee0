"""Slides: a small picture of one that has no levels, against wsidicom 0.36.

    python -m tests.benchmarks.bench_slide [--side 8192] [--rounds 3]

A slide of 8,192 pixels a side in tiles of 256 in JPEG, and nothing else: 512 pixels of it. Each reading is a process of
its own, the sides taken in turn; the second of two is timed, as in a run, whose decoders' processes are kept. The
pictures must look alike. Exits 1 where a bar of the project is missed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.slide_files import drawn, write_level

BAR, MOST_MEMORY, SHOWN = 0.35, 0.1, 512
_MEASURED = """
import json, sys, time
{setup}
def memory(key, process="self"):
    (line,) = [one for one in open(f"/proc/{{process}}/status") if one.startswith(key)]
    return int(line.split()[1]) * 1024
before = memory("VmRSS")
read(sys.argv[1])
start = time.perf_counter()
small = read(sys.argv[1])
seconds = time.perf_counter() - start
sys.path.insert(0, ".")
import numpy as np, psutil
children = psutil.Process().children()
cells = np.asarray(small, float)[:512, :512].reshape(16, 32, 16, 32, 3).mean(axis=(1, 3))
print(json.dumps(dict(seconds=seconds, peak=memory("VmHWM") - before, pictures=cells.tolist(),
                      children=sum(memory("VmHWM", one.pid) for one in children))))
"""
OURS = _MEASURED.format(
    setup=f"""
from pathlib import Path
from pipeline.images.headers import read_header
from pipeline.images.slides import levels_of, level_for, thumbnail
from pipeline.images.slides.pyramid import TILE_LIMITS
def read(path):
    levels = levels_of([read_header(Path(path), TILE_LIMITS)])[0]
    return thumbnail(level_for(levels, {SHOWN}), {SHOWN})
"""
)
PEER = _MEASURED.format(
    setup=f"""
from pathlib import Path
from wsidicom import WsiDicom
def read(path):
    with WsiDicom.open(Path(path).parent) as slide:
        return slide.read_thumbnail(({SHOWN}, {SHOWN}), force_generate=True)
"""
)


def measured(code: str, path: Path) -> dict[str, float]:
    """One reading in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Print the figures and the bars; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as held:
        noise = np.random.default_rng(1).integers(0, 12, (asked.side, asked.side, 1), np.uint8)
        slide = write_level(Path(held) / "slide.dcm", drawn(asked.side) - noise, tile=256, quality=80)
        runs = [(measured(OURS, slide), measured(PEER, slide)) for _ in range(asked.rounds)]
    apart = np.abs(np.subtract(runs[0][0]["pictures"], runs[0][1]["pictures"])).max()
    if apart > 4:
        print(f"the pictures differ by {apart:.0f}")
        return 1
    ours, peer, memory, other, children = (
        float(np.median([run[side][key] for run in runs]))
        for side, key in ((0, "seconds"), (1, "seconds"), (0, "peak"), (1, "peak"), (0, "children"))
    )
    missed = ours / peer > BAR or memory / other > MOST_MEMORY
    print(
        f"{SHOWN} pixels of {asked.side}: {ours:.2f} s, wsidicom {peer:.2f} s: {ours / peer:.2f} (bar {BAR}); memory "
        f"{memory / 1e6:.0f} MB (and {children / 1e6:.0f} MB of the decoders' processes, which are kept) against "
        f"{other / 1e6:.0f}: {memory / other:.3f} (bar {MOST_MEMORY}){'  MISSED' if missed else ''}"
    )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
