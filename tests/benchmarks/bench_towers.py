"""The towers of every family on the CPU: our runner against torch, ONNX Runtime and OpenVINO, one run, same weights.

    python -m tests.benchmarks.bench_towers [NAME ...] [--rounds 5] [--threads N] [--kept FOLDER] [--runner RUNNER]

Published widths, random weights, a few layers (``tests.benchmarks.towers``), float32. A side is a runner; ours is what
``open_tower`` takes unasked, or with ``--runner openvino-cpu`` what it takes where ``model.require_runner`` says so.
Sides run in turns over the same batch; medians over the rounds. The bar is 0.97 of the best peer of each family.
``--threads 1`` prints processor time that other work on the machine disturbs least. ``--kept`` is a folder for the
exported graphs.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path

import torch

from models.families.towers import Tower, ensure_tower, open_tower
from models.runners.encoder import EXPORT_SOURCES, OnnxEncoder, TorchEncoder, largest_error
from tests.benchmarks import towers
from tests.benchmarks.runner_peers import Run, openvino_sides, plain_session

BAR = 0.97
LEAST_SECONDS = 0.5


def timed(run: Run) -> tuple[float, float]:
    """Seconds, and seconds of processor time, of one run; over at least ``LEAST_SECONDS``."""
    runs, began, used = 0, time.perf_counter(), time.process_time()
    while (took := time.perf_counter() - began) < LEAST_SECONDS:
        run()
        runs += 1
    return took / runs, (time.process_time() - used) / runs


def compare(name: str, cache: Path, rounds: int, threads: int, runner: str) -> bool:
    """Print a family's table; True where ours is within the bar."""
    torch.manual_seed(0)
    source = towers.TOWERS[name]()
    shaping = (Path(towers.__file__), *EXPORT_SOURCES, *_sources())
    tower = Tower(f"bench-{name}", {"made": "0"}, shaping, lambda: source, lambda: source, source.size)
    graph = ensure_tower(tower, cache).encoder
    with ExitStack() as stack:
        ours = stack.enter_context(open_tower(tower, cache, runner, threads)[0])
        graph_alone = stack.enter_context(OnnxEncoder(graph, threads=threads))
        reference = stack.enter_context(TorchEncoder(source))
        peers: dict[str, Run] = {
            "torch": lambda: reference.encode(source.inputs),
            "onnxruntime": plain_session(graph, source, threads),
            **openvino_sides(graph, source, threads),
        }
        mine = f"ours ({ours.runner})"
        sides = peers | {mine: lambda: ours.encode(source.inputs)}
        if ours.runner != graph_alone.runner:
            sides["ours (onnxruntime-cpu)"] = lambda: graph_alone.encode(source.inputs)
        wanted = reference.encode(source.inputs)
        errors = {side: largest_error(run(), wanted) for side, run in sides.items()}
        figures: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, run in sides.items():
                figures[side].append(timed(run))
    middle = {
        side: tuple(statistics.median(one[kind] for one in values) for kind in (0, 1))
        for side, values in figures.items()
    }
    best = [min(peers, key=lambda side: middle[side][kind]) for kind in (0, 1)]
    print(f"{name}: {', '.join(f'{key} {value.shape}' for key, value in source.inputs.items())}")
    for side, (wall, used) in middle.items():
        print(
            f"  {side:24} {wall * 1e3:8.1f} ms [{min(figures[side])[0] * 1e3:.1f}-{max(figures[side])[0] * 1e3:.1f}]"
            f", CPU {used * 1e3:8.1f} ms, error {errors[side]:.1e}"
        )
    share = [middle[best[kind]][kind] / middle[mine][kind] for kind in (0, 1)]
    print(f"  ours / best: {share[0]:.2f} ({best[0]}), by CPU {share[1]:.2f} ({best[1]})", flush=True)
    return share[0] >= BAR


def _sources() -> list[Path]:
    import models.families.native.qwen3_tower as qwen3
    import models.families.native.qwen_tower as qwen
    import models.families.native.seeing as seeing

    return [Path(str(one.__file__)) for one in (qwen, qwen3, seeing)]


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", choices=[[], *towers.TOWERS])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--runner", default="")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory(prefix="firstread-bench-") as folder:
        met = [
            compare(name, asked.kept or Path(folder), asked.rounds, asked.threads, asked.runner)
            for name in asked.names or towers.TOWERS
        ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
