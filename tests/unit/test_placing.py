"""Weights in 8 and 4 bits: loaded through bitsandbytes on the CPU, for every family that has a language model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from models.catalog import show
from models.families.checked_weights import parameters_among
from models.families.native.networks import ChatNetwork, load_llava_med, load_medgemma, load_medrega
from models.families.native.qwen_loading import load_qwen
from models.families.registry import find_opener, open_family
from models.family import Request, Task
from models.model_choice import ModelChoice
from models.networks.uni_med import ADAPTER_FOLDER, LANGUAGE_FOLDER, UniMedEncoder
from models.networks.uni_med_language import with_new_adapter
from models.weight_loading.memory import Precision
from models.weight_loading.placement import KEPT, Placing, choose_placing
from models.weight_loading.weight_files import inspect_folder
from pipeline.errors import ConfigurationError
from tests.large_models import enlarge
from tests.plain_internvl import chat_config, chat_weights, save_chat
from tests.tiny_chat import build_tokenizer, chat_study, write_chat_model
from tests.tiny_model import film_study
from tests.tiny_qwen import write_qwen
from tests.tiny_text import write_text_model
from tests.tiny_uni_med import CONFIG, write_uni_med

bitsandbytes = pytest.importorskip("bitsandbytes")
TEXT = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
}
"""Rows of whole blocks of 64, as every real network has them: bitsandbytes computes no others in 4 bits on a CPU."""


def write_chat(folder: Path, kind: str, class_name: str) -> None:
    write_chat_model(folder, kind)
    enlarge(folder, class_name, text_config=TEXT)


def write_medrega(folder: Path) -> None:
    tokenizer = build_tokenizer("medrega")
    described = chat_config(len(tokenizer))
    described["llm_config"] |= TEXT
    save_chat(folder, described, chat_weights(described))
    tokenizer.save_pretrained(folder)


def write_umit(folder: Path) -> None:
    write_qwen(folder, "qwen2-vl")
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]}
    vision = {"hidden_size": TEXT["hidden_size"]}
    enlarge(
        folder,
        "Qwen2VLForConditionalGeneration",
        text_config={**TEXT, "rope_parameters": rope},
        vision_config=vision,
    )


def write_text(folder: Path) -> None:
    write_text_model(folder)
    enlarge(folder, "LlamaForCausalLM", whole=TEXT)


def write_uni(folder: Path) -> None:
    write_uni_med(folder, adapter=False)
    shape = replace(CONFIG, language_width=TEXT["hidden_size"])
    UniMedEncoder(shape).save(folder)
    enlarge(folder / LANGUAGE_FOLDER, "LlamaForCausalLM", whole={**TEXT, "num_key_value_heads": 4})
    network = LlamaForCausalLM.from_pretrained(folder / LANGUAGE_FOLDER, dtype=torch.float32)
    with_new_adapter(network, shape).save_pretrained(folder / ADAPTER_FOLDER)


LOADERS: dict[str, tuple[Callable[[Path], None], Callable[[Path, str], ChatNetwork]]] = {
    "medrega": (write_medrega, load_medrega),
    "llava-med": (
        lambda folder: write_chat(folder, "llava-med", "LlavaForConditionalGeneration"),
        load_llava_med,
    ),
    "medgemma-1.5-4b-it": (
        lambda folder: write_chat(folder, "medgemma", "Gemma3ForConditionalGeneration"),
        load_medgemma,
    ),
    "umit": (
        write_umit,
        lambda folder, precision: load_qwen(folder, show("umit").network_class, 20_000, precision),
    ),
}
LIKENESS = {"int8": 0.99, "int4": 0.8}
"""Least cosine of the logits with those in float32, of random networks of two layers."""


def matrices(network: Any) -> dict[str, str]:
    """The class of each matrix by name."""
    return {
        name: type(module).__name__
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear)
    }


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("model_id", list(LOADERS))
def test_only_the_language_model_is_reduced(model_id: str, precision: str, tmp_path: Path) -> None:
    write, load = LOADERS[model_id]
    folder = tmp_path / "weights"
    write(folder)
    whole, small = load(folder, "auto"), load(folder, precision)
    wanted = {"int8": "Linear8bitLt", "int4": "Linear4bit"}[precision]
    for name, kind in matrices(small.network).items():
        reduced = "language_model" in name
        assert (kind == wanted) == reduced, name
    assert wanted in matrices(small.network).values()
    assert small.network.dtype == torch.float32
    ids = torch.randint(5, 200, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        first, second = (one.network(input_ids=ids).logits for one in (whole, small))
    likeness = float(torch.cosine_similarity(first.flatten(), second.flatten(), dim=0))
    assert LIKENESS[precision] <= likeness < 1 - 1e-9


@pytest.mark.parametrize(
    ("model_id", "write", "study", "request_"),
    [
        ("text-llm", write_text, None, Request(Task.TEXT_QA, question="Why?")),
        ("uni-med", write_uni, film_study, Request(Task.REPORT)),
        ("medrega", write_medrega, chat_study, Request(Task.REPORT)),
    ],
)
def test_a_family_answers_and_its_recipe_says_in_what(
    model_id: str, write: Callable[[Path], Path], study: Any, request_: Request, tmp_path: Path
) -> None:
    """In float32, then in each of the others over the graph that the first exported."""
    write(tmp_path / "weights")
    cache = tmp_path / "cache"
    choice = ModelChoice(model_id, tmp_path / "weights", accept_use_limits=True, threads=1)
    entry = show(model_id)
    opener = find_opener(entry, entry.adapter)
    studies = [] if study is None else [study(0), study(1)]
    with opener(entry, choice, cache) as family:
        recipe = dict(family.parts)
        seen = family.encode(studies)
    for precision in ("int8", "int4"):
        with opener(entry, replace(choice, precision=precision), cache) as family:
            assert family.parts["reduced"] == precision
            assert {key: value for key, value in family.parts.items() if key != "reduced"} == recipe
            features = family.encode(studies)
            for one, other in zip(features, seen, strict=True):
                assert np.array_equal(one.arrays["features"], other.arrays["features"])
            if study is None:
                features = family.encode([film_study(0)] * 2)
            answers = family.answer(features, [request_] * 2)
        assert all(isinstance(answer.text, str) for answer in answers)


def test_what_has_no_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no language model"):
        open_family(
            show("biomedclip"),
            ModelChoice("biomedclip", tmp_path, accept_use_limits=True, precision="int8"),
            tmp_path,
        )


def test_an_adapter_is_not_merged_into_rounded_weights(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    write_qwen(folder / "base", "qwen2-vl")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="merged"):
        load_qwen(folder, show("umit").network_class, 0, "int4")


def test_the_parts_that_stay_are_counted(tmp_path: Path) -> None:
    save_file(
        {
            "vision_model.encoder.layers.0.mlp.fc1.weight": torch.zeros(4, 4),
            "language_model.model.layers.0.mlp.up_proj.weight": torch.zeros(8, 8),
            "language_model.lm_head.weight": torch.zeros(2, 8),
        },
        tmp_path / "model.safetensors",
    )
    assert parameters_among(inspect_folder(tmp_path), KEPT) == 16 + 16


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize(
    ("precision", "stored", "placing"),
    [
        ("auto", False, Placing("cpu", torch.float32, Precision.FP32)),
        ("auto", True, Placing("cpu", torch.float32, Precision.FP32)),
        ("bf16", True, Placing("cpu", torch.bfloat16, Precision.BF16)),
        ("int4", False, Placing("cpu", torch.float32, Precision.INT4)),
    ],
)
def test_placings_without_a_gpu(precision: str, stored: bool, placing: Placing) -> None:
    assert choose_placing(precision, stored=stored) == placing
