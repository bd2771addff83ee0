"""SwinUNETR of MONAI 1.6 (monai.networks.nets.SwinUNETR), built from the plain values of a bundle, with its names.

Attention in windows that are shifted from block to block (Hatamizadeh et al., arXiv 2201.01266; Liu et al., arXiv
2103.14030), and convolutions that join its five levels; three dimensions, one channel in. Also its second version.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.dyn_unet import RectifiedBlock, UpBlock
from models.networks.monai_layers import Layer, norm_of, number, unread

SWIN_UNETR = "SwinUNETR"
MULTIPLE = 32
"""Sides of a window of the network are multiples of this: five halvings."""
_STAGES = 4
_TRAINING = (
    "img_size",
    "use_checkpoint",
    "drop_rate",
    "attn_drop_rate",
    "dropout_path_rate",
    "use_flash_attention",
)
"""What says how it is trained or computed, and not what comes out."""
_EIGHTH = tuple((i, j, k) for i, j, k in product(range(2), repeat=3))
_FIRST_EIGHTH = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1))
"""Which voxel of each 2 x 2 x 2 comes when in merging: of MONAI's "mergingv2" and of its first way."""
_APART = -100.0
"""Added to the products of voxels that only the shift has brought into one window."""
Triple = tuple[int, int, int]


def without_places(weights: Mapping[str, Any]) -> dict[str, Any]:
    """``weights`` without what follows from the size of a window, and is stored with them all the same."""
    return {name: value for name, value in weights.items() if not name.endswith(".relative_position_index")}


class SwinUNETR(nn.Module):
    """[n, 1, x, y, z] float32, sides multiples of 32, to the one output of the graph, logits [n, classes, x, y, z]."""

    def __init__(self, classes: int, said: dict[str, Any]) -> None:
        """Raises StopRun("segmenter"), ValueError, TypeError or KeyError for arguments that are not known here."""
        super().__init__()
        for key in _TRAINING:
            said.pop(key, None)
        size = number(said.pop("feature_size", 24))
        norm = norm_of(said.pop("norm_name", "instance"))
        self.swinViT = _Swin(size, said)
        if size % 12 or said:
            raise unread(
                f"its {SWIN_UNETR} is given {', '.join(sorted(said)) or 'a feature_size it cannot have'}"
            )
        self.encoder1 = _Basic(1, size, norm)
        self.encoder2, self.encoder3, self.encoder4, self.encoder10 = (
            _Basic(size * times, size * times, norm) for times in (1, 2, 4, 16)
        )
        self.decoder5, self.decoder4, self.decoder3, self.decoder2 = (
            _up(2 * size * times, size * times, norm) for times in (8, 4, 2, 1)
        )
        self.decoder1 = _up(size, size, norm)
        inner, self.out = nn.Sequential(), nn.Sequential()
        inner.add_module("conv", nn.Conv3d(size, classes, 1))
        self.out.add_module("conv", inner)

    def forward(self, patch: Tensor) -> tuple[Tensor]:
        """The logits."""
        first, second, third, fourth, last = self.swinViT(patch)
        values = self.decoder5(self.encoder10(last), fourth)
        values = self.decoder4(values, self.encoder4(third))
        values = self.decoder3(values, self.encoder3(second))
        values = self.decoder2(values, self.encoder2(first))
        return (self.out(self.decoder1(values, self.encoder1(patch))),)


class _Basic(nn.Module):
    def __init__(self, before: int, after: int, norm: Layer) -> None:
        super().__init__()
        self.layer = _residual(before, after, norm)

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.layer(values)
        return found


def _leaky(_: int) -> nn.Module:
    return nn.LeakyReLU(0.01)


def _residual(before: int, after: int, norm: Layer) -> RectifiedBlock:
    return RectifiedBlock(before, after, (3, 3, 3), (1, 1, 1), norm, _leaky, residual=True)


def _up(before: int, after: int, norm: Layer) -> UpBlock:
    return UpBlock(before, after, (3, 3, 3), (2, 2, 2), norm, _leaky, bias=False, residual=True)


class _Swin(nn.Module):
    """The five levels of features, each normalised without weights where the bundle asks for it (its usual way)."""

    def __init__(self, size: int, said: dict[str, Any]) -> None:
        super().__init__()
        depths, heads = ([number(one) for one in said.pop(key, usual)] for key, usual in _USUAL.items())
        window = said.pop("window_size", 7)
        sides = (window,) * 3 if isinstance(window, int) else tuple(window)
        one, two, three = (number(side) for side in sides)
        ratio, bias = float(said.pop("mlp_ratio", 4.0)), bool(said.pop("qkv_bias", True))
        ways = {"merging": _FIRST_EIGHTH, "mergingv2": _EIGHTH}
        order = ways[said.pop("downsample", "merging")]
        second, self._normalize = bool(said.pop("use_v2", False)), bool(said.pop("normalize", True))
        patch = said.pop("patch_size", 2)
        if (
            (len(depths), len(heads)) != (_STAGES, _STAGES)
            or max(one, two, three) > 16
            or patch != 2
            or max(depths) > 64
        ):
            raise ValueError
        self.patch_embed = nn.Sequential()
        self.patch_embed.add_module("proj", nn.Conv3d(1, size, 2, 2))
        if said.pop("patch_norm", False):
            self.patch_embed.add_module("norm", _Channels(size))
        stage = partial(_Stage, window=(one, two, three), ratio=ratio, bias=bias, order=order)
        self._convolved = []
        for place, (depth, count) in enumerate(zip(depths, heads, strict=True), 1):
            here = size * 2 ** (place - 1)
            setattr(self, f"layers{place}", nn.ModuleList([stage(here, depth, count)]))
            if second:
                block = _Basic(here, here, norm_of("instance"))
                setattr(self, f"layers{place}c", nn.ModuleList([block]))
                self._convolved.append(block)

    def forward(self, patch: Tensor) -> list[Tensor]:
        values = self.patch_embed(patch)
        found = [self._out(values)]
        for place in range(1, _STAGES + 1):
            if self._convolved:
                values = self._convolved[place - 1](values)
            values = getattr(self, f"layers{place}")[0](values)
            found.append(self._out(values))
        return found

    def _out(self, values: Tensor) -> Tensor:
        if not self._normalize:
            return values
        last = values.permute(0, 2, 3, 4, 1)
        return functional.layer_norm(last, [int(values.shape[1])]).permute(0, 4, 1, 2, 3)


_USUAL = {"depths": (2, 2, 2, 2), "num_heads": (3, 6, 12, 24)}


class _Channels(nn.LayerNorm):
    """Channels of [n, channels, x, y, z] normalised."""

    def forward(self, values: Tensor) -> Tensor:
        return super().forward(values.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


class _Stage(nn.Module):
    """Blocks at one size, every second one with its windows shifted, then half the size: [n, c, x, y, z] to
    [n, 2c, x/2, y/2, z/2].
    """

    def __init__(
        self,
        size: int,
        depth: int,
        heads: int,
        *,
        window: Triple,
        ratio: float,
        bias: bool,
        order: Sequence[Triple],
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _Block(size, heads, window, ratio, shifted=bool(place % 2), bias=bias) for place in range(depth)
        )
        self.downsample = _Merging(size, order)

    def forward(self, values: Tensor) -> Tensor:
        values = values.permute(0, 2, 3, 4, 1)
        for block in self.blocks:
            values = block(values)
        found: Tensor = self.downsample(values).permute(0, 4, 1, 2, 3)
        return found


class _Merging(nn.Module):
    def __init__(self, size: int, order: Sequence[Triple]) -> None:
        super().__init__()
        self.reduction, self.norm = nn.Linear(8 * size, 2 * size, bias=False), nn.LayerNorm(8 * size)
        self._order = order

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.norm(torch.cat([values[:, i::2, j::2, k::2] for i, j, k in self._order], -1))
        return self.reduction(found)  # type: ignore[no-any-return]


class _Block(nn.Module):
    def __init__(
        self, size: int, heads: int, window: Triple, ratio: float, *, shifted: bool, bias: bool
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.attn = _Attention(size, heads, window, bias)
        self.mlp = nn.Sequential()
        self.mlp.add_module("linear1", nn.Linear(size, int(size * ratio)))
        self.mlp.add_module("fn", nn.GELU())
        self.mlp.add_module("linear2", nn.Linear(int(size * ratio), size))
        self._window, self._shifted = window, shifted

    def forward(self, values: Tensor) -> Tensor:
        values = values + self._attended(self.norm1(values))
        found: Tensor = values + self.mlp(self.norm2(values))
        return found

    def _attended(self, values: Tensor) -> Tensor:
        sides = tuple(int(side) for side in values.shape[1:4])
        window, shift = _fitted(sides, self._window, self._shifted)
        more = [-side % step for side, step in zip(sides, window, strict=True)]
        padded = functional.pad(values, (0, 0, 0, more[2], 0, more[1], 0, more[0]))
        whole = tuple(side + one for side, one in zip(sides, more, strict=True))
        apart = torch.from_numpy(_apart(whole, window, shift)) if any(shift) else None
        if any(shift):
            padded = torch.roll(padded, tuple(-one for one in shift), (1, 2, 3))
        attended = _joined(self.attn(_cut(padded, whole, window), apart), whole, window)
        if any(shift):
            attended = torch.roll(attended, shift, (1, 2, 3))
        return attended[:, : sides[0], : sides[1], : sides[2]]


class _Attention(nn.Module):
    """[n * windows, voxels, channels] to the same; the place of two voxels to each other adds to their product."""

    def __init__(self, size: int, heads: int, window: Triple, bias: bool) -> None:
        super().__init__()
        if size % heads:
            raise ValueError
        places = int(np.prod([2 * side - 1 for side in window]))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(places, heads))
        self._between = _between(window)
        self.qkv, self.proj = nn.Linear(size, 3 * size, bias=bias), nn.Linear(size, size)
        self._heads = heads

    def forward(self, values: Tensor, apart: Tensor | None) -> Tensor:
        voxels, channels = int(values.shape[1]), int(values.shape[2])
        each = channels // self._heads
        query, key, value = self.qkv(values).reshape(-1, voxels, 3, self._heads, each).permute(2, 0, 3, 1, 4)
        index = torch.from_numpy(self._between[:voxels, :voxels].reshape(-1))
        near = self.relative_position_bias_table[index].reshape(voxels, voxels, self._heads).permute(2, 0, 1)
        products = (query * each**-0.5) @ key.transpose(-2, -1) + near
        if apart is not None:
            products = products.reshape(-1, len(apart), self._heads, voxels, voxels) + apart[:, None]
            products = products.reshape(-1, self._heads, voxels, voxels)
        found = (products.softmax(-1) @ value).transpose(1, 2).reshape(-1, voxels, channels)
        return self.proj(found)  # type: ignore[no-any-return]


def _between(window: Triple) -> np.ndarray[Any, np.dtype[np.int64]]:
    """[voxels, voxels]: the row of the table for each two voxels of a window."""
    places = np.stack(np.meshgrid(*map(np.arange, window), indexing="ij")).reshape(3, -1)
    apart = places[:, :, None] - places[:, None, :] + np.array(window)[:, None, None] - 1
    second, third = 2 * window[1] - 1, 2 * window[2] - 1
    return np.asarray(apart[0] * second * third + apart[1] * third + apart[2], np.int64)


def _fitted(sides: Sequence[int], window: Triple, shifted: bool) -> tuple[Triple, Triple]:
    """The window and its shift where the picture is no larger than the window: all of it, and no shift."""
    fits = [side <= step for side, step in zip(sides, window, strict=True)]
    one, two, three = (side if fit else step for side, step, fit in zip(sides, window, fits, strict=True))
    a, b, c = (0 if fit or not shifted else step // 2 for step, fit in zip(window, fits, strict=True))
    return (one, two, three), (a, b, c)


def _apart(sides: Sequence[int], window: Triple, shift: Triple) -> np.ndarray[Any, np.dtype[np.float32]]:
    """[windows, voxels, voxels]: 0 for two voxels that were neighbours before the shift, else ``_APART``."""
    regions = np.zeros(tuple(sides), np.int64)
    for axis, (side, step, moved) in enumerate(zip(sides, window, shift, strict=True)):
        place = np.arange(side)
        part = (
            np.where(place < side - step, 0, np.where(place < side - moved, 1, 2))
            if moved
            else np.zeros(side, int)
        )
        regions = regions * 3 + part.reshape([-1 if axis == other else 1 for other in range(3)])
    x, y, z = (side // step for side, step in zip(sides, window, strict=True))
    parts = regions.reshape(x, window[0], y, window[1], z, window[2]).transpose(0, 2, 4, 1, 3, 5)
    windows = parts.reshape(x * y * z, -1)
    return np.where(windows[:, :, None] == windows[:, None, :], 0, _APART).astype(np.float32)


def _cut(values: Tensor, sides: Sequence[int], window: Triple) -> Tensor:
    """[n, x, y, z, c] to [n * windows, voxels, c]."""
    x, y, z = (side // step for side, step in zip(sides, window, strict=True))
    parts = values.reshape(-1, x, window[0], y, window[1], z, window[2], values.shape[-1])
    return parts.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, int(np.prod(window)), values.shape[-1])


def _joined(values: Tensor, sides: Sequence[int], window: Triple) -> Tensor:
    """[n * windows, voxels, c] back to [n, x, y, z, c]."""
    x, y, z = (side // step for side, step in zip(sides, window, strict=True))
    parts = values.reshape(-1, x, y, z, *window, values.shape[-1])
    return parts.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, *sides, values.shape[-1])
