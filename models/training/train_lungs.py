"""A small segmenter of lungs: ``python -m models.training.train_lungs --out FOLDER CT.nii.gz ...`` (nnU-Net v2 layout).

Its labels are made by a threshold (air inside the body, pieces of at least 0.4 l), so it learns no more than that, the
trachea with the lungs: it proves the way of a segmenter and is not for clinical use. One core, a few minutes.
``--judge CT.nii.gz MASK.nii.gz NUMBERS`` scores it on a CT that it has not seen against labels of organs.
"""

import argparse
import gzip
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from models.families.segmenting.folder import CONFIG_FILE, WEIGHTS_FILE
from models.families.segmenting.plans import DATASET_FILE, PLANS_FILE, Plan, read_plan
from models.families.segmenting.resampling import Interpolation, apply, matrices, resampled_shape
from models.families.segmenting.windows import Running, segment
from models.networks.unet import UNet
from models.training.prepare_maps import read_nifti

SPACING, PATCH = (5.0, 5.0, 5.0), (24, 64, 64)
FEATURES = (8, 16, 32)
AIR = -400.0
LEAST_ML = 400.0
LOW, HIGH, MEAN, DEVIATION = -1024.0, 300.0, -500.0, 400.0
Volume = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scan:
    """A CT [z, y, x] to the head, the back and the left, in HU, with its spacing in mm and labels."""

    values: Volume
    spacing: tuple[float, float, float]
    labels: NDArray[np.uint8]


def read_lps(path: Path) -> tuple[Volume, tuple[float, float, float]]:
    """Voxels [z, y, x] to the head, the back and the left by the file's sform, and their spacing."""
    head = np.frombuffer(gzip.decompress(path.read_bytes())[:348], np.uint8).tobytes()
    rows = np.frombuffer(head, "<f4", 12, 280).reshape(3, 4)[:, :3]
    values = read_nifti(path)
    axes = [int(np.argmax(np.abs(rows[world]))) for world in range(3)]
    signs = [float(np.sign(rows[world, axes[world]])) for world in range(3)]
    turned = values.transpose(axes[2], axes[1], axes[0])
    steps = (1 if signs[2] > 0 else -1, 1 if signs[1] < 0 else -1, 1 if signs[0] < 0 else -1)
    sides = np.linalg.norm(rows, axis=0)
    spacing = (float(sides[axes[2]]), float(sides[axes[1]]), float(sides[axes[0]]))
    return np.ascontiguousarray(turned[:: steps[0], :: steps[1], :: steps[2]]), spacing


def lungs_by_threshold(values: Volume, spacing: Sequence[float]) -> NDArray[np.uint8]:
    """Air that no path in its plane leads out of, in pieces of at least ``LEAST_ML``."""
    air = values < AIR
    outside = np.zeros_like(air)
    outside[:, [0, -1]], outside[:, :, [0, -1]] = air[:, [0, -1]], air[:, :, [0, -1]]
    _spread(outside, air, (1, 2))
    inside = air & ~outside
    pieces = np.where(inside, np.arange(1, inside.size + 1, dtype=np.int32).reshape(inside.shape), 0)
    _spread(pieces, inside, (0, 1, 2))
    names, counts = np.unique(pieces[inside], return_counts=True)
    large = names[counts * np.prod(spacing) / 1000 >= LEAST_ML]
    return np.isin(pieces, large).astype(np.uint8)


def _spread(marks: NDArray[np.generic], room: NDArray[np.bool_], axes: Sequence[int]) -> None:
    """The largest mark of each connected piece of ``room``, in place."""
    before = None
    while before is None or not np.array_equal(before, marks):
        before = marks.copy()
        for axis in axes:
            layers, free = np.moveaxis(marks, axis, 0), np.moveaxis(room, axis, 0)
            for order in (range(1, len(layers)), range(len(layers) - 2, -1, -1)):
                for place in order:
                    near = layers[place - order.step]
                    np.maximum(layers[place], near, out=layers[place], where=free[place])


def read_scan(path: Path) -> Scan:
    """A CT at the network's spacing, with its labels."""
    values, spacing = read_lps(path)
    new = resampled_shape(values.shape, spacing, SPACING)
    small = apply(values, matrices(values.shape, new, spacing, SPACING, Interpolation(1, 1, False)))
    return Scan(small, SPACING, lungs_by_threshold(small, SPACING))


def write_plan(folder: Path) -> Plan:
    """``plans.json`` and ``dataset.json`` of the network."""
    stages = len(FEATURES)
    layers = {
        "n_stages": stages,
        "features_per_stage": list(FEATURES),
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
    }
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "patch_size": list(PATCH),
        "spacing": list(SPACING),
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": {"network_class_name": "PlainConvUNet", "arch_kwargs": layers},
    }
    known = {"mean": MEAN, "std": DEVIATION, "percentile_00_5": LOW, "percentile_99_5": HIGH}
    plans = {
        "plans_name": "lungs by threshold",
        "transpose_forward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": known},
        "configurations": {"3d_fullres": configuration},
    }
    dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "lung": 1}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLANS_FILE).write_text(json.dumps(plans, indent=1) + "\n", encoding="utf-8")
    (folder / DATASET_FILE).write_text(json.dumps(dataset, indent=1) + "\n", encoding="utf-8")
    return read_plan(folder, "3d_fullres")


def train(plan: Plan, scans: Sequence[Scan], steps: int) -> UNet:
    """The network after ``steps`` steps of two random windows, moved in scale and brightness."""
    torch.manual_seed(7)
    rng = np.random.default_rng(7)
    network = UNet(plan.shape, 1, plan.outputs)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        images, labels = zip(*(_window(scans, rng) for _ in range(2)), strict=True)
        logits = network(torch.from_numpy(np.stack(images)[:, None]))[0]
        wanted = torch.from_numpy(np.stack(labels))
        lung, truth = logits.softmax(1)[:, 1], (wanted == 1).float()
        dice = (2 * (lung * truth).sum() + 1) / (lung.sum() + truth.sum() + 1)
        loss = torch.nn.functional.cross_entropy(logits, wanted) + 1 - dice
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def _window(scans: Sequence[Scan], rng: np.random.Generator) -> tuple[Volume, NDArray[np.int64]]:
    scan = scans[int(rng.integers(len(scans)))]
    low = [
        int(rng.integers(max(1, have - side + 1)))
        for have, side in zip(scan.values.shape, PATCH, strict=True)
    ]
    part = tuple(slice(at, at + side) for at, side in zip(low, PATCH, strict=True))
    image = (np.clip(scan.values[part], LOW, HIGH) - MEAN) / DEVIATION
    image = image * rng.uniform(0.9, 1.1) + rng.uniform(-0.1, 0.1)
    image = image + rng.normal(0, rng.uniform(0, 0.1), image.shape)
    room = [(0, side - have) for side, have in zip(PATCH, image.shape, strict=True)]
    labels = scan.labels[part].astype(np.int64)
    return np.pad(image, room).astype(np.float32), np.pad(labels, room)


def overlap(network: UNet, plan: Plan, scan: Path, truth: Path, numbers: Sequence[int]) -> float:
    """Dice of what the network finds in a CT and the ``numbers`` of a mask, on the voxels of the CT."""
    values, spacing = read_lps(scan)
    wanted = np.isin(read_lps(truth)[0], numbers)

    def run(windows: Volume) -> Volume:
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(windows))[0].numpy())

    found = segment(values, spacing, plan, Running([run])) == 1
    return float(2 * (found & wanted).sum() / (found.sum() + wanted.sum()))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--judge", nargs=3, metavar=("CT", "MASK", "NUMBERS"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    plan = write_plan(given.out)
    network = train(plan, [read_scan(path) for path in given.scans], given.steps)
    place = given.out / "fold_0"
    place.mkdir(exist_ok=True)
    save_file(network.state_dict(), place / WEIGHTS_FILE)
    told = {"configuration": plan.configuration, "mirrored": [], "trainer": "lungs by threshold"}
    (place / CONFIG_FILE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"taught in {time.process_time() - began:.0f} s of one core\n")
    if given.judge:
        scan, mask, numbers = given.judge
        dice = overlap(network, plan, Path(scan), Path(mask), [int(one) for one in numbers.split(",")])
        sys.stdout.write(f"Dice {dice:.3f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
