"""BiomedCLIP in open_clip's published layout, against a plain reading of its arithmetic."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.catalog import show
from models.families.native.biomedclip import BiomedClipFamily, load_biomedclip
from models.family import Request, Task, traits_of
from pipeline.errors import ConfigurationError, FailStudy, StopRun
from tests.engines import ENGINES
from tests.tiny_chat import chat_study
from tests.tiny_clip import HEADS, LAYERS, PATCH, WIDE, clip_config, clip_weights, write_clip

LABELS = ("chest x-ray", "brain MRI", "photo of a ray")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    weights = clip_weights()
    return write_clip(tmp_path_factory.mktemp("clip") / "weights", weights), weights


@pytest.fixture(scope="module")
def family(published: Any) -> BiomedClipFamily:
    return BiomedClipFamily(show("biomedclip"), load_biomedclip(published[0]), ENGINES, threads=1)


def normed(weights: dict[str, Tensor], name: str, x: Tensor, epsilon: float) -> Tensor:
    return functional.layer_norm(x, (WIDE,), weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon)


def mapped(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    n = len(query)
    split = [one.reshape(n, -1, HEADS, WIDE // HEADS).transpose(1, 2) for one in (query, key, value)]
    scores = split[0] @ split[1].transpose(2, 3) / math.sqrt(WIDE // HEADS)
    return (scores.softmax(-1) @ split[2]).transpose(1, 2).reshape(n, -1, WIDE)


def plain_image(weights: dict[str, Tensor], pixels: Tensor) -> Tensor:
    at = "visual.trunk"
    x = functional.conv2d(
        pixels, weights[f"{at}.patch_embed.proj.weight"], weights[f"{at}.patch_embed.proj.bias"], stride=PATCH
    )
    x = torch.cat([weights[f"{at}.cls_token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1)
    x = x + weights[f"{at}.pos_embed"]
    for layer in range(LAYERS):
        block = f"{at}.blocks.{layer}"
        joined = mapped(weights, f"{block}.attn.qkv", normed(weights, f"{block}.norm1", x, 1e-6))
        x = x + mapped(weights, f"{block}.attn.proj", attended(*joined.split(WIDE, -1)))
        inner = mapped(weights, f"{block}.mlp.fc1", normed(weights, f"{block}.norm2", x, 1e-6))
        x = x + mapped(weights, f"{block}.mlp.fc2", functional.gelu(inner))
    features = normed(weights, f"{at}.norm", x, 1e-6)[:, 0] @ weights["visual.head.proj.weight"].T
    direction: torch.Tensor = features / features.norm(dim=-1, keepdim=True)
    return direction


def plain_text(weights: dict[str, Tensor], ids: list[int]) -> Tensor:
    at = "text.transformer"
    x = weights[f"{at}.embeddings.word_embeddings.weight"][ids]
    x = x + weights[f"{at}.embeddings.position_embeddings.weight"][: len(ids)]
    x = (x + weights[f"{at}.embeddings.token_type_embeddings.weight"][0])[None]
    x = normed(weights, f"{at}.embeddings.LayerNorm", x, 1e-12)
    for layer in range(LAYERS):
        block = f"{at}.encoder.layer.{layer}"
        parts = [mapped(weights, f"{block}.attention.self.{part}", x) for part in ("query", "key", "value")]
        mixed = mapped(weights, f"{block}.attention.output.dense", attended(*parts))
        x = normed(weights, f"{block}.attention.output.LayerNorm", x + mixed, 1e-12)
        inner = functional.gelu(mapped(weights, f"{block}.intermediate.dense", x))
        x = normed(
            weights, f"{block}.output.LayerNorm", x + mapped(weights, f"{block}.output.dense", inner), 1e-12
        )
    features = functional.gelu(x[:, 0] @ weights["text.proj.0.weight"].T) @ weights["text.proj.2.weight"].T
    direction: torch.Tensor = features / features.norm(dim=-1, keepdim=True)
    return direction


def test_probabilities_are_those_of_the_published_arithmetic(
    published: Any, family: BiomedClipFamily
) -> None:
    folder, weights = published
    tokenizer = load_biomedclip(folder).tokenizer
    texts = torch.cat(
        [plain_text(weights, tokenizer(f"this is a photo of {label}").input_ids) for label in LABELS]
    )
    for number in range(20):
        study = chat_study(number)
        features = family.encode([study])[0]
        wanted = plain_image(weights, torch.from_numpy(family.prepare(study)))
        error = np.abs(features.arrays["features"] - wanted.numpy()).max() / wanted.abs().max()
        assert error <= 1e-4
        chances = (wanted @ texts.T * math.exp(3.0)).softmax(-1)[0].tolist()
        answer = family.answer([features], [Request(Task.CLASSIFY, labels=LABELS)])[0]
        assert [label.probability for label in answer.labels] == pytest.approx(chances, rel=1e-4, abs=1e-7)
        assert [label.name for label in answer.labels if label.chosen] == [answer.text]
        assert answer.text == LABELS[int(np.argmax(chances))]
    assert traits_of(family).among_labels, "a softmax: evaluation compares them within a label set only"


def test_what_cannot_be_asked_is_refused(family: BiomedClipFamily) -> None:
    features = family.encode([chat_study(1)])
    with pytest.raises(ConfigurationError, match="two or more"):
        family.answer(features, [Request(Task.CLASSIFY, labels=("one",))])
    with pytest.raises(FailStudy):
        family.answer(features, [Request(Task.CLASSIFY, labels=("ray", "ray " * 300))])


@pytest.mark.parametrize("change", ["missing", "unexpected", "misshapen"])
def test_unsound_weights_stop_the_run(tmp_path: Path, change: str) -> None:
    weights = clip_weights()
    if change == "missing":
        del weights["visual.trunk.blocks.1.attn.qkv.bias"]
    elif change == "unexpected":
        weights["visual.trunk.fc_norm.weight"] = torch.zeros(3)
    else:
        weights["text.proj.0.weight"] = torch.zeros(3, WIDE)
    with pytest.raises(StopRun):
        load_biomedclip(write_clip(tmp_path, weights))


def test_other_networks_and_pickles_are_refused(tmp_path: Path) -> None:
    folder = write_clip(tmp_path, clip_weights())
    (folder / "open_clip_model.safetensors").rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(ConfigurationError, match="pickle"):
        load_biomedclip(folder)
    changed = clip_config()
    changed["model_cfg"]["text_cfg"]["hf_pooler_type"] = "mean_pooler"
    (folder / "open_clip_config.json").write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="class token of the text"):
        load_biomedclip(folder)
