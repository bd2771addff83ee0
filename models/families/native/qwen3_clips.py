"""Clips for Qwen3-VL: frames in pairs, each pair an image of the tower, with the time of each pair before it in words.

What goes in is what transformers' ``Qwen3VLVideoProcessor`` makes of the same frames with ``cap_pixels_per_frame``,
the bound of the authors' own code (qwen-vl-utils). The ids are those of ``Qwen3VLProcessor`` in transformers 4.57, its
first release; later ones leave a second pair of vision marks around the clip.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from models.families.native.qwen_loading import VIDEO_TOKEN, VISION_END, VISION_START
from models.families.native.qwen_tower import MERGE
from models.weight_loading.tokenizer_check import read_json
from pipeline.errors import ConfigurationError, StopRun
from pipeline.study import StudyImage

PAIR = 2
"""Frames that the tower's patch embedding joins."""
SETTINGS_FILES = ("video_preprocessor_config.json", "processor_config.json")
_MOST_ASPECT = 200.0


@dataclass(frozen=True, slots=True)
class ClipRule:
    """How a folder wants clips: pixels of a whole clip at least and at most, tokens of a frame at most, and colours.

    ``most_tokens`` 0 leaves a frame as large as the clip's own bound lets it be.
    """

    least: int = 128 * 32 * 32
    most: int = 32 * 32 * 768
    most_tokens: int = 768
    patch: int = 16
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    deviation: tuple[float, ...] = (0.5, 0.5, 0.5)

    def size(self, frames: int, rows: int, columns: int, bound: int = 0) -> tuple[int, int]:
        """Rows and columns that each of ``frames`` (at least two) is brought to; ``bound`` its pixels at most, 0: any.

        Raises ValueError for a clip 200 times as long as wide.
        """
        factor = self.patch * MERGE
        most = self.most
        if self.most_tokens:
            each = min(self.most_tokens * factor**2, self.most // frames)
            most = frames * max(each, int(self.least * 1.05))
        if bound:
            most = min(most, frames * bound)
        if min(rows, columns) < factor:
            scale = max(factor / rows, factor / columns)
            rows, columns = int(rows * scale), int(columns * scale)
        if max(rows, columns) / min(rows, columns) > _MOST_ASPECT:
            raise ValueError("a clip is at most 200 times as long as wide")
        pairs = round(frames / PAIR) * PAIR
        high, wide = round(rows / factor) * factor, round(columns / factor) * factor
        if pairs * high * wide > most:
            shrink = math.sqrt(frames * rows * columns / most)
            high, wide = (
                max(factor, math.floor(side / shrink / factor) * factor) for side in (rows, columns)
            )
        elif pairs * high * wide < self.least:
            grow = math.sqrt(self.least / (frames * rows * columns))
            high, wide = (math.ceil(side * grow / factor) * factor for side in (rows, columns))
        return high, wide


def read_clip_rule(folder: Path, patch: int) -> ClipRule:
    """The rule of a folder, the processor's own where it says nothing. Frames are capped unless it says no.

    Raises ConfigurationError for settings that this code does not follow.
    """
    own, all_of_them = (read_json(folder / name) for name in SETTINGS_FILES)
    found: Mapping[str, Any] = own or all_of_them.get("video_processor") or {}
    usual = ClipRule()
    if found.get("temporal_patch_size", PAIR) != PAIR or found.get("merge_size", MERGE) != MERGE:
        message = f"{folder} joins frames of a clip otherwise than Qwen3-VL: {SETTINGS_FILES[0]}"
        raise ConfigurationError("weights-folder", message)
    capped = found.get("cap_pixels_per_frame") is not False
    try:
        size = found.get("size") or {}
        return ClipRule(
            int(size.get("shortest_edge", usual.least)),
            int(size.get("longest_edge", usual.most)),
            int(found.get("max_video_tokens", usual.most_tokens)) if capped else 0,
            patch,
            tuple(map(float, found.get("image_mean", usual.mean))),
            tuple(map(float, found.get("image_std", usual.deviation))),
        )
    except (TypeError, ValueError, AttributeError):
        message = f"the video settings of {folder} cannot be read: copy {SETTINGS_FILES[0]} again"
        raise StopRun("weights", message) from None


def shown_together(images: Sequence[StudyImage]) -> list[tuple[StudyImage, ...]]:
    """The images one by one, and the frames of a clip, two or more whose times are known, together."""
    units: list[list[StudyImage]] = []
    for image in images:
        last = units[-1][-1] if units else None
        if last is not None and None not in (image.seconds, last.seconds) and last.ref == image.ref:
            units[-1].append(image)
        else:
            units.append([image])
    return [tuple(unit) for unit in units]


def pair_times(seconds: Sequence[float]) -> list[float]:
    """The time of each pair of frames, the middle of its two; the last frame stands twice where they are odd."""
    filled = [*seconds, *seconds[len(seconds) - len(seconds) % PAIR :]]
    return [(first + second) / 2 for first, second in zip(filled[::PAIR], filled[1::PAIR], strict=True)]


def pair_text(seconds: float, tokens: int) -> str:
    """What stands in the prompt for one pair of frames."""
    return f"<{seconds:.1f} seconds>{VISION_START}{VIDEO_TOKEN * tokens}{VISION_END}"


def clip_patches(
    frames: NDArray[np.uint8], rule: ClipRule, bound: int = 0
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Patches [n, values] and grid (1, rows, columns) of each pair of ``frames`` uint8 [frames, rows, columns, 3]."""
    import torch
    from torch.nn import functional

    size = rule.size(len(frames), frames.shape[1], frames.shape[2], bound)
    given = torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()
    if tuple(given.shape[2:]) != size:
        given = functional.interpolate(given, size, mode="bicubic", align_corners=False, antialias=True)
    mean, deviation = (np.float32(255) * np.array(one, np.float32) for one in (rule.mean, rule.deviation))
    grid = np.array([1, size[0] // rule.patch, size[1] // rule.patch], np.int64)
    for start in range(0, len(frames), PAIR):
        pair = cast("NDArray[np.uint8]", given[start : start + PAIR].numpy())
        pair = np.concatenate([pair, pair[-1:]])[:PAIR]
        values = (pair.astype(np.float32) - mean[:, None, None]) / deviation[:, None, None]
        yield _patched(values, rule.patch), grid


def _patched(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """[2, 3, rows, columns] to [patches, values], merged token by merged token."""
    _, _, rows, columns = values.shape
    step = side * MERGE
    parts = values.reshape(PAIR, 3, rows // step, MERGE, side, columns // step, MERGE, side)
    ordered = parts.transpose(2, 5, 3, 6, 1, 0, 4, 7)
    return np.ascontiguousarray(ordered.reshape(rows * columns // side**2, -1))
