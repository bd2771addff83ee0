"""STU-Net (Huang et al., arXiv 2304.06716), whose shape its weights tell: residual blocks, nearest upsampling.

Written from ``STUNet.py`` of uni-medical/STU-Net at 0652eaf, with its names of parameters; the output of full
resolution alone. Strides stand in no weight: they come from the plans.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.unet import Triple
from pipeline.errors import StopRun

MARK = "conv_blocks_context."
"""How the names of its encoder begin."""


class STUNet(nn.Module):
    """[n, channels, z, y, x] float32 to the logits at every voxel, [n, classes, z, y, x]."""

    def __init__(self, weights: Mapping[str, Any], strides: Sequence[Triple]) -> None:
        """As large as ``weights`` say; ``strides`` lead from each stage of the encoder to the next.

        Raises StopRun("segmenter") for weights of another network.
        """
        super().__init__()
        try:
            stages = _stages(weights, MARK)
            if len(stages) != len(strides) + 1:
                raise StopRun(
                    "segmenter", f"{len(stages)} stages in the weights, {len(strides)} steps in the plans"
                )
            self.conv_blocks_context = nn.ModuleList(
                _stage(weights, f"{MARK}{number}", depth, (1, 1, 1) if not number else strides[number - 1])
                for number, depth in enumerate(stages)
            )
            self.upsample_layers = nn.ModuleList(
                _Upsample(weights, f"upsample_layers.{number}", stride)
                for number, stride in enumerate(reversed(strides))
            )
            self.conv_blocks_localization = nn.ModuleList(
                _stage(weights, f"conv_blocks_localization.{number}", depth, (1, 1, 1))
                for number, depth in enumerate(_stages(weights, "conv_blocks_localization."))
            )
            self.seg_outputs = nn.ModuleList(
                _convolution(weights, f"seg_outputs.{number}") for number in range(len(strides))
            )
        except (KeyError, ValueError, AttributeError):
            raise StopRun("segmenter", "the weights are not those of STU-Net") from None

    def forward(self, patch: Tensor) -> tuple[Tensor]:
        """The logits, the one output of the graph."""
        skips = []
        values = patch
        for stage in self.conv_blocks_context:
            values = stage(values)
            skips.append(values)
        layers = zip(self.upsample_layers, self.conv_blocks_localization, strict=True)
        for place, (up, stage) in enumerate(layers, 2):
            values = stage(torch.cat((up(values), skips[-place]), 1))
        return (self.seg_outputs[-1](values),)


class _Block(nn.Module):
    def __init__(self, weights: Mapping[str, Any], name: str, stride: Triple) -> None:
        super().__init__()
        self.conv1 = _convolution(weights, f"{name}.conv1", stride)
        self.norm1 = nn.InstanceNorm3d(self.conv1.out_channels, affine=True)
        self.conv2 = _convolution(weights, f"{name}.conv2")
        self.norm2 = nn.InstanceNorm3d(self.conv2.out_channels, affine=True)
        shortcut = f"{name}.conv3.weight" in weights
        self.conv3 = _convolution(weights, f"{name}.conv3", stride) if shortcut else None

    def forward(self, values: Tensor) -> Tensor:
        found = nn.functional.leaky_relu(self.norm1(self.conv1(values)))
        found = self.norm2(self.conv2(found))
        return nn.functional.leaky_relu(found + (values if self.conv3 is None else self.conv3(values)))


class _Upsample(nn.Module):
    def __init__(self, weights: Mapping[str, Any], name: str, stride: Triple) -> None:
        super().__init__()
        self.conv = _convolution(weights, f"{name}.conv")
        self.stride = stride

    def forward(self, values: Tensor) -> Tensor:
        """Each voxel repeated, as nearest interpolation by whole factors does."""
        for axis, times in enumerate(self.stride, 2):
            values = values.repeat_interleave(times, axis) if times > 1 else values
        found: Tensor = self.conv(values)
        return found


def _stage(weights: Mapping[str, Any], name: str, depth: int, stride: Triple) -> nn.Sequential:
    return nn.Sequential(
        *(_Block(weights, f"{name}.{number}", (1, 1, 1) if number else stride) for number in range(depth))
    )


def _stages(weights: Mapping[str, Any], prefix: str) -> list[int]:
    """How many blocks each stage under ``prefix`` has."""
    found: dict[int, int] = {}
    for name in weights:
        if name.startswith(prefix) and name.endswith(".conv1.weight"):
            stage, block = (int(part) for part in name[len(prefix) :].split(".")[:2])
            found[stage] = max(found.get(stage, 0), block + 1)
    if sorted(found) != list(range(len(found))):
        raise ValueError
    return [found[stage] for stage in range(len(found))]


def _convolution(weights: Mapping[str, Any], name: str, stride: Triple = (1, 1, 1)) -> nn.Conv3d:
    """As large as its weight is, padded to keep the size."""
    after, before, *sides = weights[f"{name}.weight"].shape
    one, two, three = (int(side) for side in sides)
    return nn.Conv3d(
        int(before), int(after), (one, two, three), stride, (one // 2, two // 2, three // 2),
        bias=f"{name}.bias" in weights,
    )  # fmt: skip
