"""A ViT-S at 224 px on the CPU: our runner against torch, ONNX Runtime and OpenVINO, one run, same random weights.

    python -m tests.benchmarks.bench_vit [--rounds 7] [--batch 8]

Float32 first: ours must be within 5 % of the best of the three. Then our 8-bit encoder (``quantize``) against
that best, bar 1.7 on a CPU that has VNNI instructions. OpenVINO is told its precision: by default it picks bf16 where
the CPU has it. Every side uses every core and hands the features over; medians over the rounds, sides in turn.
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
from transformers import ViTConfig, ViTModel

from models.runners.encoder import EncoderSource, OnnxEncoder, TorchEncoder, export_encoder
from models.runners.quantize import has_vnni, quantised_graph
from tests.benchmarks.runner_peers import Run, openvino_sides, plain_session

FP32_SHARE, INT8_RATIO = 0.95, 1.7
LEAST_SECONDS = 0.6


class _Tower(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        config = ViTConfig(
            hidden_size=384,
            num_attention_heads=6,
            intermediate_size=1536,
            num_hidden_layers=12,
            image_size=224,
        )
        self.tower = ViTModel(config, add_pooling_layer=False)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.tower(pixel_values=pixels).last_hidden_state,)


def images_per_second(run: Run, count: int) -> float:
    """Images per second over at least ``LEAST_SECONDS``."""
    runs, started = 0, time.perf_counter()
    while (took := time.perf_counter() - started) < LEAST_SECONDS:
        run()
        runs += 1
    return count * runs / took


def compare(folder: Path, rounds: int, batch: int) -> bool:
    """Print both tables; True where the bars that this CPU can be held to are met."""
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    pixels = np.random.default_rng(0).standard_normal((batch, 3, 224, 224)).astype(np.float32)
    source = EncoderSource(_Tower().eval(), {"pixels": pixels[:2]}, ("features",))
    graph = folder / "vit.onnx"
    export_encoder(source, graph)
    inputs = {"pixels": pixels}
    whole_batch = EncoderSource(source.module, inputs, source.outputs)
    with (
        OnnxEncoder(graph, threads=threads) as ours,
        OnnxEncoder(quantised_graph(graph), threads=threads) as small,
        TorchEncoder(source) as reference,
    ):
        sides: dict[str, Run] = {
            "torch": lambda: reference.encode(inputs),
            "onnxruntime": plain_session(graph, whole_batch, threads),
            **openvino_sides(graph, whole_batch, threads),
        }
        peers = tuple(sides)
        sides |= {"ours": lambda: ours.encode(inputs), "ours, int8": lambda: small.encode(inputs)}
        figures: dict[str, list[float]] = {name: [] for name in sides}
        for run in sides.values():
            run()
        for _ in range(rounds):
            for name, run in sides.items():
                figures[name].append(images_per_second(run, batch))
        exact = ours.encode(inputs)["features"]
        error = float(np.abs(small.encode(inputs)["features"] - exact).max() / np.abs(exact).max())
    middle = {name: statistics.median(values) for name, values in figures.items()}
    for name, values in figures.items():
        print(f"{name:18} {middle[name]:6.1f} images/s [{min(values):.1f}-{max(values):.1f}]")
    best = max(peers, key=lambda name: middle[name])
    whole, reduced = middle["ours"] / middle[best], middle["ours, int8"] / middle[best]
    print(f"fp32: ours / {best} {whole:.2f} (bar {FP32_SHARE})")
    vnni = "with" if has_vnni() else "without"
    print(f"int8: ours / {best} in fp32 {reduced:.2f} (bar {INT8_RATIO}; this CPU is {vnni} VNNI), ", end="")
    print(f"largest relative difference of the features {error:.1e}")
    return whole >= FP32_SHARE and (reduced >= INT8_RATIO or not has_vnni())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=8)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="firstread-bench-") as folder:
        sys.exit(0 if compare(Path(folder), asked.rounds, asked.batch) else 1)


if __name__ == "__main__":
    main()
