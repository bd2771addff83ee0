"""InternVL as a family: films cut into tiles, the conversation that its folder names. Fleming-VL and Lingshu-I.

Both layouts are read: ``internvl_chat`` as its authors publish it, and that of transformers (names that end in "-hf").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.catalog import CatalogEntry
from models.families.native.internvl_chat import load_internvl_chat, read_layout
from models.families.native.internvl_words import WORDS, ChatFrame, conversation_of
from models.families.native.networks import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    ChatNetwork,
    describe_network,
    load_native,
    load_tokenizer,
    token_id,
)
from models.families.native.seeing import chat_tower
from models.families.native.tiles import TiledFamily
from models.families.towers import Tower
from models.model_choice import ModelChoice
from models.weight_loading.placement import choose_placing
from models.weight_loading.tokenizer_check import read_json
from pipeline.errors import StopRun

OPENS, TOKEN, CLOSES = "<img>", "<IMG_CONTEXT>", "</img>"
UNCUT = (1, 1)
UNTILED = frozenset({"fleming-vl.toml"})
"""Words whose authors squash a film to one tile, whatever config.json allows (Fleming-VL's README)."""


@dataclass(frozen=True, slots=True)
class InternVLTiler:
    """A film squashed to a grid of tiles of ``side`` pixels near its own shape, and whole as the last tile.

    ``tiles`` are the least and the most tiles of the grid. Source: OpenGVLab/InternVL ``dynamic_preprocess``.
    """

    side: int
    tiles: tuple[int, int] = UNCUT
    thumbnail: bool = True
    mean: tuple[float, ...] = IMAGENET_MEAN
    deviation: tuple[float, ...] = IMAGENET_DEVIATION

    def cut(self, picture: Any) -> NDArray[np.float32]:
        """See ``models.families.native.tiles.Tiler``."""
        columns, rows = choose_grid(picture.width, picture.height, self.tiles, self.side)
        grid = _squashed(picture, columns * self.side, rows * self.side)
        shown = [
            grid[row * self.side : (row + 1) * self.side, column * self.side : (column + 1) * self.side]
            for row in range(rows)
            for column in range(columns)
        ]
        if self.thumbnail and len(shown) > 1:
            shown.append(_squashed(picture, self.side, self.side))
        values = (np.stack(shown) / np.float32(255) - np.array(self.mean, np.float32)) / np.array(
            self.deviation, np.float32
        )
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32)

    def join(self, features: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
        """See ``models.families.native.tiles.Tiler``: tile after tile."""
        return features.reshape(-1, features.shape[-1])

    def __call__(self, images: Sequence[Any], return_tensors: str = "np") -> dict[str, Any]:
        """See ``models.families.native.tiles.Tiler``."""
        return {"pixel_values": np.concatenate([self.cut(image) for image in images])}

    def __str__(self) -> str:
        """For the recipe."""
        least, most = self.tiles
        if most == 1:
            return f"one of {self.side} pixels"
        return f"{least} to {most} of {self.side} pixels" + (", then the whole" if self.thumbnail else "")


def _squashed(picture: Any, width: int, height: int) -> NDArray[np.uint8]:
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))


def choose_grid(width: int, height: int, tiles: tuple[int, int], side: int) -> tuple[int, int]:
    """Columns and rows of tiles whose shape is nearest that of a picture of ``width`` x ``height`` pixels.

    Of grids of one shape that with more tiles is taken while the picture fills more than half of it.
    """
    least, most = tiles
    grids = [(x, y) for x in range(1, most + 1) for y in range(1, most + 1) if least <= x * y <= most]
    chosen, nearest = (1, 1), float("inf")
    for columns, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        apart = abs(width / height - columns / rows)
        larger = apart == nearest and width * height > 0.5 * side * side * columns * rows
        if apart < nearest or larger:
            chosen, nearest = (columns, rows), apart
    return chosen


def load_internvl(folder: Path, precision: str = "auto", *, untiled: bool = False) -> ChatNetwork:
    """An InternVL checkpoint of either layout; ``untiled`` squashes a film to one tile.

    Raises ConfigurationError, StopRun.
    """
    placing = choose_placing(precision, stored=True)
    if read_json(folder / "config.json").get("model_type") == "internvl":
        loaded = _load_native(folder, placing)
    else:
        layout = read_layout(folder, tiled=True)
        tokenizer = load_tokenizer(folder)
        token = _tokens(tokenizer)
        network = load_internvl_chat(folder, token, placing, tiled=True)
        tiler = InternVLTiler(layout.size, layout.tiles, layout.thumbnail)
        text = f"{OPENS}{TOKEN * layout.tokens}{CLOSES}"
        loaded = describe_network(folder, network, tokenizer, tiler, text, token, placing)
    if untiled:
        loaded = replace(loaded, processor=replace(loaded.processor, tiles=UNCUT))
    # of an image the family writes as many tokens as its tiles have; one stands for them here
    text = f"{OPENS}{TOKEN}{CLOSES}"
    return replace(loaded, image_text=text, settings={"tiles": str(loaded.processor)})


def _load_native(folder: Path, placing: Any) -> ChatNetwork:
    """The layout of transformers."""
    import transformers

    tokenizer = load_tokenizer(folder)
    network, processor = load_native(
        folder, transformers.InternVLForConditionalGeneration, transformers.GotOcr2ImageProcessorPil, placing
    )
    token = _tokens(tokenizer, network.config.image_token_id)
    tiler = InternVLTiler(
        processor.size["height"],
        (processor.min_patches, processor.max_patches),
        mean=tuple(processor.image_mean),
        deviation=tuple(processor.image_std),
    )
    template = f"{TOKEN}\n"
    return describe_network(folder, network, tokenizer, tiler, TOKEN, token, placing, template_image=template)


def _tokens(tokenizer: Any, expected: int | None = None) -> int:
    """The id of an image's place. InternVL_chat's config names none: its training code adds the three in this order."""
    for mark in ("<|im_start|>", "<|im_end|>"):
        token_id(tokenizer, mark)
    opens, closes, token = (token_id(tokenizer, mark) for mark in (OPENS, CLOSES, TOKEN))
    if (closes, token) != (opens + 1, opens + 2):
        message = (
            f"{OPENS}, {CLOSES} and {TOKEN} are tokens {opens}, {closes} and {token}, and InternVL adds them one after "
            "the other: copy the tokenizer that the authors publish with these weights"
        )
        raise StopRun("tokenizer", message)
    return token_id(tokenizer, TOKEN, expected)


def internvl_towers(entry: CatalogEntry, folder: Path, precision: str) -> list[Callable[[], Tower]]:
    """A loader of the one tower of a folder of weights. It raises ConfigurationError, StopRun."""
    return [lambda: chat_tower(load_internvl(folder, precision), entry.id)]


def open_internvl(entry: CatalogEntry, choice: ModelChoice, cache: Path) -> TiledFamily:
    """An InternVL family with the weights of ``choice``. Raises ConfigurationError, StopRun."""
    folder = choice.folder(entry)
    loaded = load_internvl(folder, choice.precision, untiled=entry.prompts in UNTILED)
    return TiledFamily(
        entry,
        loaded,
        WORDS[entry.prompts](entry.prompts, entry.images or 1, conversation(folder)),
        cache,
        require_runner=choice.require_runner,
        threads=choice.threads,
        release=True,
    )


def conversation(folder: Path) -> ChatFrame:
    """The conversation that the folder's config.json names. Raises ConfigurationError for one that is not known."""
    stored = read_json(folder / "config.json")
    return conversation_of(str(stored.get("template") or "internvl2_5"), stored.get("system_message"))
