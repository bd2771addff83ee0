"""What the three Qwen systems share: pixels and prompts by the processor of their transformers."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import Qwen2TokenizerFast, Qwen2VLImageProcessor

FILMS = sorted(Path("films").glob("*.png"))


def pictures() -> list[Any]:
    return [Image.open(path).convert("RGB") for path in FILMS]


def write(arrays: dict[str, Any], told: dict[str, Any]) -> None:
    np.savez("theirs.npz", **arrays)
    Path("theirs.json").write_text(json.dumps(told))


def processor_of(name: str, **limits: int) -> Any:
    """The processor of Qwen2-VL or Qwen2.5-VL around the folder's tokenizer, as AutoProcessor builds it."""
    import transformers

    tokenizer = Qwen2TokenizerFast.from_pretrained("weights")
    image = Qwen2VLImageProcessor.from_pretrained("weights", **limits)
    template = Path("weights/chat_template.jinja").read_text()
    return getattr(transformers, name)(image, tokenizer, chat_template=template)


def see(processor: Any) -> dict[str, Any]:
    arrays = {}
    for path, picture in zip(FILMS, pictures(), strict=True):
        made = processor.image_processor(images=[picture], return_tensors="np")
        arrays[path.stem], arrays[f"{path.stem}-grid"] = made["pixel_values"], made["image_grid_thw"]
    return arrays


def ids_of(processor: Any, messages: Any, images: list[Any]) -> list[int]:
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    made = processor(text=[text], images=images or None, padding=True, return_tensors="np")
    ids: list[int] = made["input_ids"][0].tolist()
    return ids


def code() -> Path:
    sys.path.insert(0, os.environ["CODE"])
    return Path(os.environ["CODE"])
