"""Decode: our pinned decoders against the pydicom default, from file to float32 array, both in one run.

    python -m tests.benchmarks.bench_decode [--side 2048] [--repeat 9]

One thread of ours but for OpenJPEG's two. The pydicom side is ``dcmread`` and ``pixel_array`` with whatever decoder it
picks among those installed, then the same conversion. Lossless results must be bit-exact on both sides. Ends with the
bars of the project and exits 1 where one is missed.
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom

from pipeline import dicom_writer as writer
from pipeline.images.decode import declared_pixels, stored_values
from pipeline.images.headers import read_header
from pipeline.images.limits import ImageLimits
from tests.synthetic import radiograph_header

NAMES = {
    writer.EXPLICIT_LITTLE: "uncompressed",
    writer.RLE_LOSSLESS: "RLE",
    writer.JPEG_BASELINE: "JPEG baseline",
    writer.JPEG_LOSSLESS: "lossless JPEG",
    writer.JPEG_LS_LOSSLESS: "JPEG-LS",
    writer.JPEG_2000_LOSSLESS: "JPEG 2000",
    writer.HTJ2K_LOSSLESS: "HTJ2K",
}
BARS = {writer.JPEG_LS_LOSSLESS: 3.0, writer.JPEG_BASELINE: 3.0, writer.JPEG_LOSSLESS: 2.0}


def film(side: int) -> npt.NDArray[np.uint16]:
    """12 bits [side, side]: slow waves and noise of 8 levels, as in the project's anchors."""
    y, x = np.mgrid[0:side, 0:side]
    noise = np.random.default_rng(0).normal(0, 8, (side, side))
    waves = 2048 + 1200 * np.sin(x / 300) * np.cos(y / 250)
    values: npt.NDArray[np.uint16] = np.clip(waves + noise, 0, 4095).astype(np.uint16)
    return values


def ours(path: Path) -> npt.NDArray[np.float32]:
    """File to float32 by the product's own path."""
    limits = ImageLimits()
    header = read_header(path, limits)
    return stored_values(header, declared_pixels(header, limits), 0, limits).astype(np.float32)


def default(path: Path) -> npt.NDArray[np.float32]:
    """File to float32 by pydicom's default decoder."""
    return pydicom.dcmread(path).pixel_array.astype(np.float32)


def medians(path: Path, repeat: int) -> tuple[float, float]:
    """Milliseconds of both sides, taken in turn so that a slow spell hits both."""
    times: dict[Callable[[Path], object], list[float]] = {ours: [], default: []}
    for side in times:
        side(path)
    for _ in range(repeat):
        for side, taken in times.items():
            start = time.perf_counter()
            side(path)
            taken.append((time.perf_counter() - start) * 1e3)
    return float(np.median(times[ours])), float(np.median(times[default]))


def main() -> int:
    """Print the table and the bars; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=9)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    pixels = film(asked.side)
    missed = []
    print(f"{'transfer syntax':<15}{'MB':>7}{'ours ms':>10}{'pydicom ms':>12}{'ratio':>7}  agreement")
    with tempfile.TemporaryDirectory() as folder:
        for syntax, name in NAMES.items():
            wanted = (pixels >> 4).astype(np.uint8) if syntax == writer.JPEG_BASELINE else pixels
            path = Path(folder) / "film.dcm"
            bits = 8 if wanted.dtype == np.uint8 else 12
            writer.write_radiograph(
                path, wanted, radiograph_header(), transfer_syntax=syntax, bits_stored=bits
            )
            error = np.abs(ours(path) - wanted).max()
            apart = np.abs(ours(path) - default(path)).max()
            mine, theirs = medians(path, asked.repeat)
            ratio = theirs / mine
            size = path.stat().st_size / 1e6
            print(
                f"{name:<15}{size:>7.2f}{mine:>10.1f}{theirs:>12.1f}{ratio:>7.2f}"
                f"  error {error:g}, sides apart {apart:g}"
            )
            exact = error == 0 or syntax == writer.JPEG_BASELINE
            if not exact or ratio < BARS.get(syntax, 0):
                missed.append(name)
    print("bars (JPEG-LS 3x, JPEG baseline 3x, lossless JPEG 2x, lossless exact):", missed or "met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
