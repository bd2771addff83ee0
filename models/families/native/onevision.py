"""LLaVA-OneVision as a family: the whole film, then its tiles joined to one picture again. RadVLM.

Tiles are transformers' own processor's. Their features are put side by side, the padding is taken off, what is more
than the checkpoint's most (``vision_aspect_ratio``) is shrunk, and each row ends with the checkpoint's mark of a new
line; the features of the whole film stand before them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.catalog import CatalogEntry
from models.families.native.networks import (
    ChatNetwork,
    describe_network,
    load_native,
    load_tokenizer,
    token_id,
)
from models.families.native.radvlm import RadVlmWords
from models.families.native.seeing import chat_tower
from models.families.native.tiles import TiledFamily
from models.families.towers import Tower
from models.model_choice import ModelChoice
from models.weight_loading.placement import choose_placing
from pipeline.errors import ConfigurationError

MARK = "<image>"


@dataclass(frozen=True, slots=True)
class OnevisionTiler:
    """See ``models.families.native.tiles.Tiler``: ``processor`` cuts, ``model`` joins.

    ``newline`` [width] is the model's mark of a new line, a copy: the model's own goes with its tower.
    """

    processor: Any
    model: Any
    newline: Any

    def cut(self, picture: Any) -> NDArray[np.float32]:
        """See Tiler: the whole picture squashed to a tile, then the tiles of it, padded to their grid."""
        made = self.processor(images=[picture], return_tensors="np")
        return np.ascontiguousarray(made["pixel_values"][0], np.float32)

    def join(self, features: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
        """See Tiler."""
        import torch

        with torch.inference_mode():
            joined, _ = self.model.pack_image_features(
                [torch.from_numpy(features)],
                [list(size)],
                self.newline,
                self.model.config.vision_aspect_ratio,
            )
        return np.ascontiguousarray(joined[0].numpy(), np.float32)

    def __call__(self, images: Sequence[Any], return_tensors: str = "np") -> dict[str, Any]:
        """See Tiler."""
        return {"pixel_values": np.concatenate([self.cut(image) for image in images])}


def load_onevision(folder: Path, precision: str = "auto") -> ChatNetwork:
    """A LLaVA-OneVision checkpoint in the layout of transformers. Raises ConfigurationError, StopRun."""
    import transformers

    tokenizer, placing = load_tokenizer(folder), choose_placing(precision, stored=True)
    network, processor = load_native(
        folder,
        transformers.LlavaOnevisionForConditionalGeneration,
        transformers.LlavaOnevisionImageProcessorPil,
        placing,
    )
    config = network.config
    if not isinstance(config.vision_feature_layer, int):
        message = f"{folder} takes features of several layers, which is not done here: name one vision_feature_layer"
        raise ConfigurationError("weights-folder", message)
    if [list(one) for one in processor.image_grid_pinpoints] != [
        list(one) for one in config.image_grid_pinpoints
    ]:
        message = f"{folder}: the grids of config.json and of the processor are others: copy both files again"
        raise ConfigurationError("weights-folder", message)
    for mark in ("<|im_start|>", "<|im_end|>"):
        token_id(tokenizer, mark)
    token = token_id(tokenizer, MARK, config.image_token_id)
    newline = network.model.image_newline.detach().float().cpu().clone()
    tiler = OnevisionTiler(processor, network.model, newline)
    loaded = describe_network(
        folder, network, tokenizer, tiler, MARK, token, placing, template_image=f"{MARK}\n"
    )
    return replace(loaded, settings={"tiles": config.vision_aspect_ratio})


def onevision_towers(entry: CatalogEntry, folder: Path, precision: str) -> list[Callable[[], Tower]]:
    """A loader of the one tower of a folder of weights. It raises ConfigurationError, StopRun."""
    return [lambda: chat_tower(load_onevision(folder, precision), entry.id)]


def open_onevision(entry: CatalogEntry, choice: ModelChoice, cache: Path) -> TiledFamily:
    """RadVLM with the weights of ``choice``. Raises ConfigurationError, StopRun."""
    return TiledFamily(
        entry,
        load_onevision(choice.folder(entry), choice.precision),
        RadVlmWords(entry.prompts),
        cache,
        require_runner=choice.require_runner,
        threads=choice.threads,
        release=True,
    )
