"""The tower of Qwen3-VL as one graph with two outputs, for images of any size.

transformers' own tower does not export with the grid as an input, so this is a graph of our own over its weights
(decision 38). All that depends on the size of an image comes in as an input computed here in numpy: the rotary angles
of its patches, and the four corners of the learned square of positions that each patch lies between, with their
shares. Patches of one image see each other and no others; so do the two frames of a video that become one patch.

Beside the merged features the language model takes those of some earlier blocks, one set for each of its first layers
("DeepStack", arXiv 2406.04334): they are the second output.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.families.native.networks import ChatNetwork
from models.families.native.qwen_tower import (
    BEST_PATCHES,
    MERGE,
    MOST_PATCHES,
    Floats,
    attend,
    block_order,
    describe_tower,
    rotary_inputs,
)
from models.families.native.seeing import without_language
from models.families.towers import Tower
from models.runners.encoder import EncoderSource, Lengths
from pipeline.errors import StopRun

DEEP = "deep"
"""The output for the first layers of the language model, [n, patches / 4, layers, width]."""
_CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


@dataclass(frozen=True, slots=True)
class Qwen3Shape:
    """What the inputs of the graph are computed from.

    ``frequencies`` are the rotary embedding's, a quarter of a head's width; ``side`` is the number of learned
    positions along one side of their square.
    """

    frequencies: Floats
    side: int

    def inputs(self, rows: int, columns: int) -> dict[str, NDArray[Any]]:
        """``cosine``, ``sine`` [patches, head], ``corners`` int64 and ``shares`` float32 [patches, 4].

        For an image of ``rows`` x ``columns`` patches, both even, in the order of the processor.
        """
        down, across = block_order(rows, columns)
        high, low = _between(down, rows, self.side), _between(across, columns, self.side)
        corners = [high[0][a] * self.side + low[0][b] for a, b in _CORNERS]
        shares = [high[1][a] * low[1][b] for a, b in _CORNERS]
        return {
            **rotary_inputs(rows, columns, self.frequencies),
            "corners": np.stack(corners, axis=1).astype(np.int64),
            "shares": np.stack(shares, axis=1).astype(np.float32),
        }


def _between(
    places: NDArray[np.int64], length: int, side: int
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], tuple[Floats, Floats]]:
    """The learned positions before and behind each place of an axis of ``length``, and the share of each (linear)."""
    at = places.astype(np.float32) * np.float32(side - 1) / np.float32(max(length - 1, 1))
    before = np.floor(at).astype(np.int64)
    share = at - before.astype(np.float32)
    return (before, np.minimum(before + 1, side - 1)), (np.float32(1) - share, share)


def shape_of_qwen3(network: Any) -> Qwen3Shape:
    """Read a loaded network. Raises StopRun for a tower that this arithmetic is not of."""
    visual = network.model.visual
    if visual.config.spatial_merge_size != MERGE or visual.interpolation_mode != "bilinear":
        raise StopRun(
            "weights", "the tower merges or places its patches otherwise; it is not a Qwen3-VL tower"
        )
    return Qwen3Shape(visual.rotary_pos_emb.inv_freq.float().cpu().numpy(), visual.num_grid_per_side)


def qwen3_source(model: Any, shape: Qwen3Shape, most_patches: int = MOST_PATCHES) -> EncoderSource:
    """Tower and mergers of a loaded network's ``model``, for images of up to ``most_patches``.

    ``pixels`` [n, patches, values] of images of one size to ``features`` [n, patches / 4, width] and ``deep``
    [n, patches / 4, layers, width].
    """
    import torch
    from torch.nn import functional

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = model.visual

        def forward(self, pixels: Any, cosine: Any, sine: Any, corners: Any, shares: Any) -> Any:
            visual = self.visual
            projected = visual.patch_embed.proj
            states = functional.linear(
                pixels.to(projected.weight.dtype), projected.weight.flatten(1), projected.bias
            )
            placed = sum(
                visual.pos_embed(corners[:, :, corner]) * shares[:, :, corner, None]
                for corner in range(len(_CORNERS))
            )
            states = states + placed.to(states.dtype)
            cosine, sine = cosine[:, :, None], sine[:, :, None]
            wanted, deep = list(visual.deepstack_visual_indexes), []
            for number, block in enumerate(visual.blocks):
                states = states + attend(block.attn, block.norm1(states), cosine, sine, None)
                states = states + block.mlp(block.norm2(states))
                if number in wanted:
                    deep.append(merge(visual.deepstack_merger_list[wanted.index(number)], states))
            return merge(visual.merger, states).float(), torch.stack(deep, dim=2).float()

    def merge(merger: Any, states: Any) -> Any:
        """Four patches to a token: normed one by one, or joined first (those of the earlier blocks)."""
        if not merger.use_postshuffle_norm:
            states = merger.norm(states)
        joined = states.unflatten(1, (-1, MERGE * MERGE)).flatten(2)
        if merger.use_postshuffle_norm:
            joined = merger.norm(joined)
        return merger.linear_fc2(merger.act_fn(merger.linear_fc1(joined)))

    lengths = Lengths(
        "patches", MERGE * MERGE, 4 * MERGE * MERGE, min(BEST_PATCHES, most_patches), most_patches
    )
    return EncoderSource(Tower().eval(), _example(model, shape), ("features", DEEP), lengths)


def _example(model: Any, shape: Qwen3Shape) -> dict[str, NDArray[Any]]:
    """Two images of noise, 6 x 12 patches."""
    values = model.visual.patch_embed.proj.weight[0].numel()
    pixels = np.random.default_rng(0).standard_normal((2, 72, values)).astype(np.float32)
    return {"pixels": pixels} | {name: np.stack([one, one]) for name, one in shape.inputs(6, 12).items()}


def qwen3_tower(loaded: ChatNetwork, model_id: str) -> Tower:
    """The tower of a loaded network, for images as large as its processor lets them be."""
    model, shape = without_language(loaded.network.model, ("visual",)), shape_of_qwen3(loaded.network)
    return describe_tower(
        loaded, model_id, model, (Path(__file__),), lambda one, most: qwen3_source(one, shape, most)
    )
