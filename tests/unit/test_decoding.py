"""What a checkpoint says of decoding, against transformers' own ``generate``; LLaVA-Med's square of a film."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from models.families.decoding import read_decoding
from models.families.native.square import SquarePadding, read_framing
from models.families.text.recipes import RECIPES
from models.families.text.text_family import TextFamily
from models.family import Features, Request, Task
from pipeline.errors import ConfigurationError, StopRun
from tests.tiny_text import text_entry, write_text_model

FILL = (-0.01125, -0.0112, -0.00133)
"""The processor's mean colour, cut to whole greys, after its own normalisation: by the authors' code."""


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_the_checkpoints_repetition_penalty_is_applied(tmp_path: Path, penalty: float) -> None:
    folder = write_text_model(tmp_path / "qwen", "qwen2")
    settings = {"repetition_penalty": penalty, "do_sample": True, "temperature": 1e-6}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    recipe = replace(RECIPES["ming-1.8b"], max_new_tokens=24)
    with TextFamily(text_entry("ming-1.8b"), folder, recipe=recipe) as family:
        assert f"penalty {penalty:g}" in family.parts["decoding"]
        request = Request(Task.TEXT_QA, question="Is there an effusion?")
        answer = family.answer([Features((), {})], [request])[0]
        ids = torch.tensor([family._prompt(request)])
        row = family._loaded.network.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=family._recipe.max_new_tokens,
            do_sample=False, eos_token_id=list(family._loaded.ends), pad_token_id=5, repetition_penalty=penalty,
        )[0, ids.shape[1] :]  # fmt: skip
        assert family._loaded.tokenizer.decode(row, skip_special_tokens=True).strip() == answer.text


def test_what_is_not_done_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "generation_config.json"
    assert read_decoding(tmp_path).penalty == 1.0
    for idle in ({"num_beams": 1, "top_p": 0.8}, {"no_repeat_ngram_size": 0, "bad_words_ids": None}):
        path.write_text(json.dumps(idle))
        assert read_decoding(tmp_path).penalty == 1.0
    for other in (
        {"no_repeat_ngram_size": 3},
        {"num_beams": 4},
        {"guidance_scale": 1.5},
        {"suppress_tokens": [7]},
    ):
        path.write_text(json.dumps(other))
        with pytest.raises(ConfigurationError, match=next(iter(other))):
            read_decoding(tmp_path)
    for wrong in (0, -1, "1.1", True):
        path.write_text(json.dumps({"repetition_penalty": wrong}))
        with pytest.raises(StopRun, match="no positive number"):
            read_decoding(tmp_path)


def test_sampling_is_refused_unless_the_authors_decode_greedily(tmp_path: Path) -> None:
    path = tmp_path / "generation_config.json"
    for settings in ({"do_sample": True}, {"do_sample": True, "top_k": 64, "top_p": 0.95}):
        path.write_text(json.dumps(settings))
        with pytest.raises(ConfigurationError, match="set do_sample to false"):
            read_decoding(tmp_path, greedy=False)
        assert "do_sample" in read_decoding(tmp_path).told
    published = {"do_sample": True, "top_k": 1, "top_p": 0.001, "temperature": 0.01}
    for settings in (published, {"do_sample": True, "temperature": 1e-6}, {"temperature": 0.6}):
        path.write_text(json.dumps(settings))
        assert read_decoding(tmp_path, greedy=False).samples == ""


def test_ends_and_bounds_of_the_checkpoint_hold(tmp_path: Path) -> None:
    """Least and most new tokens against transformers' own ``generate`` with the same settings."""
    folder = write_text_model(tmp_path / "qwen", "qwen2")
    recipe = replace(RECIPES["ming-1.8b"], max_new_tokens=24)
    request = Request(Task.TEXT_QA, question="Is there an effusion?")
    settings = folder / "generation_config.json"
    settings.write_text("{}")
    with TextFamily(text_entry("ming-1.8b"), folder, recipe=recipe) as family:
        ids = torch.tensor([family._prompt(request)])
        network, ends = family._loaded.network, list(family._loaded.ends)
        free = network.generate(ids, max_new_tokens=24, do_sample=False, eos_token_id=ends, pad_token_id=5)
        written = free[0, ids.shape[1] :].tolist()
        settled = network.generate(
            ids, max_new_tokens=20, min_new_tokens=20, do_sample=False, eos_token_id=[*ends, written[2]], pad_token_id=5
        )[0, ids.shape[1] :].tolist()  # fmt: skip
    settings.write_text(json.dumps({"eos_token_id": written[2]}))
    with TextFamily(text_entry("ming-1.8b"), folder, recipe=recipe) as family:
        short = family.answer([Features((), {})], [request])[0]
        assert not short.truncated
        assert short.text == family._loaded.tokenizer.decode(written[: written.index(written[2])]).strip()
    settings.write_text(json.dumps({"eos_token_id": written[2], "min_new_tokens": 20, "max_new_tokens": 20}))
    with TextFamily(text_entry("ming-1.8b"), folder, recipe=recipe) as family:
        longer = family.answer([Features((), {})], [request])[0]
        assert family.parts["decoding"].endswith("at least 20 tokens, at most 20 tokens")
        assert longer.text == family._loaded.tokenizer.decode(settled, skip_special_tokens=True).strip()
        assert len(settled) == 20
    for wrong in ({"eos_token_id": "</s>"}, {"min_new_tokens": -1}, {"max_new_tokens": True}):
        settings.write_text(json.dumps(wrong))
        with pytest.raises(StopRun, match="copy it again"):
            read_decoding(folder)


@pytest.mark.parametrize("size", [(60, 20), (20, 60), (97, 61)])
def test_the_ends_of_a_film_are_seen_on_a_square_of_the_mean_colour(size: tuple[int, int]) -> None:
    columns, rows = size
    film = Image.new("RGB", size, (200, 200, 200))
    processor = CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    pixels = np.asarray(SquarePadding(processor)([film])["pixel_values"][0])
    bright = pixels[0] > 1
    wide = columns > rows
    assert bright[28].all() == wide
    assert bright[:, 28].all() == (not wide)
    corner = pixels[:, 0, 28] if wide else pixels[:, 28, 0]
    assert corner == pytest.approx(FILL, abs=1e-4)


def test_the_folder_says_how_a_film_is_framed(tmp_path: Path) -> None:
    for config, framing in (({}, "pad (the folder does not say)"), ({"image_aspect_ratio": "pad"}, "pad"),
                            ({"image_aspect_ratio": None}, "crop")):  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert read_framing(tmp_path) == framing
    (tmp_path / "config.json").write_text(json.dumps({"image_aspect_ratio": "anyres"}))
    with pytest.raises(ConfigurationError, match="anyres"):
        read_framing(tmp_path)
