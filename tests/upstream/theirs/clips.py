"""Films and clips by the processor of Qwen3-VL in their transformers."""

import json
from pathlib import Path
from typing import Any

import lent
import numpy as np
import transformers
from qwen import FILMS, pictures, write
from transformers import Qwen2TokenizerFast

assert lent
VISION = "<|vision_start|><|{}_pad|><|vision_end|>"


def run(*, ids: bool) -> None:
    """``ids`` False leaves the prompts out."""
    asked = json.loads(Path("asked.json").read_text())
    rule = json.loads(Path("weights/video_preprocessor_config.json").read_text())
    if not asked["capped"]:
        del rule["cap_pixels_per_frame"]
    size = json.loads(Path("weights/preprocessor_config.json").read_text())["size"]
    limits = {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
    slow = getattr(transformers, "Qwen2VLImageProcessorPil", None) or transformers.Qwen2VLImageProcessor
    processor: Any = transformers.Qwen3VLProcessor(
        slow.from_pretrained("weights", **limits), Qwen2TokenizerFast.from_pretrained("weights"),
        transformers.Qwen3VLVideoProcessor(**rule), chat_template="-",
    )  # fmt: skip
    arrays, told = dict[str, Any](), dict[str, list[int]]()
    turn = "<|im_start|>user\n{}" + asked["question"] + "<|im_end|>\n<|im_start|>assistant\n"
    for number, (path, picture) in enumerate(zip(FILMS, pictures(), strict=True)):
        made = processor(text=[turn.format(VISION.format("image"))], images=[picture], return_tensors="pt")
        name = path.stem
        arrays[name], arrays[f"{name}-grid"] = made["pixel_values"].numpy(), made["image_grid_thw"].numpy()
        told[name] = made["input_ids"][0].tolist()
        crop = np.asarray(picture)[:700, :900]
        frames = np.stack([np.roll(crop, 11 * frame, axis=1) for frame in range(20 + number)])
        what = {"total_num_frames": len(frames), "fps": 7.5, "width": crop.shape[1], "height": crop.shape[0],
                "duration": len(frames) / 7.5, "video_backend": "-"}  # fmt: skip
        text = [turn.format(VISION.format("video"))]
        made = processor(text=text, videos=[frames], video_metadata=[what], return_tensors="pt")
        arrays[f"{name} clip"] = made["pixel_values_videos"].numpy()
        arrays[f"{name} clip-grid"] = made["video_grid_thw"].numpy()
        told[f"{name} clip"] = made["input_ids"][0].tolist()
    write(arrays, {"ids": told} if ids else {})
