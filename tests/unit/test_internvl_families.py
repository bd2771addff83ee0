"""Lingshu-I and Fleming-VL on small InternVL3 networks: tiles, features, prompts, texts, both published layouts."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import GotOcr2ImageProcessorPil

from models.catalog import show
from models.families.native.chat import picture_of
from models.families.native.internvl import InternVLTiler, choose_grid, conversation, load_internvl
from models.families.native.internvl_chat import load_internvl_chat
from models.families.native.internvl_words import CONVERSATIONS, WORDS, FlemingWords, LingshuIWords
from models.families.native.networks import IMAGENET_DEVIATION, IMAGENET_MEAN
from models.families.native.tiles import TiledFamily
from models.family import Request, SeenImage, Task
from models.runners import packed_products
from models.runners.packed_products import PackedLinear, can_pack, pack_language
from models.weight_loading.memory import Precision
from models.weight_loading.placement import Placing, choose_placing
from pipeline.errors import ConfigurationError, StopRun
from pipeline.study import InstanceRef
from tests.engines import ENGINES
from tests.plain_internvl import (
    LAYERS,
    SIDE,
    TOKENS,
    chat_weights,
    features,
    later_config,
    logits,
    save_chat,
)
from tests.tiny_chat import chat_study, write_chat_model

IMAGE_TOKEN, VOCABULARY, LIMIT = 11, 60, 16
STORED = Placing("cpu", None, Precision.BF16)
SEEN = SeenImage(InstanceRef("1.2", "1.2.1", "1.2.1.1"), 0, 512, 512)
SIZES = [(2544, 3056), (3056, 2544), (512, 512), (701, 300), (333, 901), (97, 61), (1, 900), (1024, 1023), (1001, 700),
         (448, 1344), (900, 900), (1300, 2600)]  # fmt: skip
LATER = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
HF_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "{{ '<IMG_CONTEXT>\n' }}{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{'<|im_end|>\n'}}{% endfor %}{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)


def error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("text", ["LlamaForCausalLM", "Qwen2ForCausalLM", "InternLM2ForCausalLM"])
def test_every_language_model_gives_the_published_arithmetic(tmp_path: Path, text: str) -> None:
    config = later_config(VOCABULARY, text)
    weights = chat_weights(config)
    network = load_internvl_chat(save_chat(tmp_path, config, weights), IMAGE_TOKEN, STORED, tiled=True)
    pixels = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[1, 20, 21, *[IMAGE_TOKEN] * 2 * TOKENS, 30, 31, 32]])
    with torch.inference_mode():
        got = network.get_image_features(pixel_values=pixels, return_dict=True).pooler_output
        assert error(got, features(weights, pixels, LAYERS, transposed=False)) <= 1e-4
        if text == "InternLM2ForCausalLM":  # the same weights under Llama's names
            weights = chat_weights(later_config(VOCABULARY, "LlamaForCausalLM"))
        wanted = logits(config, weights, ids, pixels, IMAGE_TOKEN, LAYERS, transposed=False)
        assert error(network(input_ids=ids, pixel_values=pixels).logits, wanted) <= 1e-4


@pytest.mark.skipif(not can_pack(), reason="this torch has no packed products for this processor")
@pytest.mark.parametrize("text", ["LlamaForCausalLM", "Qwen2ForCausalLM", "InternLM2ForCausalLM"])
def test_packed_while_it_is_read_a_network_is_what_it_is_when_packed_later(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_products, "LEAST", 1)
    config = later_config(VOCABULARY, text)
    weights = {name: value.to(torch.bfloat16) for name, value in chat_weights(config).items()}
    folder = save_chat(tmp_path, config, weights)
    read = load_internvl_chat(folder, IMAGE_TOKEN, choose_placing("fp32"), tiled=True)
    packed = [name for name, one in read.named_modules() if isinstance(one, PackedLinear)]
    assert "lm_head" in packed
    assert ("model.language_model.layers.0.self_attn.q_proj" in packed) == (text != "InternLM2ForCausalLM")
    later = load_internvl_chat(folder, IMAGE_TOKEN, STORED, tiled=True).float()
    assert pack_language(read) == pack_language(later) == packed_products.PACKED
    assert [type(one) for one in read.modules()] == [type(one) for one in later.modules()]
    ids = torch.tensor([[1, 20, 21, *[IMAGE_TOKEN] * TOKENS, 30, 31, 32]])
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        got, wanted = (one(input_ids=ids, pixel_values=pixels).logits for one in (read, later))
    assert torch.equal(got, wanted)


def test_tiles_are_those_of_transformers_own_processor() -> None:
    own = GotOcr2ImageProcessorPil(
        size={"height": 56, "width": 56}, crop_to_patches=True, min_patches=1, max_patches=12,
        image_mean=IMAGENET_MEAN, image_std=IMAGENET_DEVIATION,
    )  # fmt: skip
    tiler, shapes = InternVLTiler(56, (1, 12)), set()
    for number, (rows, columns) in enumerate(SIZES):
        grey = np.random.default_rng(number).integers(0, 256, (rows, columns, 3), np.uint8)
        picture = Image.fromarray(grey)
        wanted = own(images=[picture], return_tensors="np")["pixel_values"]
        got = tiler.cut(picture)
        assert got.shape == wanted.shape, (rows, columns)
        assert np.abs(got - wanted).max() <= 1e-6
        assert len(got) == own.get_number_of_image_patches(rows, columns)
        shapes.add(choose_grid(columns, rows, (1, 12), 56))
    assert len(shapes) > 5


def test_without_tiles_a_film_is_squashed_once() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 700, 3), np.uint8))
    assert InternVLTiler(56).cut(picture).shape == (1, 3, 56, 56)
    assert InternVLTiler(56, (1, 12), thumbnail=False).cut(picture).shape == (10, 3, 56, 56)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat_model(tmp_path_factory.mktemp("internvl") / "weights", "internvl")


def opened(folder: Path, model_id: str = "lingshu-i-8b") -> TiledFamily:
    entry = show(model_id)
    loaded = load_internvl(folder, untiled=model_id.startswith("fleming"))
    words = WORDS[entry.prompts](entry.prompts, entry.images, conversation(folder))
    return TiledFamily(entry, loaded, words, ENGINES, limit=LIMIT, threads=1)


def own_text(family: TiledFamily, number: int, count: int, request: Request) -> str:
    """What the network's own ``generate`` writes of pixels."""
    study, loaded, dialect = chat_study(number, count), family._loaded, family._dialect
    pixels = [loaded.processor.cut(picture_of(image)) for image in study.images[: dialect.most_images]]
    text = dialect.word(request, [SEEN] * len(pixels), "CR")
    for one in pixels:
        text = text.replace("<image>", f"<img>{'<IMG_CONTEXT>' * TOKENS * len(one)}</img>", 1)
    ids = torch.tensor([loaded.tokenizer(text).input_ids])
    end = loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")
    with torch.inference_mode():
        written = loaded.network.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=LIMIT,
            pixel_values=torch.from_numpy(np.concatenate(pixels)), eos_token_id=[end, 0], pad_token_id=end,
        )[0, ids.shape[1] :].tolist()  # fmt: skip
    cut = next((place for place, token in enumerate(written) if token in (end, 0)), len(written))
    plain = loaded.tokenizer.decode(written[:cut], skip_special_tokens=not dialect.marks).strip()
    return dialect.read(plain, request, [SEEN]).text


@pytest.mark.parametrize("model_id", ["lingshu-i-8b", "fleming-vl-8b"])
def test_texts_are_those_of_the_networks_own_generate(folder: Path, model_id: str) -> None:
    asked = [Request(), Request(Task.VQA, question="Is the heart large?")]
    with opened(folder, model_id) as family:
        studies = [chat_study(number, 1 + number % 3) for number in range(8)]
        requests = [asked[number % 2] for number in range(8)]
        seen = family.encode(studies)
        answers = family.answer(seen, requests)
        own = [own_text(family, number, 1 + number % 3, requests[number]) for number in range(8)]
        assert [answer.text for answer in answers] == own
        assert len(set(own)) > 2  # they depend on the image and the question
        tiles = [int(one) // TOKENS for features in seen for one in features.arrays["tokens"]]
        assert set(tiles) == {1} if model_id == "fleming-vl-8b" else len(set(tiles)) > 2


def saved_by_transformers(folder: Path, tmp_path: Path, template: str = HF_TEMPLATE) -> Path:
    """The layout of transformers, made of a published folder."""
    loaded, made = load_internvl(folder), tmp_path / "hf"
    loaded.network.save_pretrained(made)
    GotOcr2ImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, crop_to_patches=True, min_patches=1, max_patches=12,
        image_mean=IMAGENET_MEAN, image_std=IMAGENET_DEVIATION,
    ).save_pretrained(made)  # fmt: skip
    loaded.tokenizer.save_pretrained(made)
    (made / "chat_template.jinja").write_text(template)
    return made


def test_the_layout_of_transformers_writes_the_same(folder: Path, tmp_path: Path) -> None:
    native = saved_by_transformers(folder, tmp_path)
    assert json.loads((native / "config.json").read_text())["model_type"] == "internvl"
    request, study = Request(Task.VQA, question="Why?"), chat_study(3)
    with opened(folder, "fleming-vl-8b") as one, opened(native, "fleming-vl-8b") as other:
        assert one.answer(one.encode([study]), [request]) == other.answer(other.encode([study]), [request])
        assert other.proved["chat template"].startswith("writes this family's prompt")


def test_another_chat_template_is_refused_in_words(folder: Path, tmp_path: Path) -> None:
    native = saved_by_transformers(folder, tmp_path, HF_TEMPLATE.replace("<|im_end|>\n", "<|im_end|>"))
    with pytest.raises(StopRun, match="another prompt than this family was trained on"):
        opened(native, "fleming-vl-8b")


def test_the_conversation_is_the_one_that_the_folder_names(folder: Path, tmp_path: Path) -> None:
    assert conversation(folder) == CONVERSATIONS["internvl2_5"]
    changed = tmp_path / "other"
    shutil.copytree(folder, changed)
    config = json.loads((changed / "config.json").read_text())
    for stored, start in (
        ({"template": "Hermes-2"}, "<|im_start|>system\n你是由上海"),
        (
            {"template": "internvl2_5", "system_message": "Be brief."},
            "<|im_start|>system\nBe brief.<|im_end|>\n",
        ),
    ):
        (changed / "config.json").write_text(json.dumps(config | stored))
        assert conversation(changed).frame("x").startswith(start)
    (changed / "config.json").write_text(json.dumps(config | {"template": "phi3-chat"}))
    with pytest.raises(ConfigurationError, match="phi3-chat"):
        conversation(changed)


def test_the_words_of_fleming_are_its_readmes() -> None:
    words = FlemingWords()
    question = words.word(Request(Task.VQA, question="Why?", options=("mass", "gas")), [SEEN], "DX")
    assert question.startswith(
        f"<|im_start|>system\n{LATER}<|im_end|>\n<|im_start|>user\nA conversation between User"
    )
    assert question.endswith(
        "<think> reasoning process here </think><answer> answer here </answer>\n<image>\nWhy?\nA. mass B. gas"
        "<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_words_of_lingshu_i_are_medevalkits() -> None:
    words = LingshuIWords()
    report = words.word(Request(), [SEEN] * 2, "DX")
    assert report.startswith(
        "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n<image_1>: <image>\n<image_2>: <image>\nYou are a helpful"
    )
    options = words.word(Request(Task.VQA, question="Which?", options=("mass", "gas")), [SEEN], "DX")
    assert "user\n<image>\n\nQuestion: Which?\nOptions: \nA. mass\nB. gas\nAnswer with" in options


@pytest.mark.parametrize(
    ("text", "answer", "thought"),
    [
        ("<think> It may be B. </think><answer> B </answer>", "B", "It may be B."),
        ("B", "B", ""),
        ("<think>no end of thinking", "", "<think>no end of thinking"),
        ("<think>a</think><answer>x</answer><answer>B</answer>", "", None),
    ],
)
def test_thinking_is_no_part_of_an_answer(folder: Path, text: str, answer: str, thought: str | None) -> None:
    request = Request(Task.VQA, question="Which?", options=("mass", "gas"))
    with opened(folder, "fleming-vl-8b") as family:
        (features,) = family.encode([chat_study(1)])
        read = family._answer(text, False, request, features, "")
    assert read.text == answer
    assert thought is None or read.reasoning == thought
    assert [label.name for label in read.labels if label.chosen] == (["gas"] if answer == "B" else [])
