"""What nnU-Net's own predictor makes of small random networks: ``python run_nnunet.py OUT.npz`` (nnunetv2 2.8.1, CPU).

``labels`` are its own; ``single`` are those with its sums of windows in single precision instead of half, which is all
that is changed. The networks are random, so that their outputs lie as close to each other as can be.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.update(nnUNet_raw="/tmp", nnUNet_preprocessed="/tmp", nnUNet_results="/tmp")

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from scipy.ndimage import gaussian_filter

CASES = {
    "plain": {},
    "residual": {"residual": True},
    "coarse": {
        "spacing": (5.0, 1.5, 1.5),
        "patch": (8, 16, 16),
        "mirror": (0, 1, 2),
        "image_spacing": (5.0, 0.8, 0.9),
    },
    "turned": {"forward": (2, 0, 1), "patch": (16, 16, 16)},
    "masked": {"norm": "ZScoreNormalization", "channel": "T1", "mask": True},
    "regions": {"regions": True},
    "folds": {"folds": 2, "old": True},
}


def plans_of(
    residual=False,
    spacing=(2.0, 1.5, 1.5),
    patch=(8, 16, 16),
    forward=(0, 1, 2),
    norm="CTNormalization",
    mask=False,
    old=False,
    **_,
):
    kernels, strides = [[1, 3, 3], [3, 3, 3]], [[1, 1, 1], [2, 2, 2]]
    layers = {
        "n_stages": 2,
        "features_per_stage": [4, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": kernels,
        "strides": strides,
        ("n_blocks_per_stage" if residual else "n_conv_per_stage"): [1, 2],
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    name = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "x",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch),
        "median_image_size_in_voxels": [20, 30, 30],
        "spacing": list(spacing),
        "normalization_schemes": [norm],
        "use_mask_for_norm": [mask],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "batch_dice": True,
    }
    if old:
        configuration |= {
            "UNet_class_name": name,
            "UNet_base_num_features": 4,
            "unet_max_num_features": 320,
            "n_conv_per_stage_encoder": [1, 2],
            "n_conv_per_stage_decoder": [1],
            "num_pool_per_axis": [1, 1, 1],
            "pool_op_kernel_sizes": strides,
            "conv_kernel_sizes": kernels,
        }
    else:
        configuration["architecture"] = {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
            "arch_kwargs": layers,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }
    plans = {
        "dataset_name": "Dataset001_Small",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(forward),
        "transpose_backward": [int(one) for one in np.argsort(forward)],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {
                "max": 900.0,
                "mean": 40.0,
                "median": 35.0,
                "min": -900.0,
                "percentile_00_5": -400.0,
                "percentile_99_5": 400.0,
                "std": 200.0,
            }
        },
        "configurations": {"3d_fullres": configuration},
    }
    return plans, f"dynamic_network_architectures.architectures.unet.{name}", layers


def predictor(folder, mirror):
    made = nnUNetPredictor(
        use_mirroring=mirror is not None,
        device=torch.device("cpu"),
        allow_tqdm=False,
        perform_everything_on_device=False,
    )
    made.initialize_from_trained_model_folder(str(folder), None)
    return made


def run(name, case, out):
    plans, class_name, layers = plans_of(**case)
    regions = case.get("regions", False)
    labels = (
        {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "inner": 3}
        if regions
        else {"background": 0, "liver": 1, "spleen": 2, "kidney_left": 3}
    )
    dataset = {
        "channel_names": {"0": case.get("channel", "CT")},
        "labels": labels,
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    if regions:
        dataset["regions_class_order"] = [1, 2, 3]
    folder = Path(tempfile.mkdtemp())
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    out[f"{name}/plans"], out[f"{name}/dataset"] = json.dumps(plans), json.dumps(dataset)
    out[f"{name}/mirror"] = np.array(case.get("mirror") or (), int)
    for fold in range(case.get("folds", 1)):
        torch.manual_seed(fold + len(name))
        network = get_network_from_plans(
            class_name,
            layers,
            ["conv_op", "norm_op", "dropout_op", "nonlin"],
            1,
            3 if regions else 4,
            deep_supervision=False,
        )
        (folder / f"fold_{fold}").mkdir()
        torch.save(
            {
                "network_weights": network.state_dict(),
                "init_args": {"configuration": "3d_fullres"},
                "trainer_name": "nnUNetTrainer",
                "inference_allowed_mirroring_axes": case.get("mirror"),
            },
            folder / f"fold_{fold}" / "checkpoint_final.pth",
        )
        for key, value in network.state_dict().items():
            if ".all_modules." not in key and not key.startswith("decoder.encoder."):
                out[f"{name}/fold_{fold}/{key}"] = value.numpy()
    values = gaussian_filter(np.random.default_rng(len(name)).normal(size=(14, 30, 34)), 2)
    image = np.rint(values / values.std() * 200).astype(np.int16)
    if case.get("mask"):
        image[:, :5], image[:, :, 28:], image[6:8, 12:16, 12:16], image[5, 5:20, 9] = 0, 0, 0, 0
    spacing = case.get("image_spacing", (2.5, 0.8, 0.9))
    out[f"{name}/image"], out[f"{name}/spacing"] = image, np.array(spacing)
    half = torch.half
    for key, kind in (("labels", half), ("single", torch.float32)):
        torch.half = kind
        try:
            made = predictor(folder, case.get("mirror"))
            told = made.predict_single_npy_array(
                image[None].astype(np.float32), {"spacing": list(spacing)}, None, None, False
            )
        finally:
            torch.half = half
        out[f"{name}/{key}"] = told.astype(np.uint8)


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {}
    for name, case in CASES.items():
        run(name, case, found)
    np.savez_compressed(sys.argv[1], **found)
