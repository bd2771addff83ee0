"""A segmenter's folder: plans and labels as nnU-Net writes them, and for each fold weights without a pickle.

    dataset.json, plans.json          as nnU-Net v2 leaves them (TotalSegmentator's folders are the same)
    fold_N/model.safetensors          the weights, each once
    fold_N/config.json                configuration, mirrored axes and trainer, out of the checkpoint
    firstread.json                    optional: {"orientation": "LPS" or "RAS"}

``python -m models.convert_segmenter`` makes the files of a fold out of ``checkpoint_final.pth``, never opened here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.families.segmenting.bundle import (
    BUNDLE_CHECKPOINT,
    BUNDLE_WEIGHTS,
    CONFIGURATION,
    METADATA,
    BundlePlan,
    read_bundle,
)
from models.families.segmenting.plans import DATASET_FILE, PLANS_FILE, Plan, read_json, read_plan
from models.networks.monai_nets import network_of_bundle
from models.networks.stu_net import MARK as STU_NET
from models.networks.stu_net import STUNet
from models.networks.unet import Triple, UNet
from models.weight_loading.kept_digests import weight_digest
from models.weight_loading.tensors import open_tensors
from models.weight_loading.verified import check_keys
from pipeline.errors import ConfigurationError, StopRun

WEIGHTS_FILE, CONFIG_FILE, OWN_FILE = "model.safetensors", "config.json", "firstread.json"
ORIENTATIONS = ("LPS", "RAS")
"""Where rows and columns of the training images counted to; planes count to the head in both."""
_TOTAL_SEGMENTATOR = frozenset(
    {"vertebrae_L5", "iliopsoas_left", "autochthon_left", "lung_upper_lobe_left", "iliac_vena_left"}
)
"""Labels that only TotalSegmentator calls so: its images are brought to RAS before they are segmented."""


@dataclass(frozen=True, slots=True)
class Fold:
    """One trained network: its weights' file and the SHA-256 of all that shapes it."""

    weights: Path
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SegmenterFolder:
    """A folder that was understood; no weights are read yet. ``mirrored`` are axes of the network's input."""

    plan: Plan | BundlePlan
    folds: tuple[Fold, ...]
    mirrored: tuple[int, ...]
    orientation: str
    shared: Mapping[str, str]


def read_folder(folder: Path) -> SegmenterFolder:
    """Read what the folder says, a MONAI bundle too. Raises ConfigurationError for another kind of folder,
    StopRun("segmenter").
    """
    if (folder / CONFIGURATION).is_file():
        return _bundle(folder)
    inner = sorted(path.parent for path in folder.glob(f"fold_*/{WEIGHTS_FILE}"))
    if not inner or not (folder / PLANS_FILE).is_file() or not (folder / DATASET_FILE).is_file():
        pickled = any(folder.glob("fold_*/*.pth"))
        how = "; convert its checkpoints: python -m models.convert_segmenter" if pickled else ""
        message = (
            f"{folder} is no segmenter: it needs {PLANS_FILE}, {DATASET_FILE} and fold_*/{WEIGHTS_FILE}{how}"
        )
        raise ConfigurationError("weights-folder", message)
    told = [_told(fold / CONFIG_FILE) for fold in inner]
    if any(one != told[0] for one in told):
        raise StopRun("segmenter", "the folds are of different configurations: keep those of one")
    configuration, mirrored = told[0]
    plan = read_plan(folder, configuration)
    own = folder / OWN_FILE
    files = [folder / PLANS_FILE, folder / DATASET_FILE, *([own] if own.is_file() else [])]
    return SegmenterFolder(
        plan,
        tuple(_fold(one) for one in inner),
        mirrored,
        _orientation(own, plan),
        {path.name: weight_digest(path) for path in files},
    )


def _bundle(folder: Path) -> SegmenterFolder:
    plan = read_bundle(folder)
    weights = folder / BUNDLE_WEIGHTS
    if not weights.is_file():
        raise ConfigurationError(
            "weights-folder",
            f"{folder} is a bundle without {BUNDLE_WEIGHTS}; convert {BUNDLE_CHECKPOINT}: "
            "python -m models.convert_segmenter",
        )
    shared = {path.name: weight_digest(folder / path) for path in (CONFIGURATION, METADATA)}
    fold = Fold(weights, {f"models/{weights.name}": weight_digest(weights), **shared})
    return SegmenterFolder(plan, (fold,), (), plan.orientation, shared)


def _fold(folder: Path) -> Fold:
    names = (WEIGHTS_FILE, CONFIG_FILE)
    return Fold(
        folder / WEIGHTS_FILE, {f"{folder.name}/{name}": weight_digest(folder / name) for name in names}
    )


def _told(path: Path) -> tuple[str, tuple[int, ...]]:
    said: Any = read_json(path)
    try:
        mirrored = tuple(int(axis) for axis in said["mirrored"])
        if not set(mirrored) <= {0, 1, 2} or len(set(mirrored)) < len(mirrored):
            raise ValueError
        return str(said["configuration"]), mirrored
    except (KeyError, TypeError, ValueError):
        raise StopRun("segmenter", f"{path.name} of a fold is not what our converter writes") from None


def _orientation(own: Path, plan: Plan) -> str:
    if own.is_file():
        said = read_json(own)
        found = said.get("orientation") if isinstance(said, dict) and set(said) <= {"orientation"} else None
        if found not in ORIENTATIONS:
            known = " or ".join(ORIENTATIONS)
            raise StopRun("segmenter", f"{OWN_FILE} says orientation = {known} and nothing else")
        return str(found)
    return "RAS" if _TOTAL_SEGMENTATOR & set(plan.names.values()) else "LPS"


def load_network(plan: Plan | BundlePlan, fold: Fold) -> nn.Module:
    """The network of a fold, on the CPU. Raises StopRun for weights that are not its own."""
    with open_tensors([fold.weights]) as tensors:
        read = {name: one[...].float() for name, one in tensors.items()}
    network = network_of(plan, read)
    network.load_state_dict(read, assign=True)
    return network.eval()


def network_of(plan: Plan | BundlePlan, weights: Mapping[str, Tensor]) -> nn.Module:
    """The network that ``weights`` are of: the plans' own, STU-Net, which its trainer puts in its place, or a bundle's.

    Raises StopRun for weights that are neither's.
    """
    if isinstance(plan, BundlePlan):
        network = network_of_bundle(plan.network)
    elif any(name.startswith(STU_NET) for name in weights):
        network = STUNet(weights, stu_net_strides(plan.shape.strides))
    else:
        with torch.device("meta"):  # no memory for what plans say, before the weights say it too
            network = UNet(plan.shape, 1, plan.outputs)
    expected = network.state_dict()
    check_keys(expected, weights)
    wrong = [name for name, value in weights.items() if value.shape != expected[name].shape]
    if wrong:
        raise StopRun("weights", f"the tensor {wrong[0]} has another shape than the plans ask for")
    if isinstance(network, STUNet) and network.seg_outputs[-1].out_channels != plan.outputs:
        raise StopRun("weights", "the weights have another number of classes than dataset.json")
    return network


def stu_net_strides(strides: Sequence[Triple]) -> list[Triple]:
    """Of the plans' strides those between six stages: STU-Net's trainer cuts what is more and fills up with ones."""
    between = [*strides[1:], *[(1, 1, 1)] * 5]
    return between[:5]
