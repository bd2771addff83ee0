"""Networks of MONAI, built from the plain values of a bundle, with its names of parameters.

UNet (monai.networks.nets.UNet: convolutions with strides and residual units, Kerfoot et al., STACOM 2018) and SegResNet
(Myronenko, BrainLes 2018) of MONAI 1.6, three dimensions, one channel in; DynUNet and SwinUNETR have files of their
own. Nothing that a bundle names is imported.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.dyn_unet import DYN_UNET, DynUNet, without_repeats
from models.networks.monai_layers import Layer, act_of, norm_of, number, odd, unread
from models.networks.swin_unetr import SWIN_UNETR, SwinUNETR, without_places

UNET, SEG_RES_NET = "UNet", "SegResNet"


@dataclass(frozen=True, slots=True)
class MonaiNetwork:
    """``kind`` and the arguments of its definition in a bundle, as plain values; ``outputs`` are its classes."""

    kind: str
    outputs: int
    arguments: Mapping[str, Any]


def network_of_bundle(told: MonaiNetwork) -> nn.Module:
    """The network with random weights. Raises StopRun("segmenter") for arguments that are not known here."""
    arguments = dict(told.arguments)
    try:
        if (int(arguments.pop("spatial_dims", 3)), int(arguments.pop("in_channels", 1))) != (3, 1):
            raise unread("a network of three dimensions and one channel alone is read")
        arguments.pop("out_channels", None)
        return _KINDS[told.kind](told.outputs, arguments)
    except (KeyError, TypeError, ValueError):
        raise unread(f"the arguments of its {told.kind} do not fit together") from None


def named_once_in_bundle(told: MonaiNetwork, weights: Mapping[str, Any]) -> dict[str, Any]:
    """``weights`` as the bundle stores them, each under one name."""
    once = {DYN_UNET: without_repeats, SWIN_UNETR: without_places}.get(told.kind, dict)
    return once(weights)


class _UNet(nn.Module):
    """[n, 1, x, y, z] float32 to the one output of the graph, logits [n, classes, x, y, z]."""

    def __init__(self, classes: int, said: dict[str, Any]) -> None:
        super().__init__()
        channels = [number(one) for one in said.pop("channels")]
        strides = [number(one) for one in said.pop("strides")][: len(channels) - 1]
        self._units = int(said.pop("num_res_units", 0))
        self._kernel, self._up_kernel = odd(said.pop("kernel_size", 3)), odd(said.pop("up_kernel_size", 3))
        self._norm, self._act = norm_of(said.pop("norm", "INSTANCE")), act_of(said.pop("act", "PRELU"))
        self._bias = bool(said.pop("bias", True))
        said.pop("dropout", None)  # nothing is dropped when a network is used
        if said.pop("adn_ordering", "NDA").replace("D", "") != "NA" or said:
            raise unread(f"its {UNET} is given {', '.join(sorted(said)) or 'another order of layers'}")
        if len(channels) < 2 or len(strides) < len(channels) - 1 or not 0 <= self._units <= 8:
            raise ValueError
        self.model = self._block(1, classes, channels, strides, top=True)

    def _block(
        self, before: int, after: int, channels: Sequence[int], strides: Sequence[int], *, top: bool
    ) -> nn.Module:
        here, stride = channels[0], strides[0]
        if len(channels) > 2:
            below, joined = self._block(here, here, channels[1:], strides[1:], top=False), 2 * here
        else:
            below, joined = self._down(here, channels[1], 1), here + channels[1]
        return nn.Sequential(
            self._down(before, here, stride), _Skip(below), self._up(joined, after, stride, top=top)
        )

    def _down(self, before: int, after: int, stride: int) -> nn.Module:
        if self._units:
            return self._residual(before, after, stride, self._units)
        return self._layer(before, after, stride, self._kernel)

    def _up(self, before: int, after: int, stride: int, *, top: bool) -> nn.Module:
        whole = top and not self._units
        layer = self._layer(before, after, stride, self._up_kernel, transposed=True, bare=whole)
        if not self._units:
            return layer
        return nn.Sequential(layer, self._residual(after, after, 1, 1, bare=top))

    def _residual(self, before: int, after: int, stride: int, units: int, *, bare: bool = False) -> nn.Module:
        layers = nn.Sequential()
        for unit in range(units):
            layers.add_module(
                f"unit{unit}",
                self._layer(
                    before if unit == 0 else after,
                    after,
                    stride if unit == 0 else 1,
                    self._kernel,
                    bare=bare and unit == units - 1,
                ),
            )
        shortcut: nn.Module = nn.Identity()
        if stride != 1:
            shortcut = nn.Conv3d(before, after, self._kernel, stride, self._kernel // 2, bias=self._bias)
        elif before != after:
            shortcut = nn.Conv3d(before, after, 1, 1, 0, bias=self._bias)
        return _Residual(layers, shortcut)

    def _layer(
        self,
        before: int,
        after: int,
        stride: int,
        kernel: int,
        *,
        transposed: bool = False,
        bare: bool = False,
    ) -> nn.Module:
        layer = nn.Sequential()
        if transposed:
            convolution: nn.Module = nn.ConvTranspose3d(
                before, after, kernel, stride, kernel // 2, stride - 1, bias=self._bias
            )
        else:
            convolution = nn.Conv3d(before, after, kernel, stride, kernel // 2, bias=self._bias)
        layer.add_module("conv", convolution)
        if not bare:
            rest = nn.Sequential()
            rest.add_module("N", self._norm(after))
            rest.add_module("A", self._act(after))
            layer.add_module("adn", rest)
        return layer

    def forward(self, patch: Tensor) -> tuple[Tensor]:
        return (self.model(patch),)


class _Skip(nn.Module):
    def __init__(self, below: nn.Module) -> None:
        super().__init__()
        self.submodule = below

    def forward(self, values: Tensor) -> Tensor:
        return torch.cat([values, self.submodule(values)], dim=1)


class _Residual(nn.Module):
    def __init__(self, layers: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv, self.residual = layers, shortcut

    def forward(self, values: Tensor) -> Tensor:
        shortcut: Tensor = self.residual(values)
        found: Tensor = self.conv(values)
        return found + shortcut


class _SegResNet(nn.Module):
    """As ``_UNet``; blocks of two convolutions after their norms, trilinear or transposed steps up."""

    def __init__(self, classes: int, said: dict[str, Any]) -> None:
        super().__init__()
        first = number(said.pop("init_filters", 8))
        down = [number(one) for one in said.pop("blocks_down", (1, 2, 2, 4))]
        up = [number(one) for one in said.pop("blocks_up", (1, 1, 1))]
        groups = number(said.pop("num_groups", 8))
        norm, act = (
            norm_of(said.pop("norm", ("GROUP", {"num_groups": groups}))),
            act_of(said.pop("act", "RELU")),
        )
        mode = str(said.pop("upsample_mode", "nontrainable"))
        said.pop("dropout_prob", None)
        if said or mode not in ("nontrainable", "deconv") or len(up) != len(down) - 1:
            raise unread(
                f"its {SEG_RES_NET} is given {', '.join(sorted(said)) or 'another way up or other blocks'}"
            )
        self.convInit = _bare(1, first)
        self.down_layers = nn.ModuleList()
        for stage, count in enumerate(down):
            here = first * 2**stage
            step: nn.Module = _bare(here // 2, here, stride=2) if stage else nn.Identity()
            self.down_layers.append(nn.Sequential(step, *(_Block(here, norm, act) for _ in range(count))))
        self.up_layers, self.up_samples = nn.ModuleList(), nn.ModuleList()
        for stage, count in enumerate(up):
            here = first * 2 ** (len(up) - stage - 1)
            self.up_layers.append(nn.Sequential(*(_Block(here, norm, act) for _ in range(count))))
            larger = nn.Sequential()
            if mode == "deconv":
                larger.add_module("deconv", nn.ConvTranspose3d(here, here, 2, 2))
            else:
                larger.add_module("upsample_non_trainable", _Twice())
            self.up_samples.append(nn.Sequential(_bare(2 * here, here, kernel=1), larger))
        self.conv_final = nn.Sequential(norm(first), act(first), _bare(first, classes, kernel=1, bias=True))

    def forward(self, patch: Tensor) -> tuple[Tensor]:
        values = self.convInit(patch)
        held = []
        for down in self.down_layers:
            values = down(values)
            held.append(values)
        for place, (larger, blocks) in enumerate(zip(self.up_samples, self.up_layers, strict=True), 2):
            values = blocks(larger(values) + held[-place])
        return (self.conv_final(values),)


class _Block(nn.Module):
    def __init__(self, channels: int, norm: Layer, act: Layer) -> None:
        super().__init__()
        self.norm1, self.norm2, self.act = norm(channels), norm(channels), act(channels)
        self.conv1, self.conv2 = _bare(channels, channels), _bare(channels, channels)

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.conv1(self.act(self.norm1(values)))
        found = self.conv2(self.act(self.norm2(found)))
        return found + values


class _Twice(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return nn.functional.interpolate(values, scale_factor=2.0, mode="trilinear", align_corners=False)


def _bare(before: int, after: int, *, kernel: int = 3, stride: int = 1, bias: bool = False) -> nn.Module:
    layer = nn.Sequential()
    layer.add_module("conv", nn.Conv3d(before, after, kernel, stride, kernel // 2, bias=bias))
    return layer


_KINDS: Mapping[str, Callable[[int, dict[str, Any]], nn.Module]] = {
    UNET: _UNet, SEG_RES_NET: _SegResNet, DYN_UNET: DynUNet, SWIN_UNETR: SwinUNETR,
}  # fmt: skip
KNOWN = tuple(_KINDS)
"""The networks that a bundle may name."""
