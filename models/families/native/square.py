"""LLaVA-Med's preparation: a film laid on a square of its longer side, so that its ends are seen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from models.weight_loading.tokenizer_check import read_json
from pipeline.errors import ConfigurationError

KEY = "image_aspect_ratio"


def read_framing(folder: Path) -> str:
    """ "pad" or "crop", as config.json says: "pad" means the square, none means CLIP's cut of the centre.

    The native port does not carry the setting over; its authors' code has the padding for this model, so a folder that
    does not say gets it. Raises ConfigurationError for another arrangement.
    """
    config = read_json(folder / "config.json")
    if KEY not in config:
        return "pad (the folder does not say)"
    if config[KEY] is None:
        return "crop"
    if config[KEY] != "pad":
        raise ConfigurationError(
            "weights-folder", f"config.json sets {KEY} = {config[KEY]}, which is not done here"
        )
    return "pad"


class SquarePadding:
    """A processor whose images are padded to squares before it prepares them."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._colour = tuple(int(mean * 255) for mean in processor.image_mean)

    def __call__(self, images: Sequence[Any], return_tensors: str = "np") -> Any:
        """RGB images to ``pixel_values`` [n, 3, S, S]."""
        squares = [pad_square(image, self._colour) for image in images]
        return self._processor(images=squares, return_tensors=return_tensors)


def pad_square(image: Any, colour: tuple[int, ...], offset: int = -1) -> Any:
    """``image`` on a square of its longer side. ``offset`` is where it begins, by default so that it is in the middle.

    The authors draw it at random among the middle and one pixel after it; no recipe would repeat that.
    """
    side = max(image.size)
    begins = (side - min(image.size)) // 2 if offset < 0 else offset
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, (0, begins) if image.width == side else (begins, 0))
    return square
