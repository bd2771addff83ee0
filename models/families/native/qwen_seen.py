"""What of images and clips goes to the language model of a Qwen-VL network, in the form that its ``generate`` takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.families.native.qwen_tower import MERGE


@dataclass(frozen=True, slots=True)
class SeenTokens:
    """What of the images of one prompt goes to the language model.

    ``features`` [tokens, width], ``grids`` [images, 3] (1, rows, columns), ``moving`` [images], which of them are pairs
    of frames of a clip, and, of Qwen3-VL, ``deep`` [tokens, layers, width] for its first layers.
    """

    features: NDArray[np.float32]
    grids: NDArray[np.int64]
    moving: NDArray[np.bool_]
    deep: NDArray[np.float32] | None = None


def give_features(network: Any, seen: Sequence[SeenTokens], ids: Any) -> dict[str, Any]:
    """The arguments of ``network`` beside the token ids [n, t]: the features ``seen`` of the prompts that have any."""
    import torch
    from transformers.modeling_outputs import BaseModelOutputWithPooling
    from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

    def given(values: NDArray[np.float32]) -> Any:
        return torch.from_numpy(np.ascontiguousarray(values)).to(network.device, network.dtype)

    features = np.concatenate([one.features for one in seen])
    deep = [one.deep for one in seen if one.deep is not None]
    grids, moving = (np.concatenate([getattr(one, name) for one in seen]) for name in ("grids", "moving"))
    inside = np.repeat(moving, grids.prod(axis=1) // MERGE**2)
    outputs: dict[str, Any] = {}
    made: dict[str, Any] = {"mm_token_type_ids": (ids == network.config.image_token_id).int()}
    for name, rows, images in (("image", ~inside, ~moving), ("video", inside, moving)):
        if not images.any():
            continue
        pooled: Any = [given(features[rows])]
        outputs[name] = BaseModelOutputWithPooling(pooler_output=pooled)
        if deep:
            layers: Any = [[given(layer)] for layer in np.concatenate(deep)[rows].transpose(1, 0, 2)]
            outputs[name] = BaseModelOutputWithDeepstackFeatures(
                pooler_output=pooled, deepstack_features=layers
            )
        made[f"{name}_grid_thw"] = torch.from_numpy(grids[images]).to(network.device)
    if "video" in outputs:
        made["mm_token_type_ids"] += 2 * (ids == network.config.video_token_id).int()
    return made | {"mm_encoder_outputs": outputs}
