"""A small segmenter, taught in seconds to find a bright ball, in the layout and pickles that nnU-Net v2 publishes.

And a CT with such a ball, whose place and size are known.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.convert_segmenter import convert
from models.families.segmenting.plans import read_plan
from models.networks.unet import UNet
from tests.ct_series import Slice, Vector

SPACING = (4.0, 4.0, 4.0)
PATCH = (16, 32, 32)
LABELS = {"background": 0, "liver": 1, "spleen": 2}
BALL, AROUND, NOISE = 150.0, 0.0, 15.0
"""HU; there is never a spleen."""


def write_plans(
    folder: Path,
    *,
    spacing: tuple[float, float, float] = SPACING,
    patch: tuple[int, int, int] = PATCH,
    labels: Mapping[str, Any] = LABELS,
    channel: str = "CT",
    layers: Mapping[str, Any] | None = None,
    **changes: Any,
) -> None:
    """``plans.json`` and ``dataset.json`` with the keys that nnU-Net 2.8 writes and reads."""
    architecture: dict[str, Any] = {
        "n_stages": 2,
        "features_per_stage": [6, 12],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [2, 2, 2]],
        "n_conv_per_stage": [2, 2],
        "n_conv_per_stage_decoder": [2],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
        **(layers or {}),
    }
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration: dict[str, Any] = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch),
        "spacing": list(spacing),
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": architecture,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        **changes,
    }
    plans = {
        "dataset_name": "Dataset900_Ball",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 75.0, "std": 75.0, "percentile_00_5": -200.0, "percentile_99_5": 300.0}
        },
        "configurations": {"3d_fullres": configuration},
    }
    dataset = {
        "channel_names": {"0": channel},
        "labels": dict(labels),
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))


def taught(folder: Path, *, steps: int = 120) -> Path:
    """The folder as nnU-Net leaves it, its one fold trained on made volumes; nothing is converted yet."""
    write_plans(folder)
    plan = read_plan(folder, "3d_fullres")
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    network = UNet(plan.shape, 1, plan.outputs)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    weight = torch.tensor([1.0, 3.0, 1.0])
    for _ in range(steps):
        images, masks = zip(*(_example(rng) for _ in range(2)), strict=True)
        loss = torch.nn.functional.cross_entropy(
            network(torch.from_numpy(np.stack(images)[:, None]))[0],
            torch.from_numpy(np.stack(masks)),
            weight,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    write_checkpoint(folder, network.eval())
    return folder


def write_segmenter(folder: Path) -> Path:
    """A folder of random weights, converted."""
    write_plans(folder)
    torch.manual_seed(0)
    write_checkpoint(folder, UNet(read_plan(folder, "3d_fullres").shape, 1, len(LABELS)))
    convert(folder)
    return folder


def write_checkpoint(folder: Path, network: UNet, *, fold: int = 0, mirrored: tuple[int, ...] = ()) -> None:
    """What ``nnUNetTrainer.save_checkpoint`` pickles: each layer under two names, numbers of numpy beside them."""
    weights: dict[str, Any] = {}
    for name, value in network.state_dict().items():
        layer = name.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")
        for one in dict.fromkeys((name, layer)):
            weights[one] = value
            if one.startswith("encoder."):
                weights[f"decoder.{one}"] = value
    checkpoint = {
        "network_weights": weights,
        "optimizer_state": None,
        "logging": {"mean_fg_dice": [np.mean([0.5, 0.7])], "train_losses": [np.float32(0.1)]},
        "_best_ema": np.float64(0.9),
        "init_args": {"configuration": "3d_fullres", "fold": fold},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": mirrored or None,
    }
    place = folder / f"fold_{fold}"
    place.mkdir(exist_ok=True)
    torch.save(checkpoint, place / "checkpoint_final.pth")


def _example(rng: np.random.Generator) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """A normalised patch with a ball somewhere, and its labels."""
    middle = [rng.uniform(4, side - 4) for side in PATCH]
    places = np.meshgrid(*(np.arange(side) for side in PATCH), indexing="ij")
    apart = np.stack([axis - at for axis, at in zip(places, middle, strict=True)])
    inside = (apart**2).sum(axis=0) < rng.uniform(3.5, 7) ** 2
    values = np.where(inside, BALL, AROUND) + rng.normal(0, NOISE, PATCH)
    return ((values - 75) / 75).astype(np.float32), inside.astype(np.int64)


@dataclass(frozen=True)
class BallSlice(Slice):
    """A plane of a CT with a ball."""

    centre: Vector = (0.0, 0.0, 0.0)
    radius: float = 24.0

    def inside(self) -> npt.NDArray[np.bool_]:
        """Which pixels lie in the ball."""
        apart = self.places() - np.array(self.centre)[:, None, None]
        return np.asarray((apart**2).sum(axis=0) < self.radius**2)

    def pixels(self) -> npt.NDArray[np.float64]:
        """HU: the ball, and noise that is the same for the same plane."""
        noise = np.random.default_rng(int(abs(self.position[2]) * 1000)).normal(
            0, NOISE, (self.rows, self.columns)
        )
        return np.rint(np.where(self.inside(), BALL, AROUND) + noise)


def ball_ct(count: int = 30, *, centre: Vector = (10.0, -6.0, 4.0), radius: float = 24.0) -> list[Slice]:
    """``count`` planes of 160 mm, 2 mm apart, from head to feet, with a ball."""
    return [
        BallSlice(
            (-80.0, -80.0, count - 2.0 * k),
            rows=200,
            columns=200,
            spacing=(0.8, 0.8),
            centre=centre,
            radius=radius,
            extra={"InstanceNumber": k + 1},
        )
        for k in range(count)
    ]
