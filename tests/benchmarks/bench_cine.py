"""Clips: 32 sampled frames of a colour clip as a model is shown them, against pydicom decoding all of it.

    python -m tests.benchmarks.bench_cine [--frames 300] [--rounds 5]

A clip of 640 x 480 in JPEG with four fragments a frame and no offset table. Each reading is a process of its own, the
sides taken in turn, files warm; the decoder's process of ours starts within its time. Peak is the growth of resident
memory, once more of a clip four times as long: it must not grow with it. The frames must look alike. Exits 1 where a
bar of the project is missed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import imagecodecs
import numpy as np
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from tests.kind_samples import write_picture

BAR, MOST_GROWTH, SHOWN = 0.12, 1.05, 32
_MEASURED = """
import json, sys, time
{setup}
def memory(key):
    (line,) = [one for one in open("/proc/self/status") if one.startswith(key)]
    return int(line.split()[1]) * 1024
start, spent, before = time.perf_counter(), time.process_time(), memory("VmRSS")
means = read(sys.argv[1])
seconds, spent = time.perf_counter() - start, time.process_time() - spent
print(json.dumps(dict(seconds=seconds, cpu=spent, peak=memory("VmHWM") - before, means=means)))
"""
OURS = _MEASURED.format(
    setup=f"""
from pathlib import Path
from pipeline.accepts import Accepts, Kind
from pipeline.images.headers import read_header, text
from pipeline.images.limits import ImageLimits
from pipeline.images.pictures import prepare_pictures
from pipeline.images.prepare import StudyHeaders
from pipeline.study import FetchedStudy
def read(path):
    header = read_header(Path(path), ImageLimits())
    study = FetchedStudy(text(header.dataset, "StudyInstanceUID"), (), (), (), Path(path).parent)
    shown = prepare_pictures(study, StudyHeaders((header,), ()), (Accepts(Kind.CINE, most={SHOWN}),))[1]
    return [[one.frame, float(one.pixels.mean())] for one in shown.images]
"""
)
PEER = _MEASURED.format(
    setup="""
from pydicom import dcmread
def read(path):
    frames = dcmread(path).pixel_array
    return [[number, float(frame.mean() / 255)] for number, frame in enumerate(frames)]
"""
)


def write(path: Path, frames: int) -> Path:
    """A clip whose frames differ: a sector that turns, and speckle."""
    y, x = np.mgrid[0:480, 0:640]
    angle = np.arctan2(y - 20, x - 320)
    speckle = np.random.default_rng(1).normal(0, 20, (480, 640))
    pixels = np.zeros((480, 640, 3), np.uint8)
    write_picture(path, "3.1", "US", pixels, "cine")
    dataset = dcmread(path)
    encoded = []
    for number in range(frames):
        grey = np.clip(90 + 60 * np.sin(angle * 5 + number / 10) + np.roll(speckle, number), 0, 255)
        frame = np.stack([grey, grey * 0.9, grey * 0.7], axis=-1).astype(np.uint8)
        encoded.append(bytes(imagecodecs.jpeg8_encode(frame, level=90)))
    dataset.NumberOfFrames = frames
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    dataset.PixelData = encapsulate(encoded, fragments_per_frame=4, has_bot=False)
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.save_as(path, enforce_file_format=True)
    return path


def measured(code: str, path: Path) -> dict[str, float]:
    """One reading in a process of its own; its frames as {number: mean} under "means"."""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Print the figures and the bars; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as held:
        clip = write(Path(held) / "clip.dcm", asked.frames)
        runs = [(measured(OURS, clip), measured(PEER, clip)) for _ in range(asked.rounds)]
        longer = measured(OURS, write(Path(held) / "longer.dcm", 4 * asked.frames))["peak"]
    theirs = dict(runs[0][1]["means"])  # type: ignore[call-overload]
    for number, mean in runs[0][0]["means"]:  # type: ignore[attr-defined]
        if abs(theirs[number] - mean) > 0.01:
            print(f"frame {number} is another")
            return 1
    ours, peer, cpu, other_cpu, peak, other_peak = (
        float(np.median([run[side][key] for run in runs]))
        for key in ("seconds", "cpu", "peak")
        for side in (0, 1)
    )
    growth = longer / peak
    missed = ours / peer > BAR or growth > MOST_GROWTH
    print(
        f"{SHOWN} of {asked.frames} frames {ours:.2f} s, pixel_array {peer:.2f} s: {ours / peer:.3f} (bar {BAR}); CPU "
        f"{cpu:.2f} s and its decoder's against {other_cpu:.2f}; peak {peak / 1e6:.0f} MB against "
        f"{other_peak / 1e6:.0f}; of {4 * asked.frames} frames {growth:.2f} of that (bar {MOST_GROWTH})"
        f"{'  MISSED' if missed else ''}"
    )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
