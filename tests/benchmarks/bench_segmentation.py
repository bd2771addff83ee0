"""A CT through a segmenter's network, window by window: OpenVINO as the product runs it, against torch.

    python -m tests.benchmarks.bench_segmentation [--rounds 3] [--cores 2] [--base 16] [--patch 64]

A network of nnU-Net's shape (five stages, instance normalisation) with random weights, one made volume; resampling,
windows and labels are the same code on all sides, which are taken in turn. Torch runs eagerly, a window at a time, as
nnU-Net's predictor does; ONNX Runtime runs where OpenVINO is not installed. Prints times of the wall and of the
processors, and how many labels are equal. Exits 1 where a bar of the project is missed: 0.6 of torch's time, labels
equal in 99.99 % of voxels.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import torch

from models.families.segmenting.plans import Plan, read_plan
from models.families.segmenting.segmenter import INPUT, OUTPUT
from models.families.segmenting.windows import Running, segment
from models.networks.unet import UNet
from models.runners.encoder import EncoderSource, OnnxEncoder, VisionEncoder, export_encoder
from models.runners.openvino_encoder import open_openvino
from models.weight_loading.verified import fixed_pixels
from tests.taught_segmenter import write_plans

BAR, EQUAL = 0.6, 0.9999
Array = npt.NDArray[np.float32]


def plan_of(folder: Path, base: int, patch: int) -> Plan:
    """Five stages from ``base`` features on, windows of ``patch`` voxels a side."""
    layers = {
        "n_stages": 5,
        "features_per_stage": [min(base * 2**stage, 320) for stage in range(5)],
        "kernel_sizes": [[3, 3, 3]] * 5,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * 4],
        "n_conv_per_stage": [2] * 5,
        "n_conv_per_stage_decoder": [2] * 4,
    }
    labels = {"background": 0, **{f"structure_{number}": number for number in range(1, 8)}}
    write_plans(folder, spacing=(1.5, 1.5, 1.5), patch=(patch, patch, patch), labels=labels, layers=layers)
    return read_plan(folder, "3d_fullres")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--base", type=int, default=16)
    parser.add_argument("--patch", type=int, default=64)
    given = parser.parse_args()
    torch.set_num_threads(given.cores)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        plan = plan_of(Path(folder), given.base, given.patch)
        network = UNet(plan.shape, 1, plan.outputs).eval()
        pattern = fixed_pixels((2, 1, *plan.patch)) * np.float32(2) - np.float32(1)
        graph = Path(folder) / "graph.onnx"
        export_encoder(EncoderSource(network, {INPUT: pattern}, (OUTPUT,)), graph)
        rng = np.random.default_rng(0)
        side = given.patch * 3 // 2
        image = np.kron(rng.normal(0, 200, (side // 8,) * 3), np.ones((8, 8, 8))).astype(np.int16)

        def eager(windows: Array) -> Array:
            with torch.inference_mode():
                return np.asarray(network(torch.from_numpy(windows))[0].numpy())

        def by(encoder: VisionEncoder) -> Running:
            return Running(
                [lambda windows: np.asarray(encoder.encode({INPUT: windows})[OUTPUT])], batch=given.cores
            )

        ours = open_openvino(graph, threads=given.cores)
        assert ours is not None, "OpenVINO is not installed, or does not run this network"
        with ours, OnnxEncoder(graph, threads=given.cores) as other:
            sides = {"torch": Running([eager], batch=1), "openvino": by(ours), "onnxruntime": by(other)}
            return report(sides, lambda running: segment(image, (1.5, 1.5, 1.5), plan, running), given.rounds)


def report(
    sides: dict[str, Running], run: Callable[[Running], npt.NDArray[np.unsignedinteger]], rounds: int
) -> int:
    """Both sides in turn; the ratio of their medians."""
    walls: dict[str, list[float]] = {name: [] for name in sides}
    spent: dict[str, list[float]] = {name: [] for name in sides}
    labels = {name: run(running) for name, running in sides.items()}  # both warm
    for _ in range(rounds):
        for name, running in sides.items():
            began, used = time.perf_counter(), time.process_time()
            labels[name] = run(running)
            walls[name].append(time.perf_counter() - began)
            spent[name].append(time.process_time() - used)
    wall = median(walls["openvino"]) / median(walls["torch"])
    cpu = median(spent["openvino"]) / median(spent["torch"])
    equal = float(np.mean(labels["openvino"] == labels["torch"]))
    for name in sides:
        print(f"{name}: {median(walls[name]):.2f} s, {median(spent[name]):.2f} s of processors")
    print(f"ratio {wall:.3f} (processors {cpu:.3f}), bar {BAR}; labels equal in {100 * equal:.4f} %")
    return int(wall > BAR or equal < EQUAL)


if __name__ == "__main__":
    sys.exit(main())
