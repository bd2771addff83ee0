"""MING-MOE: the mixture of LoRA experts against a plain reading of the published arithmetic."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM

from models.families.text.ming_moe import (
    EXPERTS_FILE,
    ExpertConfig,
    ExpertLinear,
    read_expert_config,
    with_experts,
)
from models.families.text.text_family import TextFamily
from pipeline.errors import ConfigurationError, StopRun
from tests.tiny_ming_moe import ALPHA, RANK, write_ming_moe
from tests.tiny_text import text_entry


def published(layer: ExpertLinear, x: Tensor, config: ExpertConfig) -> Tensor:
    """``MoLoRALinear.forward`` in evaluation, token by token (MING ming/model/utils.py)."""
    result = functional.linear(x, layer.base.weight, layer.base.bias)
    flat = x.view(-1, x.shape[-1])
    gate = layer.switch(flat)
    weights, selected = torch.topk(gate, config.per_token)
    weights = functional.softmax(weights, dim=-1)
    moe = torch.zeros(len(flat), layer.base.out_features)
    for token in range(len(flat)):
        for place in range(config.per_token):
            index = int(selected[token, place])
            expert: Any = layer.experts[index]
            out = expert[f"lora_B_{index}"](expert[f"lora_A_{index}"](flat[token])) * (ALPHA / RANK)
            moe[token] += weights[token, place] * out
    return result + moe.view(*x.shape[:-1], -1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ming_moe(tmp_path_factory.mktemp("ming-moe"))


def test_a_layer_is_the_published_arithmetic() -> None:
    torch.manual_seed(0)
    config = ExpertConfig(RANK, ALPHA)
    layer = ExpertLinear(nn.Linear(12, 20, bias=False), config)
    tokens = torch.randn(2, 7, 12)
    with torch.inference_mode():
        torch.testing.assert_close(layer(tokens), published(layer, tokens, config))
        assert not torch.allclose(layer(tokens), layer.base(tokens))


def test_the_network_is_the_base_with_both_parts_added(folder: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    network = with_experts(base, folder)
    held, adapter = load_file(folder / EXPERTS_FILE), load_file(folder / "adapter_model.safetensors")
    query = plain.model.layers[1].self_attn.q_proj.weight
    start = "base_model.model.model.layers.1.self_attn.q_proj"
    added = adapter[f"{start}.lora_B.weight"] @ adapter[f"{start}.lora_A.weight"] * (ALPHA / RANK)
    torch.testing.assert_close(network.model.layers[1].self_attn.q_proj.weight, query + added)
    up = network.model.layers[0].mlp.up_proj
    name = "base_model.model.model.layers.0.mlp.up_proj.experts.3.lora_A_3.weight"
    assert torch.equal(up.experts[3]["lora_A_3"].weight, held[name])
    assert torch.equal(up.base.weight, plain.model.layers[0].mlp.up_proj.weight)


def test_missing_experts_and_pickles_stop_the_run(folder: Path, tmp_path: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    weights = load_file(folder / EXPERTS_FILE)
    weights.pop(sorted(weights)[0])
    save_file(weights, tmp_path / EXPERTS_FILE)
    with pytest.raises(StopRun, match="missing"):
        TextFamily(text_entry("ming-moe"), tmp_path)
    (tmp_path / EXPERTS_FILE).rename(tmp_path / "non_lora_trainables.bin")
    with pytest.raises(ConfigurationError, match="pickle"):
        TextFamily(text_entry("ming-moe"), tmp_path)


def test_experts_that_are_sampled_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text((folder / "adapter_config.json").read_text())
    stored = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**stored, "expert_selection": "sampling"}))
    with pytest.raises(ConfigurationError, match="samples"):
        read_expert_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**stored, "num_experts": 8, "use_rslora": True}))
    config = read_expert_config(tmp_path)
    assert (config.experts, config.scaling) == (8, ALPHA / RANK**0.5)
