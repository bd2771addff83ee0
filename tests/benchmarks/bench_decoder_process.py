"""What a process of its own costs a decoder: the same films decoded there and in this process, in turn, in one run.

    python -m tests.benchmarks.bench_decoder_process [--side 2048] [--repeat 15]

Printed for each transfer syntax: milliseconds and CPU milliseconds from file to stored values, the decoder's process
included, on both sides. The medians are over rounds in which both sides take turns.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs

from pipeline import dicom_writer as writer
from pipeline.images import decoder_process
from pipeline.images.decode import declared_pixels, stored_values
from pipeline.images.decoder_program import DECODERS
from pipeline.images.headers import read_header
from pipeline.images.limits import ImageLimits
from tests.benchmarks.bench_decode import NAMES, film
from tests.benchmarks.bench_receive import cpu_seconds
from tests.synthetic import radiograph_header

LIMITS = ImageLimits()


def here(decoder: str, frame: bytes, _: int) -> Any:
    """As the decoder's process does it, in this one."""
    function, options = DECODERS[decoder]
    return getattr(imagecodecs, function)(frame, **options)


def decoded(path: Path) -> None:
    header = read_header(path, LIMITS)
    stored_values(header, declared_pixels(header, LIMITS), 0, LIMITS)


def cpu_ms() -> float:
    """CPU of this process and of the decoders that wait."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = sum(cpu_seconds(one._process.pid) for one in decoder_process._POOL._idle)
    return (own.ru_utime + own.ru_stime + children) * 1e3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=15)
    asked = parser.parse_args()
    apart = decoder_process.decode
    sides: dict[str, Callable[..., Any]] = {"here": here, "apart": apart}
    print(f"{'':14}{'ms here':>9}{'apart':>8}{'more':>7}   {'CPU ms here':>12}{'apart':>8}{'more':>7}")
    with tempfile.TemporaryDirectory() as folder:
        for syntax, name in NAMES.items():
            if syntax in (writer.EXPLICIT_LITTLE, writer.RLE_LOSSLESS):
                continue
            path, pixels = Path(folder) / "film.dcm", film(asked.side)
            bits = 8 if syntax == writer.JPEG_BASELINE else 12
            stored = (pixels >> 4).astype("u1") if bits == 8 else pixels
            writer.write_radiograph(
                path,
                stored,
                radiograph_header(),
                transfer_syntax=syntax,
                photometric="MONOCHROME2",
                bits_stored=bits,
            )
            taken: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
            for number in range(asked.repeat + 1):
                for side, decode in sides.items():
                    decoder_process.decode = decode
                    cpu, start = cpu_ms(), time.perf_counter()
                    decoded(path)
                    decoded(path)
                    if number:
                        taken[side].append(((time.perf_counter() - start) * 500, (cpu_ms() - cpu) / 2))
            wall = {side: statistics.median(one for one, _ in found) for side, found in taken.items()}
            cpus = {side: statistics.mean(one for _, one in found) for side, found in taken.items()}
            print(
                f"{name:14}{wall['here']:9.1f}{wall['apart']:8.1f}{wall['apart'] - wall['here']:7.1f}   "
                f"{cpus['here']:12.1f}{cpus['apart']:8.1f}{cpus['apart'] - cpus['here']:7.1f}"
            )
    decoder_process.decode = apart


if __name__ == "__main__":
    main()
