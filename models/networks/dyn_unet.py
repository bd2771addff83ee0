"""DynUNet of MONAI 1.6 (monai.networks.nets.DynUNet), built from the plain values of a bundle, with its names.

nnU-Net's shape with kernels and strides of each stage told (Isensee et al., Nature Methods 2021), three dimensions, one
channel in. Of deep supervision only what is used after training is built.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.monai_layers import Layer, act_of, norm_of, number, unread

DYN_UNET = "DynUNet"
_AGAIN = ("skip_layers.", "deep_supervision_heads.")
"""What a file of its weights holds a second time, or for training alone."""
_TRAINING = ("dropout", "deep_supervision", "deep_supr_num")
Triple = tuple[int, int, int]


def without_repeats(weights: Mapping[str, Any]) -> dict[str, Any]:
    """``weights`` as MONAI stores them, each under one name: its modules hold their layers twice."""
    return {name: value for name, value in weights.items() if not name.startswith(_AGAIN)}


class DynUNet(nn.Module):
    """[n, 1, x, y, z] float32 to the one output of the graph, logits [n, classes, x, y, z]."""

    def __init__(self, classes: int, said: dict[str, Any]) -> None:
        """Raises StopRun("segmenter"), ValueError, TypeError or KeyError for arguments that are not known here."""
        super().__init__()
        kernels, strides = ([_triple(one) for one in said.pop(key)] for key in ("kernel_size", "strides"))
        ups = [_triple(one) for one in said.pop("upsample_kernel_size")]
        told = said.pop("filters", None) or [min(2 ** (5 + stage), 320) for stage in range(len(strides))]
        filters = [number(one) for one in told][: len(strides)]
        norm = norm_of(said.pop("norm_name", ("INSTANCE", {"affine": True})))
        act = act_of(said.pop("act_name", ("leakyrelu", {"inplace": True, "negative_slope": 0.01})))
        residual, bias = bool(said.pop("res_block", False)), bool(said.pop("trans_bias", False))
        for key in _TRAINING:
            said.pop(key, None)
        if said:
            raise unread(f"its {DYN_UNET} is given {', '.join(sorted(said))}")
        if not len(kernels) == len(strides) == len(filters) == len(ups) + 1 >= 3:
            raise ValueError

        def down(stage: int, before: int) -> nn.Module:
            return RectifiedBlock(before, filters[stage], kernels[stage], strides[stage], norm, act, residual)

        last = len(strides) - 1
        self.input_block = down(0, 1)
        self.downsamples = nn.ModuleList(down(stage, filters[stage - 1]) for stage in range(1, last))
        self.bottleneck = down(last, filters[last - 1])
        self.upsamples = nn.ModuleList(
            UpBlock(filters[stage], filters[stage - 1], kernels[stage], ups[stage - 1], norm, act, bias)
            for stage in range(last, 0, -1)
        )
        self.output_block = nn.Sequential()
        self.output_block.add_module(
            "conv", _convolution(filters[0], classes, (1, 1, 1), (1, 1, 1), bias=True)
        )

    def forward(self, patch: Tensor) -> tuple[Tensor]:
        """The logits."""
        held = [self.input_block(patch)]
        for down in self.downsamples:
            held.append(down(held[-1]))
        values = self.bottleneck(held[-1])
        for up, skip in zip(self.upsamples, reversed(held), strict=True):
            values = up(values, skip)
        return (self.output_block(values),)


class RectifiedBlock(nn.Module):
    """Two convolutions, each normalised and rectified; with ``residual`` and a shortcut where sizes change."""

    def __init__(
        self, before: int, after: int, kernel: Triple, stride: Triple, norm: Layer, act: Layer, residual: bool
    ) -> None:
        super().__init__()
        self.conv1 = _convolution(before, after, kernel, stride)
        self.conv2 = _convolution(after, after, kernel, (1, 1, 1))
        self.lrelu, self.norm1, self.norm2 = act(after), norm(after), norm(after)
        self.residual = residual
        self.changes = residual and (before != after or stride != (1, 1, 1))
        if self.changes:
            self.conv3, self.norm3 = _convolution(before, after, (1, 1, 1), stride), norm(after)

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.norm2(self.conv2(self.lrelu(self.norm1(self.conv1(values)))))
        if self.residual:
            found = found + (self.norm3(self.conv3(values)) if self.changes else values)
        rectified: Tensor = self.lrelu(found)
        return rectified


class UpBlock(nn.Module):
    """Larger by ``up``, joined with what was kept of that size, and a block of both."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: Triple,
        up: Triple,
        norm: Layer,
        act: Layer,
        bias: bool,
        *,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.transp_conv = nn.Sequential()
        self.transp_conv.add_module("conv", nn.ConvTranspose3d(before, after, up, up, bias=bias))
        self.conv_block = RectifiedBlock(2 * after, after, kernel, (1, 1, 1), norm, act, residual)

    def forward(self, values: Tensor, skip: Tensor) -> Tensor:
        found: Tensor = self.conv_block(torch.cat((self.transp_conv(values), skip), 1))
        return found


def _convolution(before: int, after: int, kernel: Triple, stride: Triple, *, bias: bool = False) -> nn.Module:
    one, two, three = ((side - step + 1) // 2 for side, step in zip(kernel, stride, strict=True))
    if any(side < step - 1 for side, step in zip(kernel, stride, strict=True)):
        raise ValueError
    layer = nn.Sequential()
    layer.add_module("conv", nn.Conv3d(before, after, kernel, stride, (one, two, three), bias=bias))
    return layer


def _triple(value: Any) -> Triple:
    one, two, three = (value,) * 3 if isinstance(value, int) else value
    sides = number(one), number(two), number(three)
    if max(sides) > 9:
        raise ValueError
    return sides
