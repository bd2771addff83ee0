"""RadVLM on a small LLaVA-OneVision network: tiles, joined features, prompts, texts and boxes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LlavaOnevisionProcessor

from models.catalog import show
from models.families.native.chat import picture_of
from models.families.native.onevision import load_onevision
from models.families.native.radvlm import RadVlmWords, read_boxes_of_one
from models.families.native.tiles import TiledFamily
from models.families.prompt_proof import tokens_of
from models.family import Request, SeenImage, Task
from pipeline.errors import ConfigurationError, StopRun
from pipeline.study import InstanceRef
from tests.engines import ENGINES
from tests.tiny_chat import RADVLM_TEMPLATE, chat_study, write_chat_model

LIMIT = 16
SEEN = SeenImage(InstanceRef("1.2", "1.2.1", "1.2.1.1"), 0, 400, 200)
REQUESTS = [Request(), Request(Task.VQA, question="Is it large?"), Request(Task.DETECT, target="Right lung")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat_model(tmp_path_factory.mktemp("radvlm") / "weights", "radvlm")


@pytest.fixture(scope="module")
def family(folder: Path) -> TiledFamily:
    return TiledFamily(show("radvlm"), load_onevision(folder), RadVlmWords(), ENGINES, limit=LIMIT, threads=1)


def own_processor(family: TiledFamily) -> LlavaOnevisionProcessor:
    """transformers' own, as AutoProcessor builds it of the folder."""
    loaded = family._loaded
    own = object.__new__(LlavaOnevisionProcessor)  # its own beginning asks for torchvision, for videos
    vars(own).update(
        image_processor=loaded.processor.processor, tokenizer=loaded.tokenizer, video_processor=None,
        num_image_tokens=16, vision_feature_select_strategy="full", chat_template=RADVLM_TEMPLATE,
        vision_aspect_ratio="anyres_max_4", image_token="<image>", video_token="<video>",
        image_token_id=loaded.image_token, video_token_id=4,
    )  # fmt: skip
    return own


def test_prompts_features_and_texts_are_transformers_own(family: TiledFamily) -> None:
    own, loaded, lengths = own_processor(family), family._loaded, set()
    studies = [chat_study(number) for number in range(9)]
    requests = [REQUESTS[number % 3] for number in range(9)]
    seen = family.encode(studies)
    answers = family.answer(seen, requests)
    texts = []
    for study, features, request, answer in zip(studies, seen, requests, answers, strict=True):
        words = family._dialect.word(request, [SEEN], "DX")
        asked = words.split("<image>\n")[1].split("<|im_end|>")[0]
        turn: Any = [{"role": "user", "content": [{"type": "text", "text": asked}, {"type": "image"}]}]
        prompt = own.apply_chat_template(turn, add_generation_prompt=True)
        assert prompt == words
        given = own(images=picture_of(study.images[0]), text=prompt, return_tensors="pt")
        text, values = family._insert(words, features, request)
        assert tokens_of(loaded.tokenizer, text) == given["input_ids"][0].tolist()
        with torch.inference_mode():
            wanted = loaded.network.model.get_image_features(
                given["pixel_values"], given["image_sizes"], return_dict=True
            ).pooler_output[0]  # fmt: skip
            ends = [loaded.tokenizer.eos_token_id, 0]
            whole = loaded.network.generate(
                **given, do_sample=False, max_new_tokens=LIMIT, eos_token_id=ends, pad_token_id=0
            )
        written = whole[0, given["input_ids"].shape[1] :].tolist()
        assert values.shape == tuple(wanted.shape)
        assert np.abs(values - wanted.numpy()).max() / wanted.abs().max() <= 1e-4
        cut = next((place for place, token in enumerate(written) if token in ends), len(written))
        plain = loaded.tokenizer.decode(written[:cut], skip_special_tokens=True).strip()
        assert answer.text == plain
        texts.append(plain)
        lengths.add(len(values))
    assert len(lengths) > 4, "films of other shapes have other numbers of tokens"
    assert len(set(texts)) > 2


def test_a_film_of_many_tiles_is_shrunk(family: TiledFamily) -> None:
    tiler = family._loaded.processor
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8))
    tiles = tiler.cut(picture)
    assert len(tiles) == 10
    joined = tiler.join(np.zeros((10, 16, 32), np.float32), (900, 900))
    assert len(joined) == 16 + 8 * 9  # of 12 x 12 tokens 8 x 8 are kept, and a new line after each row


def test_the_words_are_its_training_datas(family: TiledFamily) -> None:
    words = RadVlmWords()
    asked = words.word(Request(Task.DETECT, target="Right lung"), [SEEN], "DX")
    assert asked == (
        "<|im_start|>user\n<image>\nWhere is the right lung located in this Chest X-ray?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert "the ETT located" in words.word(Request(Task.DETECT, target="ETT"), [SEEN], "DX")
    sentence = Request(Task.DETECT, target="Small effusion", variant="detect-sentence")
    assert "Please locate the following sentence: small effusion<" in words.word(sentence, [SEEN], "DX")


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("It is at [0.1, 0.2, 0.5, 1.0] on the image.", [(20, 80, 100, 400)]),
        ("At [0.1, 0.2, 0.5, 0.5] and [0, 0, 1, 1].", [(20, 80, 100, 200), (0, 0, 200, 400)]),
        ("At [0.5, 0.2, 0.1, 1.0].", []),
        ("At [0.9, 0.2, 1.5, 1.0].", []),
        ("At [10, 20, 50, 100].", []),
        ("At [0.1, 0.2, 0.5].", []),
        ("[" * 5000, []),
    ],
)
def test_boxes_are_shares_of_the_whole_image(text: str, boxes: list[tuple[int, ...]]) -> None:
    places = read_boxes_of_one(text, "lung", SEEN)
    regions = [place.region for place in places if place.region is not None]
    assert [(one.x0, one.y0, one.x1, one.y1) for one in regions] == [pytest.approx(box) for box in boxes]


def test_another_template_and_other_grids_are_refused_in_words(folder: Path, tmp_path: Path) -> None:
    changed = tmp_path / "weights"
    shutil.copytree(folder, changed)
    (changed / "chat_template.jinja").write_text(RADVLM_TEMPLATE.replace("<image>\n", "<image>"))
    with pytest.raises(StopRun, match="another prompt"):
        TiledFamily(show("radvlm"), load_onevision(changed), RadVlmWords(), ENGINES, threads=1)
    (changed / "chat_template.jinja").write_text(RADVLM_TEMPLATE)
    path = next(one for one in changed.glob("*processor_config.json"))
    stored = json.loads(path.read_text())
    stored.get("image_processor", stored)["image_grid_pinpoints"] = [[56, 56]]
    path.write_text(json.dumps(stored))
    with pytest.raises(ConfigurationError, match="grids"):
        load_onevision(changed)
