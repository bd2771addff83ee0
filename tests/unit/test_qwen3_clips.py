"""Clips for Qwen3-VL beside transformers' own processor and network: frames, sizes, patches, times, logits, texts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor, smart_resize

from models.catalog import show
from models.families.native.chat import picture_of
from models.families.native.qwen import BOUND_PIXELS, QwenFamily
from models.families.native.qwen3_clips import (
    ClipRule,
    clip_patches,
    pair_text,
    pair_times,
    read_clip_rule,
    shown_together,
)
from models.families.native.qwen_dialects import find_dialect
from models.families.native.qwen_loading import load_qwen
from models.family import Request, Task
from pipeline.errors import ConfigurationError, StopRun
from pipeline.images.sampling import by_rate
from pipeline.study import ImageSet, InstanceRef, StudyImage
from tests.engines import ENGINES
from tests.tiny_chat import chat_study
from tests.tiny_qwen import write_qwen

ENTRY = show("qwen3-vl-media")
RULE = ClipRule(4096, 25_165_824)
"""The bounds of Qwen3-VL's published ``video_preprocessor_config.json``."""
THEIRS: Any = vars(Qwen3VLVideoProcessor)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen(tmp_path_factory.mktemp("clips") / "weights", "qwen3-vl")


def clip(count: int, seed: int = 0, rows: int = 60, columns: int = 90, every: float = 0.4) -> ImageSet:
    """A study of one clip, ``count`` frames of colour that differ, ``every`` so many seconds."""
    values = np.random.default_rng(seed).random((count, rows, columns, 3), np.float32)
    ref = InstanceRef("1.2", "1.3", f"1.4.{seed}")
    images = tuple(
        StudyImage(
            ref, 3 * number, one, rows, columns, None, "US", "", "", "RGB", seconds=round(every * number, 6)
        )
        for number, one in enumerate(values)
    )
    return ImageSet("1.2", images, chest=False)


@pytest.mark.parametrize("fps", [0.5, 3, 5, 7.5, 10, 15, 24, 25, 29.97, 30, 60])
def test_the_frames_are_those_that_its_processor_samples(fps: float) -> None:
    rule = SimpleNamespace(fps=2, min_frames=4, max_frames=32)
    for count in range(1, 400):
        told = SimpleNamespace(total_num_frames=count, fps=fps)
        wanted = THEIRS["sample_frames"](rule, told)
        assert list(by_rate([number * (1 / fps) for number in range(count)], 2.0, 4, 32)) == wanted.tolist()


def test_sizes_are_those_of_its_processor() -> None:
    generator = np.random.default_rng(1)
    for _ in range(2000):
        frames = int(generator.integers(2, 33))
        rows, columns = (int(one) for one in generator.integers(8, 2500, 2))
        if max(rows, columns) > 200 * min(rows, columns):
            continue
        for rule in (RULE, ClipRule(), ClipRule(4096, 25_165_824, 0)):
            # what Qwen3VLVideoProcessor.resize gives its smart_resize
            each = max(min(rule.most_tokens * 1024, rule.most // frames), int(rule.least * 1.05))
            most = each * frames if rule.most_tokens else rule.most
            wanted = smart_resize(frames, rows, columns, 2, 32, rule.least, most)
            assert rule.size(frames, rows, columns) == wanted
    assert np.prod(RULE.size(2, 4000, 4000, BOUND_PIXELS)) <= BOUND_PIXELS
    with pytest.raises(ValueError, match="200 times"):
        RULE.size(2, 8000, 33)


@pytest.mark.parametrize("count", [2, 5, 8])
def test_patches_are_cut_as_its_processor_cuts_them(count: int) -> None:
    """Of frames that need no resizing; resized ones are compared by ``python -m tests.upstream qwen3-vl``."""
    frames = np.random.default_rng(count).integers(0, 256, (count, 96, 128, 3), np.uint8)
    made = list(clip_patches(frames, RULE))
    scaled = (torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() - 127.5) / 127.5
    wanted, times, rows, columns = THEIRS["patchify"](None, scaled, 16, 2, 2)
    assert [one.tolist() for _, one in made] == [[1, rows, columns]] * times
    np.testing.assert_allclose(np.concatenate([one for one, _ in made]), wanted[0].numpy(), atol=1e-6)


def test_times_and_words_are_those_of_its_processor() -> None:
    for count in range(2, 9):
        places = [7 * number for number in range(count)]
        wanted = vars(Qwen3VLProcessor)["_calculate_timestamps"](None, list(places), 24.0, 2)
        assert pair_times([place / 24.0 for place in places]) == wanted
    text = "<0.2 seconds><|vision_start|><|video_pad|><|video_pad|><|vision_end|>"
    assert pair_text(0.15625, 2) == text


def test_frames_of_one_instance_whose_times_are_known_are_a_clip() -> None:
    moving, other, still = clip(3).images, clip(2, seed=1).images, chat_study(1, 2).images
    lone = clip(1, seed=2).images
    found = shown_together([*still, *moving, *other, *lone])
    assert [len(unit) for unit in found] == [1, 1, 3, 2, 1]


@pytest.mark.parametrize("count", [4, 7])
def test_logits_and_text_of_a_clip_are_those_of_its_pixels(folder: Path, count: int) -> None:
    """Qwen3VLForConditionalGeneration itself, given our patches of the clip as one video, and a picture beside it."""
    loaded = load_qwen(folder, ENTRY.network_class, 20_000)
    with QwenFamily(ENTRY, loaded, find_dialect(ENTRY, folder), ENGINES, threads=1, limit=8) as family:
        picture = chat_study(3, 1).images
        study = ImageSet("1.2", (*picture, *clip(count).images), chest=False)
        still, (features,) = family.encode([chat_study(4)])[0], family.encode([study])
        ids, seen = family._prompt(features, Request(), None)
        given = torch.tensor([ids])
        frames = np.stack([np.asarray(picture_of(image)) for image in study.images[1:]])
        pairs = list(clip_patches(frames, read_clip_rule(folder, 16), BOUND_PIXELS))
        made = dict(loaded.processor(images=[picture_of(picture[0])], return_tensors="pt"))
        made["pixel_values_videos"] = torch.from_numpy(np.concatenate([one for one, _ in pairs]))
        made["video_grid_thw"] = torch.tensor([[len(pairs), *pairs[0][1][1:].tolist()]])
        number = loaded.tokenizer.convert_tokens_to_ids("<|video_pad|>")
        made["mm_token_type_ids"] = (given == loaded.image_token).int() + 2 * (given == number).int()
        network: Any = loaded.network
        with torch.inference_mode():
            network.model.rope_deltas = None
            wanted = network(input_ids=given, **made).logits
            network.model.rope_deltas = None
            got = network(input_ids=given, **family._give([seen], given)).logits
            network.model.rope_deltas = None
            own = network.generate(
                input_ids=given, **made, max_new_tokens=8, do_sample=False, eos_token_id=family._ends
            )
        assert (got - wanted).abs().max() <= 1e-4 * wanted.abs().max()
        text = loaded.tokenizer.decode(own[0, len(ids) :], skip_special_tokens=True).strip()
        alone, beside = (
            family.answer([features], [Request()]),
            family.answer([still, features], [Request()] * 2),
        )
        assert [alone[0].text, beside[1].text] == [
            family._dialect.read(text, Request(), features.images).text
        ] * 2
        words = loaded.tokenizer.decode(ids)
        assert words.count("<|vision_start|>") == 1 + len(pairs)
        assert words.index("seconds>") > words.index("<|vision_end|>")
        assert len(features.images) == 1 + count


def test_a_box_of_a_clip_names_no_frame(folder: Path) -> None:
    loaded = load_qwen(folder, ENTRY.network_class, 20_000)
    with QwenFamily(ENTRY, loaded, find_dialect(ENTRY, folder), ENGINES, threads=1) as family:
        moving, still = family.encode([clip(4), chat_study(1)])
        box, asked = '[{"bbox_2d": [0, 0, 500, 250], "label": "heart"}]', Request(Task.DETECT, target="heart")
        assert not family._read(box, asked, moving).places
        assert family._read(box, asked, still).places


def test_video_settings_that_are_not_followed_are_refused(folder: Path, tmp_path: Path) -> None:
    held = tmp_path / "video_preprocessor_config.json"
    held.write_text('{"size": {"shortest_edge": 4096, "longest_edge": 25165824}}')
    assert read_clip_rule(tmp_path, 16) == RULE
    assert read_clip_rule(folder, 16) == ClipRule()
    held.write_text('{"temporal_patch_size": 4}')
    with pytest.raises(ConfigurationError, match="otherwise"):
        read_clip_rule(tmp_path, 16)
    for hostile in ('{"size": {"longest_edge": "many"}}', '{"size": [1]}', '{"image_mean": 3}'):
        held.write_text(hostile)
        with pytest.raises(StopRun, match="cannot be read"):
            read_clip_rule(tmp_path, 16)


def test_only_the_entry_that_reads_clips_joins_frames(folder: Path) -> None:
    loaded = load_qwen(folder, ENTRY.network_class, 20_000)
    films = show("qwen3-vl")
    with QwenFamily(films, loaded, find_dialect(films, folder), ENGINES, threads=1) as family:
        (features,) = family.encode([clip(4)])
        assert "times" not in features.arrays
        assert len(features.arrays["grids"]) == 4
