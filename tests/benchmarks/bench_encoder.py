"""Encoding films on the CPU: the exported graph on ONNX Runtime against torch, same weights, same films.

    python -m tests.benchmarks.bench_encoder [--weights FOLDER] [--rounds 7] [--threads 0]

Both sides in one process, in turn; torch runs with every core. Prints films per second (medians over the rounds), the
ratio, the largest relative difference, and what a first and a warm start of the family cost.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from models.catalog import show
from models.families.mini.export import encoder_source, load_network
from models.families.mini.mini_family import MiniFamily, ensure_mini_graphs
from models.runners.encoder import OnnxEncoder, TorchEncoder, VisionEncoder, largest_error

BATCHES = (1, 2, 8, 16)
LEAST_SECONDS = 0.3


def films_per_second(encoder: VisionEncoder, inputs: dict[str, np.ndarray]) -> float:
    """Films per second over at least ``LEAST_SECONDS``."""
    count, runs, started = len(inputs["pixels"]), 0, time.perf_counter()
    while (took := time.perf_counter() - started) < LEAST_SECONDS:
        encoder.encode(inputs)
        runs += 1
    return count * runs / took


def start_seconds(weights: Path, cache: Path) -> float:
    """Seconds to open the family."""
    started = time.perf_counter()
    with MiniFamily(show("firstread-mini"), weights, cache):
        return time.perf_counter() - started


def compare(weights: Path, cache: Path, rounds: int, threads: int) -> None:
    """Print the table."""
    print(
        f"first start {start_seconds(weights, cache):.1f} s, warm start {start_seconds(weights, cache):.2f} s"
    )
    network = load_network(weights)
    graph = ensure_mini_graphs(show("firstread-mini"), weights, cache).encoder
    size = network.config.vision.image_size
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    with OnnxEncoder(graph, threads=threads) as ours, TorchEncoder(encoder_source(network)) as reference:
        for batch in BATCHES:
            pixels = np.random.default_rng(batch).random((batch, 1, size, size), dtype=np.float32)
            inputs: dict[str, np.ndarray] = {"pixels": pixels}
            error = largest_error(ours.encode(inputs), reference.encode(inputs))
            pairs = [
                (films_per_second(ours, inputs), films_per_second(reference, inputs)) for _ in range(rounds)
            ]
            mine, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
            print(
                f"batch {batch:2}: {ours.runner} {mine:6.1f} films/s, torch {theirs:6.1f} films/s, "
                f"ratio {mine / theirs:.2f}, largest relative difference {error:.1e}"
            )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, default=Path("models/weights/firstread-mini"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="firstread-bench-") as folder:
        compare(asked.weights, Path(folder), asked.rounds, asked.threads)


if __name__ == "__main__":
    main()
