"""Make the checkpoints of a segmenter's folder readable here: ``python -m models.convert_segmenter FOLDER``.

nnU-Net and TotalSegmentator publish ``fold_N/checkpoint_final.pth``, MONAI bundles ``models/model.pt``: pickles. They
are read by torch's restricted reader, which builds tensors and plain values and calls nothing else. Beside them are
written ``model.safetensors`` and of a fold ``config.json``.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.families.segmenting.bundle import BUNDLE_CHECKPOINT, BUNDLE_WEIGHTS, CONFIGURATION, read_bundle
from models.families.segmenting.folder import CONFIG_FILE, WEIGHTS_FILE, network_of
from models.families.segmenting.plans import read_plan
from models.networks.monai_nets import named_once_in_bundle
from models.networks.unet import named_once
from pipeline.errors import FirstreadError, StopRun

CHECKPOINT = "checkpoint_final.pth"


def convert(folder: Path, checkpoint: str = CHECKPOINT) -> tuple[Path, ...]:
    """Convert each fold; returns the files of weights written.

    Raises StopRun("segmenter") where there is none, where one holds more than tensors and plain values, and where the
    weights are not those of the plans.
    """
    if (folder / CONFIGURATION).is_file():
        return (_converted_bundle(folder),)
    found = sorted(folder.glob(f"fold_*/{checkpoint}"))
    if not found:
        raise StopRun("segmenter", f"{folder} holds no fold_*/{checkpoint}")
    return tuple(_converted(folder, one) for one in found)


def _converted(folder: Path, path: Path) -> Path:
    from safetensors.torch import save_file

    said = read_checkpoint(path)
    try:
        configuration = str(said["init_args"]["configuration"])
        weights = named_once(said["network_weights"])
        mirrored = [int(axis) for axis in said.get("inference_allowed_mirroring_axes") or ()]
        trainer = str(said.get("trainer_name", ""))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise StopRun("segmenter", f"{path.name} is no checkpoint of nnU-Net v2") from None
    plan = read_plan(folder, configuration)
    network_of(plan, weights)
    target = path.with_name(WEIGHTS_FILE)
    save_file({name: value.contiguous().clone() for name, value in weights.items()}, target)
    told = {"configuration": configuration, "mirrored": mirrored, "trainer": trainer}
    path.with_name(CONFIG_FILE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return target


def _converted_bundle(folder: Path) -> Path:
    """The weights of a MONAI bundle: what it was trained to, alone or under one of the names that MONAI gives it."""
    from safetensors.torch import save_file

    said: Any = read_checkpoint(folder / BUNDLE_CHECKPOINT)
    for name in ("state_dict", "model", "net"):
        if isinstance(said.get(name), Mapping):
            said = said[name]
    target = folder / BUNDLE_WEIGHTS
    try:
        weights = {str(name): value.contiguous().clone() for name, value in said.items()}
    except AttributeError:
        raise StopRun("segmenter", f"{BUNDLE_CHECKPOINT} holds more than the tensors of a network") from None
    plan = read_bundle(folder)
    weights = named_once_in_bundle(plan.network, weights)
    network_of(plan, weights)
    save_file(weights, target)
    return target


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Tensors and plain values of a pickle. Raises StopRun("segmenter") for one that names anything else."""
    import pickle

    import torch

    scalar: Any = np.float64(0).__reduce__()[0]
    kinds: list[Any] = [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype]
    kinds += [type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64", "bool")]
    try:
        with torch.serialization.safe_globals(kinds), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of older protocols, which are read or refused
            said = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise StopRun(
            "segmenter",
            f"{path.name} is not a file of tensors and plain values ({type(error).__name__}): it is not opened",
        ) from None
    if not isinstance(said, Mapping):
        raise StopRun("segmenter", f"{path.name} is no checkpoint of nnU-Net v2")
    return said


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoint", default=CHECKPOINT)
    given = parser.parse_args()
    try:
        for path in convert(given.folder, given.checkpoint):
            sys.stdout.write(f"{path}\n")
    except FirstreadError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
