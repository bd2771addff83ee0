"""What the features of one study hold of its images: UMIT with a folder per task, a series of 32 slices.

``python -m tests.benchmarks.bench_kept`` prints MB a study: the bytes kept beside the tokens, and the growth of the
process over eight studies, and its peak. The network is small and random; what is kept of the images does not depend on
it.
"""

import gc
import json
import resource
import shutil
import tempfile
from pathlib import Path

import numpy as np
import psutil

from models.catalog import show
from models.families.native.qwen import open_qwen
from models.model_choice import ModelChoice
from pipeline.study import ImageSet, InstanceRef, StudyImage
from tests.tiny_qwen import write_qwen

STUDIES, SLICES, SIDE = 8, 32, 512


def series(number: int) -> ImageSet:
    """A CT of ``SLICES`` slices of noise."""
    generator = np.random.default_rng(number)
    images = [
        StudyImage(
            InstanceRef(f"1.{number}", f"1.{number}.1", f"1.{number}.1.{place}"), 0,
            generator.random((SIDE, SIDE), np.float32), SIDE, SIDE, None, "CT", "CHEST", "", "MONOCHROME2",
        )
        for place in range(SLICES)
    ]  # fmt: skip
    return ImageSet(f"1.{number}", tuple(images))


def main() -> None:
    """Encode, and count."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "umit"
        write_qwen(weights / "report", "qwen2-vl")
        shutil.copytree(weights / "report", weights / "vqa")
        with open_qwen(
            show("umit"), ModelChoice("umit", weights, threads=1), Path(folder) / "cache"
        ) as family:
            for number in (97, 98, 99):  # until the runner's own memory has grown
                family.encode([series(number)])
            before = psutil.Process().memory_info().rss
            held = [family.encode([series(number)])[0] for number in range(STUDIES)]
            gc.collect()
            grown = (psutil.Process().memory_info().rss - before) / STUDIES / 1e6
    kept = 0
    for name, array in held[0].arrays.items():
        if array.dtype == object:  # as versions before this kept the study itself
            kept += sum(image.pixels.nbytes for image in array.item().images)
        elif name not in ("features", "grids", "modality"):
            kept += array.nbytes
    figures = {
        "kept_mb_a_study": round(kept / 1e6, 1),
        "rss_growth_mb_a_study": round(grown, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
