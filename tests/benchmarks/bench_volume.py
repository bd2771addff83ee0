"""Volumes: a CT series on disk to one array of Hounsfield units, against SimpleITK's ImageSeriesReader.

    python -m tests.benchmarks.bench_volume PYTHON [--planes 300] [--side 512] [--rounds 5]

``PYTHON`` is an interpreter that has SimpleITK 2.5 (``python3 -m venv x && x/bin/pip install SimpleITK``). Each reading
is a process of its own, the sides taken in turn, files warm; time is from the folder to the array (the start of our
decoders is within it), CPU is of decoders too, peak is the growth of resident memory of the reading process over the
array's bytes. Both arrays must be equal. Then 2,000 copies of pydicom's ``CT_small.dcm``, a scanner's header of 256
elements: judged as planes, against pydicom reading them up to their pixels. Exits 1 where a bar of the project is
missed.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.data import get_testdata_file

from pipeline.images.headers import read_header
from pipeline.images.volumes import planes_of
from pipeline.images.volumes.voxels import PLANE_LIMITS
from tests.compressed_series import FORMS, rewrite
from tests.ct_series import stack, write_series

BARS = {"raw": 3.5, "JPEG-LS": 1.7, "JPEG 2000": 1.7}
MOST_PEAK = 1.15
HEADERS, HEADERS_BAR = 2000, 5.0
_MEASURED = """
import hashlib, json, sys, time
cpu = time.process_time
{setup}
def memory(key):
    (line,) = [one for one in open("/proc/self/status") if one.startswith(key)]
    return int(line.split()[1]) * 1024
start, spent, before = time.perf_counter(), cpu(), memory("VmRSS")
values = read(sys.argv[1])
seconds, spent = time.perf_counter() - start, cpu() - spent
grown = memory("VmHWM") - before
print(json.dumps(dict(seconds=seconds, cpu=spent, peak=grown / (values.size * 2),
                      digest=hashlib.sha256(values.astype("<i2").tobytes()).hexdigest())))
"""
OURS = _MEASURED.format(
    setup="""
from pathlib import Path
from pipeline.images import decoder_process
from pipeline.images.headers import read_header
from pipeline.images.volumes import planes_of, read_volume, stacks_of
from pipeline.images.volumes.voxels import PLANE_LIMITS
from tests.benchmarks.bench_receive import cpu_seconds
def cpu():
    return time.process_time() + sum(cpu_seconds(one._process.pid) for one in decoder_process._POOL._idle)
def read(folder):
    planes = [one for path in Path(folder).iterdir() for one in planes_of(read_header(path, PLANE_LIMITS))]
    return read_volume(stacks_of(planes)[0][0]).values
"""
)
PEER = _MEASURED.format(
    setup="""
import SimpleITK as sitk
sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(2)
def read(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder))
    reader.SetOutputPixelType(sitk.sitkInt16)
    global image  # the view lives as long as the image
    image = reader.Execute()
    return sitk.GetArrayViewFromImage(image)
"""
)


def anatomy(planes: int, side: int) -> npt.NDArray[np.int16]:
    """HU [planes, side, side]: a body of soft tissue with lungs and bone in air, and noise of 12 HU."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    body, lungs, bone = (
        (x / 0.8) ** 2 + (y / 0.6) ** 2 < 1,
        np.abs(np.hypot(x, y) - 0.35) < 0.15,
        np.hypot(x, y) < 0.1,
    )
    plane = np.where(bone, 700, np.where(lungs, -800, np.where(body, 40, -1000)))
    noise = np.random.default_rng(1).normal(0, 12, (side, side))
    return np.stack([(plane + np.roll(noise, k, axis=1)).astype(np.int16) for k in range(planes)])


def write(folder: Path, values: npt.NDArray[np.int16], form: str) -> None:
    """The series in one transfer syntax."""
    paths = write_series(folder, stack(len(values), rows=8, columns=8))
    rewrite(paths, FORMS[form], lambda index: (values[index] + 1024).clip(0, 4095).astype(np.uint16))


def measured(python: str, code: str, folder: Path) -> dict[str, float | str]:
    """One reading in a process of its own."""
    done = subprocess.run([python, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    found: dict[str, float | str] = json.loads(done.stdout.splitlines()[-1])
    return found


def judged_headers(rounds: int) -> tuple[float, float]:
    """Seconds to judge the headers of a series, and for pydicom to read them: medians, the sides taken in turn."""
    with tempfile.TemporaryDirectory() as held:
        source = str(get_testdata_file("CT_small.dcm"))
        paths = [Path(shutil.copy(source, Path(held) / f"{number}.dcm")) for number in range(HEADERS)]
        ours, peer = [], []
        for _ in range(rounds):
            begun = time.perf_counter()
            planes = [planes_of(read_header(path, PLANE_LIMITS)) for path in paths]
            between = time.perf_counter()
            read = [dcmread(path, stop_before_pixels=True) for path in paths]
            peer.append(time.perf_counter() - between)
            ours.append(between - begun)
            assert len(planes) == len(read)
            assert all(isinstance(one, tuple) for one in planes)
    return float(np.median(ours)), float(np.median(peer))


def main() -> int:
    """Print the table and the bars; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python")
    parser.add_argument("--planes", type=int, default=300)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    ours, peer = judged_headers(asked.rounds)
    missed = peer / ours < HEADERS_BAR
    print(
        f"headers    ours {ours:6.2f} s, pydicom   {peer:6.2f} s: {peer / ours:5.2f} times (bar {HEADERS_BAR})"
    )
    for form, bar in BARS.items():
        values = anatomy(asked.planes if form != "JPEG 2000" else max(1, asked.planes // 3), asked.side)
        with tempfile.TemporaryDirectory() as held:
            write(Path(held), values, form)
            runs = [
                (measured(sys.executable, OURS, Path(held)), measured(asked.python, PEER, Path(held)))
                for _ in range(asked.rounds)
            ]
        if any(one["digest"] != other["digest"] for one, other in runs):
            print(f"{form}: the volumes differ")
            return 1
        ours, peer, cpu, other_cpu, peak = (
            float(np.median([float(run[side][key]) for run in runs]))
            for side, key in ((0, "seconds"), (1, "seconds"), (0, "cpu"), (1, "cpu"), (0, "peak"))
        )
        passed = peer / ours >= bar and peak <= MOST_PEAK
        missed |= not passed
        print(
            f"{form:10} ours {ours:6.2f} s, SimpleITK {peer:6.2f} s: {peer / ours:5.2f} times (bar {bar}); "
            f"peak {peak:.2f} (bar {MOST_PEAK}), CPU {cpu:.2f} s against {other_cpu:.2f}{'' if passed else '  MISSED'}"
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
