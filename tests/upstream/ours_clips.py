"""Ours of Qwen3-VL: films, and clips that both sides make of them, with their prompts."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.families.native.dialect import IMAGE_MARK
from models.families.native.qwen3_clips import clip_patches, pair_text, pair_times, read_clip_rule
from models.families.native.qwen3_words import Qwen3Words
from models.families.native.qwen_loading import IMAGE_TOKEN, VISION_END, VISION_START, load_qwen
from models.families.prompt_proof import tokens_of
from models.family import Request, Task
from pipeline.images.sampling import by_rate
from tests.tiny_qwen import write_qwen
from tests.upstream.sides import SEEN, Made, Side, films

QUESTION = "Is there an effusion?"
PUBLISHED = {"size": {"shortest_edge": 65_536, "longest_edge": 16_777_216}}
CLIPS = {"size": {"shortest_edge": 4096, "longest_edge": 25_165_824}}
"""The limits of Qwen3-VL's published ``preprocessor_config.json`` and ``video_preprocessor_config.json``."""


def clips_side(*, capped: bool) -> Side:
    """``capped`` bounds each frame as qwen-vl-utils does, which transformers does since 5.21 where it is told to."""

    def prepare(work: Path) -> None:
        folder = write_qwen(work / "weights", "qwen3-vl")
        held = folder / "preprocessor_config.json"
        held.write_text(json.dumps({**json.loads(held.read_text()), **PUBLISHED}))
        rule = {**CLIPS, "cap_pixels_per_frame": capped}
        (folder / "video_preprocessor_config.json").write_text(json.dumps(rule))
        (work / "asked.json").write_text(json.dumps({"question": QUESTION, "capped": capped}))

    def make(work: Path) -> Made:
        loaded = load_qwen(work / "weights", "Qwen3VLForConditionalGeneration")
        rule, words = read_clip_rule(work / "weights", 16), Qwen3Words()
        asked = words.word(Request(Task.VQA, question=QUESTION), [SEEN], "DX")
        arrays: dict[str, Any] = {}
        ids = {}
        for number, (name, picture) in enumerate(films(work).items()):
            seen: Mapping[str, Any] = loaded.processor(images=[picture], return_tensors="np")
            arrays[name], arrays[f"{name}-grid"] = seen["pixel_values"], seen["image_grid_thw"]
            image = f"{VISION_START}{IMAGE_TOKEN * (seen['image_grid_thw'].prod() // 4)}{VISION_END}"
            ids[name] = tokens_of(loaded.tokenizer, asked.replace(IMAGE_MARK, image))
            crop = np.asarray(picture)[:700, :900]
            frames = np.stack([np.roll(crop, 11 * frame, axis=1) for frame in range(20 + number)])
            times = [frame / 7.5 for frame in range(len(frames))]
            chosen = list(by_rate(times, 2.0, 4, 32))
            pairs = list(clip_patches(frames[chosen], rule))
            arrays[f"{name} clip"] = np.concatenate([one for one, _ in pairs])
            grid = pairs[0][1]
            arrays[f"{name} clip-grid"] = np.array([[len(pairs), *grid[1:]]])
            text = "".join(
                pair_text(time, int(grid.prod()) // 4) for time in pair_times([times[one] for one in chosen])
            )
            ids[f"{name} clip"] = tokens_of(loaded.tokenizer, asked.replace(IMAGE_MARK, text))
        return Made(arrays, ids)

    return Side(prepare, make)
