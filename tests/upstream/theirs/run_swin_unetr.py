"""What MONAI makes of SwinUNETRs whose weights follow from their names: ``python run_swin_unetr.py OUT.npz`` (MONAI
1.6.1, CPU). Logits of two networks at every fourth voxel, and the labels of a bundle, run by MONAI's own steps.
"""

import json
import sys
import zlib

import numpy as np
import torch
from monai.networks.nets import SwinUNETR
from run_monai import RANGE, configuration, run

SMALL = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "feature_size": 12,
    "num_heads": [2, 2, 4, 4],
}
CASES = {
    "first": {**SMALL, "img_size": 96, "depths": [2, 1, 2, 1], "use_checkpoint": True},
    "second": {
        **SMALL, "depths": [1, 2, 1, 1], "window_size": [4, 7, 5], "use_v2": True, "downsample": "mergingv2",
        "patch_norm": True, "qkv_bias": False, "norm_name": ["INSTANCE", {"affine": True}], "normalize": False,
        "mlp_ratio": 2.0,
    },
}  # fmt: skip


def weight(name, shape):
    """A value of a network by its name alone."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape).astype(np.float32)
    if len(shape) < 2:
        return (1 + values / 10 if name.endswith("weight") else values / 10).astype(np.float32)
    return (values * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)


def filled(network):
    state = network.state_dict()
    for name, value in state.items():
        if value.dtype == torch.float32:
            state[name] = torch.from_numpy(weight(name, tuple(value.shape)))
    network.load_state_dict(state)
    return network.eval()


def main():
    out = {}
    given = np.random.default_rng(3).standard_normal((1, 1, 64, 32, 96)).astype(np.float32)
    for name, said in CASES.items():
        told = {key: value for key, value in said.items() if key != "img_size"}
        network = filled(SwinUNETR(**told))
        with torch.inference_mode():
            logits = network(torch.from_numpy(given))
        out[f"{name}/arguments"] = np.array(json.dumps(said))
        out[f"{name}/names"] = np.array(
            json.dumps({k: list(v.shape) for k, v in network.state_dict().items()})
        )
        out[f"{name}/logits"] = logits.numpy()[0, :, ::4, ::4, ::4]
        print(name, float(logits.abs().max()), sum(v.numel() for v in network.state_dict().values()))
    rng = np.random.default_rng(1)
    image = np.kron(rng.normal(0, 120, (6, 5, 6)), np.ones((5, 6, 4)))[:28, :27, :22]
    image = np.round(image + rng.normal(0, 20, image.shape)).astype(np.int16)
    affine = np.diag([-1.7, 1.3, 4.0, 1.0])
    affine[:3, 3] = 20, -30, 5
    network = {"_target_": "SwinUNETR", **CASES["first"]}
    windows = {"overlap": 0.5, "roi_size": [32, 64, 32]}
    config = configuration(network, [RANGE], False, windows, {"nearest_interp": False}, True)
    theirs = json.loads(json.dumps(config))
    theirs["network_def"].pop("img_size")
    _, labels = run(theirs, image, affine, 0, filled)
    out |= {"image": image, "affine": affine, "bundle/configuration": np.array(json.dumps(config))}
    out["bundle/labels"] = labels.astype(np.uint8)
    print("bundle", np.bincount(labels.astype(int).ravel()))
    np.savez_compressed(sys.argv[1], **out)


if __name__ == "__main__":
    main()
