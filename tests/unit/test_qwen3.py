"""Qwen3-VL: logits from our features beside transformers' own from pixels; its words and boxes; words of a folder."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.vision_utils import get_vision_interpolation_indices_and_weights

from models.catalog import show
from models.families.native.chat import picture_of
from models.families.native.dialect import IMAGE_MARK
from models.families.native.qwen import QwenFamily, open_checkpoint
from models.families.native.qwen3_tower import Qwen3Shape
from models.families.native.qwen3_words import NO_CONTEXT, Qwen3Words, UniRgWords
from models.families.native.qwen_dialects import OWN_WORDS, find_dialect
from models.families.native.qwen_loading import load_checkpoint, load_qwen
from models.family import PromptContext, Request, SeenImage, Task
from models.model_choice import ModelChoice
from pipeline.errors import ConfigurationError, StopRun
from pipeline.report import Place, Region
from pipeline.study import InstanceRef
from tests.engines import ENGINES
from tests.tiny_chat import chat_study
from tests.tiny_qwen import build_network, build_tokenizer, write_qwen

ENTRY = show("qwen3-vl")
IMAGE = SeenImage(InstanceRef("1", "1.1", "1.1.1"), 0, 1000, 2000)
SYSTEM_WORDS = """
[chat]
en = "<|im_start|>system\\nYou read films.<|im_end|>\\n<|im_start|>user\\n{prompt}<|im_end|>\\n<|im_start|>assistant\\n"
[findings]
en = "{images}Describe. {context}"
[vqa]
en = "{images}{question}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen(tmp_path_factory.mktemp("qwen3") / "weights", "qwen3-vl")


@pytest.mark.parametrize("images", [1, 2, 3])
def test_logits_of_our_features_are_those_of_the_pixels(folder: Path, images: int) -> None:
    """Qwen3VLForConditionalGeneration itself, with a grid of its own for each image; every position of the prompt."""
    loaded = load_qwen(folder, ENTRY.network_class, 20_000)
    family = QwenFamily(ENTRY, loaded, find_dialect(ENTRY, folder), ENGINES, threads=1)
    for number in range(4):
        study = chat_study(10 * number + images, images)
        (features,) = family.encode([study])
        ids, seen = family._prompt(features, Request(), None)
        given = torch.tensor([ids])
        made = loaded.processor(
            images=[picture_of(one) for one in family._choose(study)], return_tensors="pt"
        )
        kinds = (given == loaded.image_token).int()
        with torch.inference_mode():
            loaded.network.model.rope_deltas = None
            wanted = loaded.network(input_ids=given, mm_token_type_ids=kinds, **made).logits
            loaded.network.model.rope_deltas = None
            got = loaded.network(input_ids=given, **family._give([seen], given)).logits
        assert (got - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def test_a_mixture_of_experts_is_opened_and_reads_as_its_own_class_does(tmp_path: Path) -> None:
    """The layout of Qwen3-VL-30B-A3B: the logits of the network that was saved, from pixels, and its greedy text."""
    folder = write_qwen(tmp_path / "weights", "qwen3-vl-moe")
    saved: Any = build_network("qwen3-vl-moe", build_tokenizer())
    loaded = load_checkpoint(ENTRY, folder, "auto")
    assert type(loaded.network) is type(saved)
    words = find_dialect(ENTRY, folder)
    with QwenFamily(ENTRY, loaded, words, ENGINES, require_runner="torch", threads=1, limit=8) as family:
        study = chat_study(7, 2)
        (features,) = family.encode([study])
        ids, seen = family._prompt(features, Request(), None)
        given = torch.tensor([ids])
        pictures = [picture_of(one) for one in family._choose(study)]
        made = dict(loaded.processor(images=pictures, return_tensors="pt"))
        made["mm_token_type_ids"] = (given == loaded.image_token).int()
        with torch.inference_mode():
            wanted = saved(input_ids=given, **made).logits
            got = loaded.network(input_ids=given, **family._give([seen], given)).logits
            saved.model.rope_deltas = loaded.network.model.rope_deltas = None
            own = saved.generate(
                input_ids=given, **made, max_new_tokens=8, do_sample=False, eos_token_id=family._ends
            )
        assert (got - wanted).abs().max() <= 1e-4 * wanted.abs().max()
        (answer,) = family.answer([features], [Request()])
        text = loaded.tokenizer.decode(own[0, len(ids) :], skip_special_tokens=True).strip()
        assert answer.text == words.read(text, Request(), features.images).text


@pytest.mark.parametrize("grid", [(2, 2), (2, 14), (14, 2), (6, 12), (48, 48), (60, 34), (96, 100)])
def test_positions_lie_between_the_learned_ones_as_transformers_puts_them(grid: tuple[int, int]) -> None:
    made = Qwen3Shape(np.ones(4, np.float32), 48).inputs(*grid)
    corners, shares = get_vision_interpolation_indices_and_weights(
        torch.tensor([[1, *grid]]), 48, align_corners=True, spatial_merge_size=2
    )
    table = np.random.default_rng(0).random(48 * 48).astype(np.float32)
    wanted = (table[corners.numpy()] * shares.numpy()).sum(1)
    np.testing.assert_allclose((table[made["corners"]] * made["shares"]).sum(1), wanted, rtol=1e-5, atol=1e-6)


def words_of(words: Any, request: Request, images: int = 1) -> str:
    return str(words.word(request, [IMAGE] * images, "CR"))


def test_unirgs_words_hold_what_is_known_of_the_study() -> None:
    """The wording of github.com/KangKanng/UniRG-CXR, main.py: its authors' own was not found."""
    told = PromptContext(indication="Cough.", comparison="An earlier film.")
    asked = words_of(UniRgWords(), Request(context=told))
    assert asked == (
        "<|im_start|>user\n<image>This is a radiology report generation task. Here is the context: Indication: Cough. "
        "Comparison: An earlier film. Given the image and the context, provide the report in the following format: "
        "Findings: [write the findings] Impression: [write the impression] Now write the report in the format above."
        "<|im_end|>\n<|im_start|>assistant\n"
    )
    assert NO_CONTEXT in words_of(UniRgWords(), Request(Task.FINDINGS))
    read = UniRgWords().read("Findings: Clear. Impression: Normal.", Request(), [IMAGE])
    assert read.text == "Findings: Clear.\nImpression: Normal."


def test_boxes_are_in_thousandths_of_the_whole_image() -> None:
    request = Request(Task.DETECT, target="heart")
    (place,) = (
        Qwen3Words().read('[{"bbox_2d": [100, 200, 500, 1000], "label": "heart"}]', request, [IMAGE]).places
    )
    assert place == Place("heart", Region(IMAGE.ref, 0, 200, 200, 1000, 1000))
    for hostile in (
        "[1001, 0, 1, 2]",
        "[5, 5, 5, 5]",
        "[NaN, 0, 1, 2]",
        "[0, 0, 1]",
        "[1e999, 0, 1, 2]",
        '"a"',
    ):
        assert not Qwen3Words().read(f'[{{"bbox_2d": {hostile}}}]', request, [IMAGE]).places


def test_a_fine_tune_is_asked_in_the_words_of_its_folder(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    (own / OWN_WORDS).write_text(SYSTEM_WORDS, encoding="utf-8")
    dialect = find_dialect(ENTRY, own)
    assert dialect.system == "You read films."
    assert words_of(dialect, Request(Task.FINDINGS)).endswith(
        f"user\n{IMAGE_MARK}Describe. {NO_CONTEXT}<|im_end|>\n<|im_start|>assistant\n"
    )
    choice = ModelChoice("qwen3-vl", own, threads=1, require_runner="torch")
    with open_checkpoint(ENTRY, own, choice, tmp_path) as family:
        assert family.tasks == {Task.FINDINGS, Task.VQA}
        assert family.parts["prompts"] == dialect.digest
        with pytest.raises(ConfigurationError, match="does not do"):
            family.answer(family.encode([chat_study(1)]), [Request()])
    unirg = show("unirg-cxr")
    assert find_dialect(unirg, own).digest != dialect.digest, "a system with words of its own keeps them"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("not toml", "cannot be read"),
        ('[findings]\nen = "{images}Describe."', r"no \[chat\]"),
        (SYSTEM_WORDS + '[diagnose]\nen = "{images}"', "'diagnose'"),
        (SYSTEM_WORDS.replace("{context}", "{patient_name}"), r"\{patient_name\}"),
        (SYSTEM_WORDS.replace("en =", "xx ="), "cannot be read"),
    ],
)
def test_words_that_cannot_be_used_are_refused(folder: Path, tmp_path: Path, words: str, said: str) -> None:
    (tmp_path / OWN_WORDS).write_text(words, encoding="utf-8")
    with pytest.raises(StopRun, match=said):
        find_dialect(ENTRY, tmp_path)
