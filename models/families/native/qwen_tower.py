"""The tower of Qwen2-VL and Qwen2.5-VL as one graph for images of any size.

All that depends on the size of an image comes in as an input computed here in numpy: the rotary angles of its patches
and, for the windowed blocks of Qwen2.5-VL, the window of each patch. Two patches attend to each other where their
windows are the same; that is what transformers computes by sorting the patches by window and cutting them apart.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.families.native.networks import ChatNetwork
from models.families.native.seeing import float32_bytes, on_cpu, tower_files, without_language
from models.families.towers import SHAPING, Tower
from models.runners.encoder import Arrays, EncoderSource, Lengths, VisionEncoder
from pipeline.errors import StopRun

MERGE = 2
"""Patches along one side of a merged token."""
MOST_PATCHES = 8192
"""Patches that go through the tower at once; a longer series would take memory in proportion to its length."""
BEST_PATCHES = 1024
"""Patches that an engine is tuned for: an image of about 450 x 450 pixels."""
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TowerShape:
    """What the inputs of the graph are computed from.

    ``frequencies`` are the rotary embedding's, a quarter of a head's width; ``window`` is the side of an attention
    window in merged tokens, 0 where every block sees the whole image.
    """

    frequencies: Floats
    window: int

    def inputs(self, rows: int, columns: int) -> dict[str, NDArray[Any]]:
        """``cosine`` and ``sine`` [patches, head] and, where there are windows, ``window`` int64 [patches].

        For an image of ``rows`` x ``columns`` patches, both even, in the order of the processor.
        """
        inputs: dict[str, NDArray[Any]] = {**rotary_inputs(rows, columns, self.frequencies)}
        if self.window:
            row, column = (place // MERGE // self.window for place in block_order(rows, columns))
            inputs["window"] = row * columns + column
        return inputs


class GridInputs(Protocol):
    """What gives the inputs of a tower's graph that depend on the size of an image."""

    def inputs(self, rows: int, columns: int) -> dict[str, NDArray[Any]]:
        """Arrays [patches, ...] by name, for an image of ``rows`` x ``columns`` patches."""
        ...


def shape_of_tower(network: Any) -> TowerShape:
    """Read a loaded network. Raises StopRun for a tower that this arithmetic is not of."""
    visual = network.model.visual
    if visual.config.spatial_merge_size != MERGE:
        raise StopRun("weights", "the tower merges other than 2 x 2 patches; it is not a Qwen2-VL tower")
    side = getattr(visual.config, "window_size", 0) // MERGE // visual.config.patch_size
    return TowerShape(visual.rotary_pos_emb.inv_freq.float().cpu().numpy(), side)


def block_order(rows: int, columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of each patch, in the order of the processor: merged token by merged token, its four together."""
    down, across = (
        grid.reshape(rows // MERGE, MERGE, columns // MERGE, MERGE)
        .transpose(0, 2, 1, 3)
        .ravel()
        .astype(np.int64)
        for grid in np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    )
    return down, across


def rotary_inputs(rows: int, columns: int, frequencies: Floats) -> dict[str, Floats]:
    """``cosine`` and ``sine`` [patches, head] of the angles of each patch."""
    places = block_order(rows, columns)
    angles = np.concatenate([place[:, None].astype(np.float32) * frequencies for place in places], axis=1)
    angles = np.concatenate([angles, angles], axis=1)
    return {"cosine": np.cos(angles).astype(np.float32), "sine": np.sin(angles).astype(np.float32)}


def attend(attention: Any, states: Any, cosine: Any, sine: Any, mask: Any) -> Any:
    """Attention of a block among the patches [n, patches, width] of each image; angles [n, patches, 1, head]."""
    from torch.nn import functional

    parts = attention.qkv(states).unflatten(-1, (3, attention.num_heads, -1)).unbind(2)
    query, key = (_turn(part.float(), cosine, sine).to(states.dtype) for part in parts[:2])
    query, key, value = (part.transpose(1, 2) for part in (query, key, parts[2]))
    seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return attention.proj(seen.transpose(1, 2).flatten(2))


def _turn(part: Any, cosine: Any, sine: Any) -> Any:
    import torch

    first, second = part.chunk(2, dim=-1)
    return part * cosine + torch.cat([-second, first], dim=-1) * sine


def qwen_source(model: Any, shape: TowerShape, most_patches: int = MOST_PATCHES) -> EncoderSource:
    """Tower and merger of a loaded network's ``model``, for images of up to ``most_patches``.

    ``pixels`` [n, patches, values] of images of one size to features [n, patches / 4, width].
    """
    import torch
    from torch.nn import functional

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = model.visual
            self.whole = (
                tuple(getattr(self.visual.config, "fullatt_block_indexes", ())) if shape.window else None
            )

        def forward(self, pixels: Any, cosine: Any, sine: Any, window: Any = None) -> Any:
            weight = self.visual.patch_embed.proj.weight
            states = functional.linear(pixels.to(weight.dtype), weight.flatten(1))
            cosine, sine = cosine[:, :, None], sine[:, :, None]
            mask = None
            if window is not None:
                apart = window[:, None, :, None] != window[:, None, None, :]
                mask = apart.to(weight.dtype) * max(-1e9, torch.finfo(weight.dtype).min)
            for number, block in enumerate(self.visual.blocks):
                near = mask if self.whole is not None and number not in self.whole else None
                states = states + attend(block.attn, block.norm1(states), cosine, sine, near)
                states = states + block.mlp(block.norm2(states))
            merger = self.visual.merger
            joined = merger.ln_q(states).unflatten(1, (-1, MERGE * MERGE)).flatten(2)
            return (merger.mlp(joined).float(),)

    lengths = Lengths(
        "patches", MERGE * MERGE, 4 * MERGE * MERGE, min(BEST_PATCHES, most_patches), most_patches
    )
    return EncoderSource(Tower().eval(), example_inputs(model, shape), ("features",), lengths)


def example_inputs(model: Any, shape: TowerShape) -> dict[str, NDArray[Any]]:
    """Two images of noise, 6 x 12 patches."""
    values = model.visual.patch_embed.proj.weight[0].numel()
    pixels = np.random.default_rng(0).standard_normal((2, 72, values)).astype(np.float32)
    return {"pixels": pixels} | {
        name: np.stack([table, table]) for name, table in shape.inputs(6, 12).items()
    }


def see_images(
    encoder: VisionEncoder, patches: Sequence[Floats], grids: Sequence[tuple[int, int]], shape: GridInputs
) -> list[Arrays]:
    """The encoder's outputs [tokens, ...] of each image, from its patches [n, values] and grid (rows, columns).

    Images of one size go through the encoder together, up to ``MOST_PATCHES``.
    """
    seen: dict[int, Arrays] = {}
    for grid in sorted(set(grids)):
        alike = [row for row, one in enumerate(grids) if one == grid]
        tables = shape.inputs(*grid)
        step = max(1, MOST_PATCHES // (grid[0] * grid[1]))
        for start in range(0, len(alike), step):
            rows = alike[start : start + step]
            inputs: Mapping[str, NDArray[Any]] = {"pixels": np.stack([patches[row] for row in rows])} | {
                name: np.repeat(table[None], len(rows), axis=0) for name, table in tables.items()
            }
            outputs = encoder.encode(inputs)
            for place, row in enumerate(rows):
                seen[row] = {name: values[place] for name, values in outputs.items()}
    return [seen[row] for row in range(len(patches))]


def qwen_tower(loaded: ChatNetwork, model_id: str) -> Tower:
    """The tower of a loaded network, for images as large as its processor lets them be."""
    model, shape = without_language(loaded.network.model, ("visual",)), shape_of_tower(loaded.network)
    return describe_tower(loaded, model_id, model, (), lambda one, most: qwen_source(one, shape, most))


def describe_tower(
    loaded: ChatNetwork,
    model_id: str,
    model: Any,
    shaping: tuple[Path, ...],
    source: Callable[[Any, int], EncoderSource],
) -> Tower:
    """The tower that ``source`` makes of ``model`` (the seeing part of ``loaded``) and of its most patches."""
    side, most = loaded.processor.patch_size * MERGE, loaded.processor.size["longest_edge"]
    patches = MERGE * MERGE * (most // side**2)
    return Tower(
        model_id,
        tower_files(loaded, model),
        (*SHAPING, Path(__file__), *shaping),
        lambda: source(on_cpu(model), patches),
        lambda: source(model, patches),
        float32_bytes(model),
        on_gpu=model.device.type != "cpu",
    )
