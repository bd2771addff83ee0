"""What an nnU-Net v2 folder says of its network and its values: ``plans.json`` and ``dataset.json`` as plain values.

Whatever is read otherwise than nnU-Net would read it is refused by name: cascades, two-dimensional configurations,
several input channels, other ways of resampling.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.families.segmenting.resampling import Interpolation
from models.networks.unet import UNetShape, shape_of
from pipeline.errors import StopRun

PLANS_FILE, DATASET_FILE = "plans.json", "dataset.json"
NORMALISATIONS = ("CTNormalization", "ZScoreNormalization", "NoNormalization", "RescaleTo01Normalization")
_RESAMPLING = "resample_data_or_seg_to_shape"
_MOST_BYTES = 50_000_000
_MOST_VOXELS = 1 << 27
"""Of one patch: nnU-Net plans some millions for the largest cards."""
Triple = tuple[int, int, int]
Spacing = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Intensities:
    """What the training set's foreground looked like; CT is scaled by it."""

    mean: float
    deviation: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Plan:
    """One configuration of a trained nnU-Net.

    ``channel`` is what its one input is called ("CT", "T1"). ``names`` are the labels by their number, without the
    background. ``order`` lists, where labels overlap, which label each output is written as; empty where the largest
    output is the label. ``outputs`` counts them, the background among them where it is one. ``forward`` says which
    axis of the image each axis of the network is; ``spacing`` and ``patch`` are in the network's order.
    """

    configuration: str
    channel: str
    names: Mapping[int, str]
    order: tuple[int, ...]
    outputs: int
    forward: Triple
    spacing: Spacing
    patch: Triple
    normalisation: str
    masked: bool
    intensities: Intensities | None
    image: Interpolation
    logits: Interpolation
    shape: UNetShape

    @property
    def modality(self) -> str:
        """The Modality (0008,0060) of its images: nnU-Net tells CT by the channel's name alone."""
        return "CT" if self.channel.casefold() == "ct" else "MR"


def read_plan(folder: Path, configuration: str) -> Plan:
    """The plan of ``configuration`` in ``folder``. Raises StopRun("segmenter") for what is not read here."""
    plans, dataset = read_json(folder / PLANS_FILE), read_json(folder / DATASET_FILE)
    try:
        return _plan(plans, dataset, configuration)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise StopRun("segmenter", f"{PLANS_FILE} or {DATASET_FILE} is not as nnU-Net v2 writes it") from None


def read_json(path: Path) -> Any:
    """A file of plain values. Raises StopRun("segmenter") for none."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise StopRun("segmenter", f"{path.name} is too large to be what it is called")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StopRun("segmenter", f"{path.name} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise StopRun("segmenter", f"{path.name} is no JSON") from None


def _plan(plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str) -> Plan:
    values = _configuration(plans, configuration)
    channels = dataset.get("channel_names") or dataset["modality"]
    if len(channels) != 1:
        raise StopRun(
            "segmenter", f"the network reads {len(channels)} images of a study at once; one is read here"
        )
    (channel,) = channels.values()
    names, order, outputs = _labels(dataset)
    (normalisation,) = values["normalization_schemes"]
    if normalisation not in NORMALISATIONS:
        raise StopRun("segmenter", f"the plans normalise by {normalisation}, which is not known here")
    known = plans.get("foreground_intensity_properties_per_channel", {}).get("0")
    intensities = known and Intensities(
        *(float(known[key]) for key in ("mean", "std", "percentile_00_5", "percentile_99_5"))
    )
    if normalisation == "CTNormalization" and not intensities:
        raise StopRun("segmenter", "the plans have no intensities to scale CT by")
    forward = _three(int, plans["transpose_forward"])
    patch, shape = _three(int, values["patch_size"]), _network(values)
    if math.prod(patch) > _MOST_VOXELS:
        raise StopRun("segmenter", f"a patch of {math.prod(patch)} voxels; up to {_MOST_VOXELS} are read")
    if sorted(forward) != [0, 1, 2] or any(a % b for a, b in zip(patch, shape.reduction, strict=True)):
        raise ValueError
    return Plan(
        configuration,
        str(channel),
        names,
        order,
        outputs,
        forward,
        _spacing(values["spacing"]),
        patch,
        normalisation,
        bool(values["use_mask_for_norm"][0]),
        intensities,
        _interpolation(values, "data"),
        _interpolation(values, "probabilities"),
        shape,
    )


def _configuration(plans: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The values of a configuration, those of its parents beneath them."""
    known = plans["configurations"]
    values: dict[str, Any] = {}
    seen: set[str] = set()
    following: str | None = name
    while following is not None and following not in seen:
        seen.add(following)
        values = {**known[following], **values}
        following = known[following].get("inherits_from")
    if len(values["patch_size"]) != 3:
        raise StopRun(
            "segmenter", f"{name} segments single planes; three-dimensional configurations are read"
        )
    if values.get("previous_stage"):
        raise StopRun("segmenter", f"{name} needs the result of {values['previous_stage']} first: a cascade")
    return values


def _labels(dataset: Mapping[str, Any]) -> tuple[dict[int, str], tuple[int, ...], int]:
    labels = {str(name): value for name, value in dataset["labels"].items() if name != "ignore"}
    if any(isinstance(value, list) and len(value) > 1 for value in labels.values()):
        order = tuple(int(one) for one in dataset["regions_class_order"])
        regions = [name for name in labels if name != "background"]
        if len(order) != len(regions):
            raise ValueError
        return dict(zip(order, regions, strict=True)), order, len(order)
    numbers = {int(value[0] if isinstance(value, list) else value): name for name, value in labels.items()}
    if sorted(numbers) != list(range(len(labels))) or len(labels) < 2:
        raise StopRun("segmenter", "the labels are not numbered from 0 without gaps")
    return {number: name for number, name in sorted(numbers.items()) if number}, (), len(numbers)


def _network(values: Mapping[str, Any]) -> UNetShape:
    """The architecture; plans of before 2.4 have its parts by other names."""
    if "architecture" in values:
        described = values["architecture"]
        return shape_of(described["network_class_name"], described["arch_kwargs"])
    count = len(values["n_conv_per_stage_encoder"])
    kind, base, most = (
        values["UNet_class_name"],
        values["UNet_base_num_features"],
        values["unet_max_num_features"],
    )
    depths = values["n_conv_per_stage_encoder"]
    return shape_of(
        kind,
        {
            "n_stages": count,
            "features_per_stage": [min(base * 2**stage, most) for stage in range(count)],
            "conv_op": "Conv3d",
            "norm_op": "InstanceNorm3d",
            "nonlin": "LeakyReLU",
            "kernel_sizes": values["conv_kernel_sizes"],
            "strides": values["pool_op_kernel_sizes"],
            "n_conv_per_stage": depths,
            "n_blocks_per_stage": depths,
            "n_conv_per_stage_decoder": values["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        },
    )


def _interpolation(values: Mapping[str, Any], what: str) -> Interpolation:
    named = values.get(f"resampling_fn_{what}", _RESAMPLING)
    if named != _RESAMPLING:
        raise StopRun("segmenter", f"the plans resample by {named}, which is not known here")
    said = values.get(f"resampling_fn_{what}_kwargs", {})
    separate = said.get("force_separate_z")
    return Interpolation(
        int(said.get("order", 3)), int(said.get("order_z", 0)), None if separate is None else bool(separate)
    )


def _spacing(values: Sequence[Any]) -> Spacing:
    one, two, three = (float(value) for value in values)
    if not 0 < min(one, two, three) <= max(one, two, three) < 1000:
        raise ValueError
    return one, two, three


def _three(kind: type[int], values: Sequence[Any]) -> Triple:
    one, two, three = (kind(value) for value in values)
    return one, two, three
