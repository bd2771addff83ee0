"""firstread-mini's encoder in 8 bits against float32: speed, and what it does to the drafts.

    python -m tests.benchmarks.bench_precision [--studies 200] [--rounds 5] [--cache FOLDER]

Both encoders in one process, in turn, each with every core. Then both read the same simulated studies, which training
never saw, and the same decoder writes the reports: how many drafts are the same text, and what each scores.
Exits with 1 where the 8-bit encoder is less than 1.7 times as fast on a CPU with VNNI instructions, or its drafts'
macro F1 is more than a hundredth below.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from models.catalog import show
from models.families.mini.int8 import open_small_encoder
from models.families.mini.mini_family import ensure_mini_graphs
from models.networks.mini import load_mini, load_tokenizer
from models.runners.encoder import OnnxEncoder, VisionEncoder
from models.runners.quantize import has_vnni
from models.training.measure import Examiner
from models.training.scoring import score_reports
from models.training.unseen import unseen_studies

WEIGHTS = Path("models/weights/firstread-mini")
RATIO, MOST_LOST = 1.7, 0.01
BATCH, LEAST_SECONDS = 8, 0.5


def films_per_second(encoder: VisionEncoder, films: np.ndarray) -> float:
    """Films per second over at least ``LEAST_SECONDS``."""
    runs, started = 0, time.perf_counter()
    while (took := time.perf_counter() - started) < LEAST_SECONDS:
        encoder.encode({"pixels": films})
        runs += 1
    return len(films) * runs / took


def compare(cache: Path, count: int, rounds: int) -> bool:
    """Print the figures; True where both bars hold."""
    threads = len(os.sched_getaffinity(0))
    network, tokenizer = load_mini(WEIGHTS), load_tokenizer(WEIGHTS)
    size = network.config.vision.image_size
    graph = ensure_mini_graphs(show("firstread-mini"), WEIGHTS, cache).encoder
    small, _ = open_small_encoder(graph, size, threads)
    films = np.random.default_rng(0).random((BATCH, 1, size, size), np.float32)
    with OnnxEncoder(graph, threads=threads) as exact, small:
        sides = {"fp32": exact, "int8": small}
        speeds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, encoder in sides.items():
                speeds[name].append(films_per_second(encoder, films))
        torch.set_num_threads(threads)
        samples = unseen_studies(count, size, cache)
        texts, macro = {}, {}
        for name, encoder in sides.items():
            examiner = Examiner(network, tokenizer, samples, encoder)
            texts[name], facts = examiner.drafts("en", "frontal")
            score = score_reports(texts[name], facts)
            boxes = examiner.regions("en")
            macro[name] = score.macro_f1
            fast = speeds[name]
            print(
                f"{name}: {statistics.median(fast):6.1f} films/s [{min(fast):.1f}-{max(fast):.1f}]  "
                f"macro F1 {score.macro_f1:.3f}, side of found {score.side_of_found:.3f}, "
                f"severity {score.severity_of_found:.3f}, normal {score.normal_as_normal:.3f}, boxes {boxes}",
                flush=True,
            )
    ratio = statistics.median(speeds["int8"]) / statistics.median(speeds["fp32"])
    same = sum(one == other for one, other in zip(texts["fp32"], texts["int8"], strict=True)) / count
    vnni = "with" if has_vnni() else "without"
    print(
        f"int8 / fp32 {ratio:.2f} (bar {RATIO}; this CPU is {vnni} VNNI), {100 * same:.1f} % of drafts the same"
    )
    return (ratio >= RATIO or not has_vnni()) and macro["int8"] >= macro["fp32"] - MOST_LOST


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=Path, help="keep graphs and rendered studies here")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="firstread-bench-") as folder:
        sys.exit(0 if compare(asked.cache or Path(folder), asked.studies, asked.rounds) else 1)


if __name__ == "__main__":
    main()
