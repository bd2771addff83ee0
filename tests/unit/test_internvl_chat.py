"""Published InternVL-Chat-V1-2 weights in the native class, against a plain reading of the published arithmetic."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.families.native.internvl_chat import load_internvl_chat, native_names, read_layout
from models.weight_loading.memory import Precision
from models.weight_loading.placement import Placing, choose_placing
from pipeline.errors import ConfigurationError, StopRun
from tests.plain_internvl import (
    LANGUAGE,
    LAYERS,
    SIDE,
    TOKENS,
    chat_config,
    chat_weights,
    features,
    logits,
    save_chat,
)

IMAGE_TOKEN, VOCABULARY = 11, 60
STORED = Placing("cpu", None, Precision.BF16)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Tensor]]:
    config = chat_config(VOCABULARY)
    weights = chat_weights(config)
    return save_chat(tmp_path_factory.mktemp("chat") / "weights", config, weights), config, weights


def pixels(seed: int = 1, count: int = 2) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def error(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max())


def native_features(network: Any, images: Tensor) -> Tensor:
    with torch.inference_mode():
        got: Tensor = network.get_image_features(pixel_values=images, return_dict=True).pooler_output
    return got


def test_features_are_those_of_the_published_arithmetic(published: Any) -> None:
    folder, _, weights = published
    network = load_internvl_chat(folder, IMAGE_TOKEN, STORED)
    got = native_features(network, pixels())
    assert got.shape == (2, TOKENS, LANGUAGE)
    assert error(got, features(weights, pixels(), LAYERS)) <= 1e-4


def test_without_undoing_the_transpose_the_features_are_another_image(published: Any) -> None:
    folder, _, weights = published
    network = load_internvl_chat(folder, IMAGE_TOKEN, STORED)
    del network.model.pixel_shuffle  # the native one comes back
    got = native_features(network, pixels())
    assert error(got, features(weights, pixels(), LAYERS)) > 0.1
    assert error(got, features(weights, pixels(), LAYERS, transposed=False)) <= 1e-4


def test_a_later_pixel_shuffle_is_not_transposed(published: Any, tmp_path: Path) -> None:
    _, config, weights = published
    folder = save_chat(tmp_path, {**config, "ps_version": "v2"}, weights)
    got = native_features(load_internvl_chat(folder, IMAGE_TOKEN, STORED), pixels())
    assert error(got, features(weights, pixels(), LAYERS, transposed=False)) <= 1e-4


def test_the_layer_is_the_one_that_was_selected(published: Any, tmp_path: Path) -> None:
    _, config, weights = published
    folder = save_chat(tmp_path, {**config, "select_layer": -2}, weights)
    got = native_features(load_internvl_chat(folder, IMAGE_TOKEN, STORED), pixels())
    assert error(got, features(weights, pixels(), LAYERS - 1)) <= 1e-4
    assert error(got, features(weights, pixels(), LAYERS)) > 1e-2


def test_logits_of_a_prompt_with_an_image(published: Any) -> None:
    folder, config, weights = published
    network = load_internvl_chat(folder, IMAGE_TOKEN, STORED)
    assert network.config.text_config.rope_parameters["rope_theta"] == 5e6
    ids = torch.tensor([[1, 20, 21, *[IMAGE_TOKEN] * TOKENS, 30, 31, 32]])
    with torch.inference_mode():
        got = network(input_ids=ids, pixel_values=pixels(count=1)).logits
        wanted = logits(config, weights, ids, pixels(count=1), IMAGE_TOKEN, LAYERS)
    assert error(got, wanted) <= 1e-4


def test_the_stored_type_is_kept_unless_another_is_asked(published: Any, tmp_path: Path) -> None:
    _, config, weights = published
    folder = save_chat(tmp_path, config, {name: value.bfloat16() for name, value in weights.items()})
    assert load_internvl_chat(folder, IMAGE_TOKEN, STORED).dtype == torch.bfloat16
    assert load_internvl_chat(folder, IMAGE_TOKEN, choose_placing("fp32")).dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("missing", "1 tensors missing"),
        ("unexpected", "does not have"),
        ("misshapen", "has the shape"),
        ("twice", "in two files"),
    ],
)
def test_unsound_weights_stop_the_run(published: Any, tmp_path: Path, change: str, words: str) -> None:
    _, config, weights = published
    folder = save_chat(tmp_path, config, weights)
    path = folder / "model-00001-of-00002.safetensors"
    held = load_file(path)
    name = next(name for name in held if name.endswith("mlp.fc1.bias"))
    if change == "missing":
        del held[name]
    elif change == "unexpected":
        held["vision_model.head.weight"] = torch.zeros(2)
    elif change == "misshapen":
        held[name] = torch.zeros(3)
    else:
        save_file({name: held[name]}, folder / "extra.safetensors")
    save_file(held, path)
    with pytest.raises(StopRun, match=words):
        load_internvl_chat(folder, IMAGE_TOKEN, STORED)


def test_old_rotary_buffers_are_no_weights(published: Any, tmp_path: Path) -> None:
    _, config, weights = published
    stale = {"language_model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)}
    load_internvl_chat(save_chat(tmp_path, config, weights | stale), IMAGE_TOKEN, STORED)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model_type", "llava", "internvl_chat"),
        ("dynamic_image_size", True, "tiled"),
        ("ps_version", "v9", "pixel shuffle"),
        ("force_image_size", 448, "one size"),
        ("vision_config", None, "config.json"),
    ],
)
def test_other_layouts_are_refused(tmp_path: Path, key: str, value: Any, words: str) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps(chat_config(VOCABULARY, **{key: value})), encoding="utf-8"
    )
    with pytest.raises(ConfigurationError, match=words):
        read_layout(tmp_path)


def test_the_published_size_has_256_tokens(tmp_path: Path) -> None:
    config = chat_config(VOCABULARY, force_image_size=448)
    config["vision_config"]["image_size"] = 448
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert read_layout(tmp_path).tokens == 256


def test_joined_projections_are_split_in_order() -> None:
    names = native_names("vision_model.encoder.layers.12.attn.qkv.weight")
    assert [name.rsplit(".", 2)[1] for name in names] == ["q_proj", "k_proj", "v_proj"]
