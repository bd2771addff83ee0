"""A MONAI bundle as plain values: its network, how its images are prepared and its windows put together.

    configs/metadata.json, configs/inference.json    as the bundle is published
    models/model.safetensors                         the weights, out of models/model.pt by models.convert_segmenter

The configuration names Python classes and holds expressions. It is read as data: known names stand for code of ours, a
reference ("@a#b") for a value of the same file, and of expressions two forms are read, a literal and a choice between
two literals by a reference ("$[1.5, 1.5, 1.5] if @fine else [3, 3, 3]"). All else that matters is refused by name.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.families.segmenting.plans import Spacing, Triple, read_json
from models.networks.monai_layers import unread
from models.networks.monai_nets import KNOWN, MonaiNetwork, network_of_bundle
from models.networks.swin_unetr import MULTIPLE, SWIN_UNETR

CONFIGURATION, METADATA = Path("configs", "inference.json"), Path("configs", "metadata.json")
BUNDLE_WEIGHTS, BUNDLE_CHECKPOINT = Path("models", "model.safetensors"), Path("models", "model.pt")
_CHOICE = re.compile(r"\$(?P<yes>.+?) if (?P<no>not )?@(?P<key>[\w#:]+) else (?P<other>.+)", re.S)
_DEEP, _MOST = 24, 5000
_NO_VALUES = frozenset({"LoadImaged", "EnsureChannelFirstd", "EnsureTyped", "ToTensord", "CastToTyped"})
_NO_LABELS = frozenset({"SaveImaged", "EnsureTyped"})
_SPACING: Mapping[str, Sequence[Any] | None] = {
    "align_corners": (None, False), "diagonal": (False,), "padding_mode": ("border",), "mode": ("bilinear",),
    "scale_extent": (False,), "recompute_affine": (False,), "dtype": None, "ensure_same_shape": (True,),
}  # fmt: skip
"""Arguments of Spacingd and the values of them that are read; None: any."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of preparation: "space", "range" (from low, high, to low, high, clipped), "normal" (of what is not 0),
    "scale" (to low, high).
    """

    name: str
    values: tuple[float, ...] = ()
    flag: bool = False


@dataclass(frozen=True, slots=True)
class BundlePlan:
    """What a bundle says. ``forward``, ``spacing``, ``patch`` and ``overlap`` are in the network's order x, y, z.

    ``sigma`` of the weights within a window is a part of its side, 0 where all count alike; ``softmax``: probabilities,
    not logits, are brought back to the image, of the nearest voxel where ``nearest``.
    """

    network: MonaiNetwork
    modality: str
    names: Mapping[int, str]
    orientation: str
    steps: tuple[Step, ...]
    spacing: Spacing
    patch: Triple
    overlap: tuple[float, float, float]
    sigma: float
    softmax: bool
    nearest: bool
    order: tuple[int, ...] = ()
    forward: Triple = (2, 1, 0)

    @property
    def outputs(self) -> int:
        """How many classes the network tells apart, the background among them."""
        return self.network.outputs


def read_bundle(folder: Path) -> BundlePlan:
    """What the bundle in ``folder`` says. Raises StopRun("segmenter") for what is not read here."""
    configuration, metadata = read_json(folder / CONFIGURATION), read_json(folder / METADATA)
    try:
        plan = _plan(configuration, metadata)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise unread("its configuration or metadata is not as MONAI describes it") from None
    network_of_bundle(plan.network)
    return plan


def _plan(configuration: Mapping[str, Any], metadata: Mapping[str, Any]) -> BundlePlan:
    part = _Reader(configuration).part
    told, names, modality = part("network_def"), *_labels(metadata)
    kind = _class(told)
    if kind not in KNOWN:
        raise unread(f"its network is a {kind}; {', '.join(KNOWN)} are read")
    outputs = int(told.get("out_channels", 2))
    if sorted(names) != list(range(1, outputs)):
        raise unread("its metadata does not name each of its classes")
    orientation, steps, spacing = _preparation(_transforms(part("preprocessing")))
    softmax, nearest = _finish(_transforms(part("postprocessing")))
    patch, overlap, sigma = _windows(part("inferer"))
    if kind == SWIN_UNETR and any(side % MULTIPLE for side in patch):
        raise unread(f"the sides of its windows are no multiples of {MULTIPLE}")
    network = MonaiNetwork(kind, outputs, {key: one for key, one in told.items() if not key.startswith("_")})
    return BundlePlan(
        network, modality, names, orientation, steps, spacing, patch, overlap, sigma, softmax, nearest
    )


def _labels(metadata: Mapping[str, Any]) -> tuple[dict[int, str], str]:
    """The classes but the background, and the Modality of the images."""
    formats = metadata["network_data_format"]
    image, defined = formats["inputs"]["image"], formats["outputs"]["pred"]["channel_def"]
    if int(image["num_channels"]) != 1:
        raise unread("its network is given several images at once")
    modality = str(image["modality"]).upper()
    return {int(number): str(name) for number, name in defined.items() if int(number)}, (
        "MR" if modality in ("MRI", "MR") else modality
    )


class _Reader:
    """The values of one configuration. What refers to itself, or grows by references, ends at ``_MOST`` values."""

    def __init__(self, whole: Mapping[str, Any]) -> None:
        self._whole, self._read = whole, 0

    def part(self, name: str) -> Any:
        """The part called ``name``, its references replaced, by plain values alone."""
        return self._resolved(self._whole[name], name, 0)

    def _resolved(self, value: Any, where: str, depth: int) -> Any:
        self._read += 1
        if self._read > _MOST or depth > _DEEP:
            raise unread(f"{where} has no end, or refers to itself")
        if isinstance(value, list):
            return [self._resolved(one, where, depth + 1) for one in value]
        if isinstance(value, dict):
            return {str(key): self._resolved(one, where, depth + 1) for key, one in value.items()}
        if isinstance(value, str) and value.startswith("@"):
            return self._resolved(_at(value[1:], self._whole), where, depth + 1)
        if isinstance(value, str) and value.startswith("$"):
            return self._expression(value, where, depth)
        return value

    def _expression(self, value: str, where: str, depth: int) -> Any:
        """A literal, or one of two by a reference to true or false; nothing is evaluated."""
        found = _CHOICE.fullmatch(value)
        literal = value[1:]
        if found is not None:
            chosen = self._resolved(_at(found["key"], self._whole), where, depth + 1)
            if not isinstance(chosen, bool):
                raise unread(f"an expression in {where}")
            literal = found["yes"] if chosen is not bool(found["no"]) else found["other"]
        try:
            return ast.literal_eval(literal.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise unread(f"an expression in {where}") from None


def _at(key: str, whole: Mapping[str, Any]) -> Any:
    found: Any = whole
    for one in re.split(r"::|#", key):
        found = found[int(one)] if isinstance(found, list) else found[one]
    return found


def _class(told: Mapping[str, Any]) -> str:
    return str(told["_target_"]).rpartition(".")[2]


def _transforms(told: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The steps of a Compose, by name, without the keys that they are for and what is switched off."""
    if _class(told) != "Compose":
        raise unread(f"its images go through a {_class(told)}")
    return [
        (_class(one), {key: value for key, value in one.items() if key not in ("_target_", "keys")})
        for one in told["transforms"]
        if one.get("_disabled_") is not True
    ]


def _preparation(transforms: Sequence[tuple[str, dict[str, Any]]]) -> tuple[str, tuple[Step, ...], Spacing]:
    orientation, spacing, steps = "", None, []
    for name, said in transforms:
        if name == "Orientationd":
            orientation = str(said["axcodes"])
        elif name == "Spacingd":
            if not orientation or spacing is not None:
                raise unread("its images are resampled twice, or before they are turned")
            _known(name, said, {**_SPACING, "pixdim": None})
            one, two, three = (float(side) for side in said["pixdim"])
            if not 0 < min(one, two, three) <= max(one, two, three) < 1000:
                raise ValueError
            spacing = one, two, three
            steps.append(Step("space"))
        elif name not in _NO_VALUES:
            steps.append(_values(name, said))
    if orientation not in ("RAS", "LPS") or spacing is None:
        raise unread("it does not say how its images lie (RAS or LPS) and how far apart their voxels are")
    return orientation, tuple(steps), spacing


def _values(name: str, said: Mapping[str, Any]) -> Step:
    match name:
        case "ScaleIntensityRanged":
            _known(name, said, dict.fromkeys(("a_min", "a_max", "b_min", "b_max", "clip", "dtype")))
            ends = tuple(float(said[key]) for key in ("a_min", "a_max", "b_min", "b_max"))
            if ends[0] >= ends[1]:
                raise ValueError
            return Step("range", ends, bool(said.get("clip", False)))
        case "NormalizeIntensityd":
            _known(
                name,
                said,
                {
                    "nonzero": None,
                    "channel_wise": None,
                    "subtrahend": (None,),
                    "divisor": (None,),
                    "dtype": None,
                },
            )
            return Step("normal", (), bool(said.get("nonzero", False)))
        case "ScaleIntensityd":
            _known(
                name,
                said,
                {"minv": None, "maxv": None, "factor": (None,), "channel_wise": None, "dtype": None},
            )
            return Step("scale", (float(said.get("minv", 0.0)), float(said.get("maxv", 1.0))))
    raise unread(f"its images are prepared by {name}")


def _finish(transforms: Sequence[tuple[str, dict[str, Any]]]) -> tuple[bool, bool]:
    """Whether probabilities are brought back to the image, and of the nearest voxel; the largest must decide."""
    softmax, nearest, decided = False, None, False
    for name, said in transforms:
        if name == "Activationsd":
            _known(name, said, {"softmax": (True,), "sigmoid": (False,), "other": (None,), "kwargs": None})
            softmax = nearest is None
        elif name == "Invertd":
            nearest = bool(said.get("nearest_interp", True))
            if decided and not nearest:
                raise unread("it decides before labels are brought back to the image, and mixes them then")
        elif name == "AsDiscreted":
            _known(
                name,
                said,
                {
                    "argmax": (True,),
                    "to_onehot": (None,),
                    "threshold": (None,),
                    "rounding": (None,),
                    "dtype": None,
                },
            )
            decided = True
        elif name not in _NO_LABELS:
            raise unread(f"its labels are changed by {name}")
    if nearest is None or not decided:
        raise unread(
            "it does not bring its labels back to the image, or does not decide by the largest output"
        )
    return softmax, nearest


def _windows(told: Mapping[str, Any]) -> tuple[Triple, tuple[float, float, float], float]:
    if _class(told) != "SlidingWindowInferer":
        raise unread(f"its windows are put together by a {_class(told)}")
    said = {key: value for key, value in told.items() if key != "_target_"}
    free = (
        "roi_size",
        "overlap",
        "sw_batch_size",
        "sw_device",
        "device",
        "progress",
        "cache_roi_weight_map",
        "sigma_scale",
    )
    _known("SlidingWindowInferer", said, {**dict.fromkeys(free), "mode": ("constant", "gaussian"),
                                          "padding_mode": ("constant",), "cval": (0, 0.0)})  # fmt: skip
    one, two, three = (int(side) for side in said["roi_size"])
    between = said.get("overlap", 0.25)
    a, b, c = (float(part) for part in (between if isinstance(between, list) else [between] * 3))
    sigma = float(said.get("sigma_scale", 0.125)) if said.get("mode", "constant") == "gaussian" else 0.0
    if (
        not 8 <= min(one, two, three) <= max(one, two, three) <= 512
        or not 0 <= min(a, b, c) <= max(a, b, c) < 1
    ):
        raise ValueError
    if not 0 <= sigma <= 1:
        raise ValueError
    return (one, two, three), (a, b, c), sigma


def _known(name: str, said: Mapping[str, Any], known: Mapping[str, Sequence[Any] | None]) -> None:
    """Refuse an argument that is not known, or that has another value than those that are."""
    for key, value in said.items():
        allowed = known.get(key, ())
        if allowed is not None and (allowed == () or value not in allowed):
            if key.startswith("_") or key == "allow_missing_keys":
                continue
            raise unread(f"{key} of {name}")
