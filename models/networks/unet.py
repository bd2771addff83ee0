"""The two U-Nets of nnU-Net v2, built from the plain values of its plans, with its names of parameters.

PlainConvUNet and ResidualEncoderUNet of dynamic-network-architectures 0.4 (Isensee et al., Nature Methods 18, 2021, and
"nnU-Net Revisited", MICCAI 2024), three dimensions, instance normalisation, leaky rectifier, one output of full
resolution. Nothing that a plans file names is imported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import StopRun

PLAIN, RESIDUAL = "PlainConvUNet", "ResidualEncoderUNet"
_KNOWN_LAYERS = {
    "conv_op": "Conv3d",
    "norm_op": "InstanceNorm3d",
    "nonlin": "LeakyReLU",
    "dropout_op": None,
}
_MOST_LAYERS = 64
Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class UNetShape:
    """What the plans say of a network.

    ``features``, ``kernels``, ``strides`` and ``depths`` (convolutions or blocks) are by stage, from the full
    resolution down, ``decoder_depths`` from the lowest up.
    """

    residual: bool
    features: tuple[int, ...]
    kernels: tuple[Triple, ...]
    strides: tuple[Triple, ...]
    depths: tuple[int, ...]
    decoder_depths: tuple[int, ...]
    bias: bool
    eps: float
    affine: bool
    slope: float

    @property
    def reduction(self) -> Triple:
        """By how much the lowest stage is smaller than the input, by axis: a patch is a multiple of it."""
        total = [1, 1, 1]
        for stride in self.strides:
            total = [one * by for one, by in zip(total, stride, strict=True)]
        return total[0], total[1], total[2]


def shape_of(class_name: str, values: Mapping[str, Any]) -> UNetShape:
    """The shape that ``architecture`` of a plans file describes.

    Raises StopRun("segmenter") for another class of network, other layers than those named above, and lists that do not
    fit together.
    """
    kind = class_name.rpartition(".")[2]
    if kind not in (PLAIN, RESIDUAL):
        raise _unread(f"a network of class {kind or 'none'}; {PLAIN} and {RESIDUAL} are read")
    for key, wanted in _KNOWN_LAYERS.items():
        named = values.get(key)
        if (named or "").rpartition(".")[2] != (wanted or ""):
            raise _unread(f"{key} is {named}, not {wanted}")
    if values.get("nonlin_first") or values.get("block") or values.get("stem_channels"):
        raise _unread("an order of layers, block or stem other than the usual one")
    try:
        count = int(values["n_stages"])
        depths = values["n_blocks_per_stage" if kind == RESIDUAL else "n_conv_per_stage"]
        shape = UNetShape(
            kind == RESIDUAL,
            _numbers(values["features_per_stage"], count),
            tuple(_triple(one) for one in values["kernel_sizes"]),
            tuple(_triple(one) for one in values["strides"]),
            _numbers(depths, count),
            _numbers(values["n_conv_per_stage_decoder"], count - 1),
            bool(values.get("conv_bias", False)),
            float((values.get("norm_op_kwargs") or {}).get("eps", 1e-5)),
            bool((values.get("norm_op_kwargs") or {}).get("affine", False)),
            float((values.get("nonlin_kwargs") or {}).get("negative_slope", 0.01)),
        )
    except (KeyError, TypeError, ValueError):
        raise _unread("numbers of a network that do not fit together") from None
    if not 2 <= count <= 12 or len(shape.kernels) != count or len(shape.strides) != count:
        raise _unread("numbers of stages that do not fit together")
    if max(*shape.depths, *shape.decoder_depths) > _MOST_LAYERS:
        raise _unread(f"more than {_MOST_LAYERS} layers in one stage")
    return shape


class UNet(nn.Module):
    """[n, channels, z, y, x] float32 to the logits of ``classes`` at every voxel, [n, classes, z, y, x]."""

    def __init__(self, shape: UNetShape, channels: int, classes: int) -> None:
        super().__init__()
        self.encoder = _Encoder(shape, channels)
        self.decoder = _Decoder(shape, classes)

    def forward(self, patch: Tensor) -> tuple[Tensor]:
        """The logits, the one output of the graph."""
        return (self.decoder(self.encoder(patch)),)


def named_once(weights: Mapping[str, Any]) -> dict[str, Any]:
    """``weights`` as nnU-Net stores them, each under one name: its modules hold their layers, and its decoder the
    encoder, twice.
    """
    return {
        name: value
        for name, value in weights.items()
        if ".all_modules." not in name and not name.startswith("decoder.encoder.")
    }


class _Encoder(nn.Module):
    def __init__(self, shape: UNetShape, channels: int) -> None:
        super().__init__()
        self.stem: nn.Module | None = None
        if shape.residual:
            self.stem = _Stack(shape, 1, channels, shape.features[0], shape.kernels[0])
            channels = shape.features[0]
        stages: list[nn.Module] = []
        rows = zip(shape.features, shape.kernels, shape.strides, shape.depths, strict=True)
        for features, kernel, stride, depth in rows:
            if shape.residual:
                stages.append(_Blocks(shape, depth, channels, features, kernel, stride))
            else:
                stages.append(nn.Sequential(_Stack(shape, depth, channels, features, kernel, stride)))
            channels = features
        self.stages = nn.Sequential(*stages)

    def forward(self, values: Tensor) -> list[Tensor]:
        if self.stem is not None:
            values = self.stem(values)
        found = []
        for stage in self.stages:
            values = stage(values)
            found.append(values)
        return found


class _Decoder(nn.Module):
    def __init__(self, shape: UNetShape, classes: int) -> None:
        super().__init__()
        stages, ups, heads = [], [], []
        for place, depth in enumerate(shape.decoder_depths, 1):
            below, here = shape.features[-place], shape.features[-place - 1]
            stride = shape.strides[-place]
            ups.append(nn.ConvTranspose3d(below, here, stride, stride, bias=shape.bias))
            stages.append(_Stack(shape, depth, 2 * here, here, shape.kernels[-place - 1]))
            heads.append(nn.Conv3d(here, classes, 1))
        self.stages = nn.ModuleList(stages)
        self.transpconvs = nn.ModuleList(ups)
        self.seg_layers = nn.ModuleList(heads)

    def forward(self, skips: Sequence[Tensor]) -> Tensor:
        values = skips[-1]
        for place, (up, stage) in enumerate(zip(self.transpconvs, self.stages, strict=True), 2):
            values = stage(torch.cat((up(values), skips[-place]), 1))
        logits: Tensor = self.seg_layers[-1](values)
        return logits


class _Layer(nn.Module):
    """Convolution, normalisation and, where ``rectified``, a leaky rectifier."""

    def __init__(
        self,
        shape: UNetShape,
        before: int,
        after: int,
        kernel: Triple,
        stride: Triple = (1, 1, 1),
        *,
        rectified: bool = True,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        padding = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2, (kernel[2] - 1) // 2)
        self.conv = nn.Conv3d(
            before, after, kernel, stride, padding, bias=shape.bias if bias is None else bias
        )
        self.norm = nn.InstanceNorm3d(after, eps=shape.eps, affine=shape.affine)
        self.slope = shape.slope if rectified else 1.0

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.norm(self.conv(values))
        return found if self.slope == 1.0 else nn.functional.leaky_relu(found, self.slope)


class _Stack(nn.Module):
    def __init__(
        self,
        shape: UNetShape,
        depth: int,
        before: int,
        after: int,
        kernel: Triple,
        stride: Triple = (1, 1, 1),
    ) -> None:
        super().__init__()
        first = _Layer(shape, before, after, kernel, stride)
        self.convs = nn.Sequential(first, *(_Layer(shape, after, after, kernel) for _ in range(depth - 1)))

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.convs(values)
        return found


class _Blocks(nn.Module):
    def __init__(
        self, shape: UNetShape, depth: int, before: int, after: int, kernel: Triple, stride: Triple
    ) -> None:
        super().__init__()
        first = _Block(shape, before, after, kernel, stride)
        further = (_Block(shape, after, after, kernel, (1, 1, 1)) for _ in range(depth - 1))
        self.blocks = nn.Sequential(first, *further)

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.blocks(values)
        return found


class _Block(nn.Module):
    """A residual block in the manner of ResNet-D: its shortcut is averaged, then projected (He et al., CVPR 2019)."""

    def __init__(self, shape: UNetShape, before: int, after: int, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.conv1 = _Layer(shape, before, after, kernel, stride)
        self.conv2 = _Layer(shape, after, after, kernel, rectified=False)
        self.nonlin2 = nn.LeakyReLU(shape.slope)
        shortcut: list[nn.Module] = []
        if stride != (1, 1, 1):
            shortcut.append(nn.AvgPool3d(stride, stride))
        if before != after:
            shortcut.append(_Layer(shape, before, after, (1, 1, 1), rectified=False, bias=False))
        self.skip = nn.Sequential(*shortcut)

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.nonlin2(self.conv2(self.conv1(values)) + self.skip(values))
        return found


def _numbers(value: Any, count: int) -> tuple[int, ...]:
    found = (int(value),) * count if isinstance(value, int) else tuple(int(one) for one in value)
    if len(found) != count or min(found) < 1:
        raise ValueError
    return found


def _triple(value: Any) -> Triple:
    one, two, three = (int(value),) * 3 if isinstance(value, int) else (int(side) for side in value)
    if min(one, two, three) < 1:
        raise ValueError
    return one, two, three


def _unread(what: str) -> StopRun:
    return StopRun("segmenter", f"the plans ask for {what}")
