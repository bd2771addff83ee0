"""What MONAI makes of small random bundles: ``python run_monai.py OUT.npz`` (MONAI 1.6.1 with nibabel, CPU).

Each bundle's own configuration is built by MONAI's ConfigParser; the networks are random, so that their outputs lie as
close to each other as can be.
"""

import json
import sys

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

UNET = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 8, 16],
    "strides": [2, 2],
    "num_res_units": 2,
    "norm": "batch",
}
PLAIN = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 6],
    "strides": [2],
    "norm": ["INSTANCE", {"affine": True}],
    "act": "RELU",
}
SEG_RES_NET = {
    "_target_": "SegResNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "init_filters": 8,
    "blocks_down": [1, 1],
    "blocks_up": [1],
    "dropout_prob": 0.2,
}
DYN_UNET = {
    "_target_": "DynUNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "kernel_size": [3, [3, 3, 1], 3],
    "strides": [1, 2, [2, 2, 1]],
    "upsample_kernel_size": [2, [2, 2, 1]],
    "filters": [4, 6, 8],
    "norm_name": "instance",
    "res_block": True,
    "deep_supervision": True,
}
RANGE = {
    "_target_": "ScaleIntensityRanged",
    "keys": "image",
    "a_min": -57,
    "a_max": 164,
    "b_min": 0,
    "b_max": 1,
    "clip": True,
}
NORMAL = [
    {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True},
    {"_target_": "ScaleIntensityd", "keys": "image", "minv": -1.0, "maxv": 1.0},
]
CASES = {
    "range-last": (UNET, [RANGE], False, {"overlap": 0.5}, {"nearest_interp": False}, True),
    "range-first": (
        PLAIN,
        [RANGE],
        True,
        {"overlap": 0.25, "mode": "gaussian"},
        {"nearest_interp": False},
        True,
    ),
    "normal": (
        SEG_RES_NET,
        NORMAL,
        False,
        {"overlap": 0.625, "mode": "gaussian"},
        {"nearest_interp": False},
        False,
    ),
    "dyn": (DYN_UNET, [RANGE], False, {"overlap": 0.5}, {"nearest_interp": False}, True),
    "nearest": (PLAIN, [RANGE], False, {}, {}, True),
}


def configuration(network, values, first, windows, back, softmax, orientation="RAS"):
    space = [{"_target_": "Spacingd", "keys": "image", "pixdim": "@pixdim", "mode": "bilinear"}]
    steps = [{"_target_": "Orientationd", "keys": "image", "axcodes": orientation}]
    steps += [*values, *space] if first else [*space, *values]
    after = [{"_target_": "Activationsd", "keys": "pred", "softmax": True}] if softmax else []
    after += [
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "to_tensor": True,
            **back,
        },
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
    ]
    return {
        "imports": ["$import glob"],
        "fine": True,
        "pixdim": "$[2.0, 2.5, 3.0] if @fine else [4.0, 4.0, 4.0]",
        "device": "$torch.device('cpu')",
        "network_def": network,
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": [16, 16, 16],
            "sw_batch_size": 2,
            **windows,
        },
        "postprocessing": {"_target_": "Compose", "transforms": after},
    }


def run(config, image, affine, seed, filled=lambda network: network):
    torch.manual_seed(seed)
    parser = ConfigParser({key: value for key, value in config.items() if key not in ("imports", "device")})
    network = filled(parser.get_parsed_content("network_def").eval())
    for name, value in network.named_buffers():
        if name.endswith("running_mean"):
            value.normal_(0, 0.1)
    preprocessing = parser.get_parsed_content("preprocessing")
    data = preprocessing(
        {"image": MetaTensor(torch.from_numpy(image)[None].float(), affine=torch.from_numpy(affine))}
    )
    with torch.inference_mode():
        data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], network)[0]
    found = parser.get_parsed_content("postprocessing")(data)["pred"][0]
    return network.state_dict(), np.asarray(found)


def main():
    rng = np.random.default_rng(1)
    coarse = rng.normal(0, 120, (6, 5, 6))
    image = np.kron(coarse, np.ones((5, 6, 4)))[:28, :27, :22] + rng.normal(0, 20, (28, 27, 22))
    image = np.round(image).astype(np.int16)  # x, y, z
    affine = np.diag([-1.7, 1.3, 4.0, 1.0])  # x runs to the left: the first axis is turned
    affine[:3, 3] = 20, -30, 5
    out = {"image": image, "affine": affine}
    for name, said in CASES.items():
        config = configuration(*said)
        for seed in range(50):  # the first in which no class is rare
            weights, labels = run(config, image, affine, seed)
            if np.bincount(labels.astype(int).ravel(), minlength=3).min() > labels.size / 20:
                break
        out[f"{name}/configuration"] = np.array(json.dumps(config))
        out[f"{name}/labels"] = labels.astype(np.uint8)
        for key, value in weights.items():
            out[f"{name}/weights/{key}"] = value.numpy()
        print(name, np.bincount(labels.astype(int).ravel()), sum(v.numel() for v in weights.values()))
    np.savez_compressed(sys.argv[1], **out)


if __name__ == "__main__":
    main()
