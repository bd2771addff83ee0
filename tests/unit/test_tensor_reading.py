"""Weights read tensor by tensor: the network that transformers would load, without a mapped file."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaForCausalLM

from models.weight_loading.tensors import load_network, model_files, open_tensors
from pipeline.errors import StopRun
from tests.tiny_chat import write_chat_model
from tests.tiny_qwen import write_qwen
from tests.tiny_text import build_network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama in two shards of bfloat16, with a generation setting of its own and a stray file of weights."""
    path: Path = tmp_path_factory.mktemp("llama")
    network = build_network("llama", 420).to(torch.bfloat16)
    network.save_pretrained(path, max_shard_size="60KB")
    GenerationConfig(eos_token_id=[2, 7]).save_pretrained(path)
    save_file({"stray.weight": torch.zeros(2)}, path / "consolidated.safetensors")
    return path


@pytest.mark.parametrize("network_class", [LlamaForCausalLM, AutoModelForCausalLM])
def test_the_network_is_the_one_that_transformers_loads(folder: Path, network_class: Any) -> None:
    network, report = load_network(network_class, folder, torch.float32)
    theirs = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert not any(report[word] for word in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(network) is LlamaForCausalLM
    assert network.generation_config.eos_token_id == [2, 7]
    state, wanted = network.state_dict(), theirs.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], value) for name, value in wanted.items())


def test_no_file_stays_mapped(folder: Path) -> None:
    network, _ = load_network(LlamaForCausalLM, folder, torch.bfloat16)
    assert str(folder) not in Path("/proc/self/maps").read_text(encoding="utf-8")
    assert network.dtype == torch.bfloat16


def test_the_index_says_which_files_are_read(folder: Path, tmp_path: Path) -> None:
    assert {path.name for path in model_files(folder)} == {
        path.name for path in folder.glob("model-*.safetensors")
    }
    assert len(model_files(folder)) > 1
    with pytest.raises(OSError, match="neither"):
        model_files(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "../a.safetensors"}}), encoding="utf-8"
    )
    with pytest.raises(StopRun, match="leads out"):
        model_files(tmp_path)


def test_a_tensor_that_two_files_hold_stops_the_run(folder: Path, tmp_path: Path) -> None:
    first = model_files(folder)[0]
    twice = tmp_path / "again.safetensors"
    save_file(load_file(first), twice)
    with pytest.raises(StopRun, match="two files"), open_tensors([first, twice]):
        pass
    twice.write_bytes(first.read_bytes()[:100])
    with pytest.raises(StopRun, match="not a readable"), open_tensors([twice]):
        pass


@pytest.mark.parametrize("kind", ["llama", "gemma2", "qwen2", "bloom"])
def test_tensors_that_are_exactly_the_networks_are_put_in_by_name(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without transformers' search for names of other releases; the network computes the same, bit by bit."""
    built = build_network(kind, 420)
    built.to(torch.bfloat16).save_pretrained(tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    network_class = type(built)
    monkeypatch.setattr(network_class, "from_pretrained", None)
    network, report = load_network(network_class, tmp_path, torch.float32)
    assert not any(report.values())
    assert not network.training
    held, wanted = dict(network.named_buffers()), dict(theirs.named_buffers())
    assert held.keys() == wanted.keys()
    assert all(torch.equal(held[name], value) for name, value in wanted.items())
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        assert torch.equal(network(input_ids=ids).logits, theirs(input_ids=ids).logits)
    embedded, put_out = network.get_input_embeddings().weight, network.get_output_embeddings().weight
    assert (embedded is put_out) == bool(network.config.tie_word_embeddings)


IMAGE_KINDS = ["qwen2-vl", "qwen2.5-vl", "qwen3-vl", "llava-med", "radvlm", "medgemma"]


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_image_networks_are_put_in_by_the_names_of_other_releases_too(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What transformers' own reading gives, tensor by tensor, buffers and ties too."""
    (write_qwen if kind.startswith("qwen") else write_chat_model)(tmp_path, kind)
    stored = {name: one.to(torch.bfloat16) for name, one in load_file(tmp_path / "model.safetensors").items()}
    save_file(stored, tmp_path / "model.safetensors", metadata={"format": "pt"})
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    network_class = getattr(transformers, written["architectures"][0])
    theirs = network_class.from_pretrained(tmp_path, dtype=torch.float32)
    monkeypatch.setattr(network_class, "from_pretrained", None)
    network, report = load_network(network_class, tmp_path, torch.float32)
    assert not any(report.values())
    for parts in ("named_parameters", "named_buffers"):
        held, wanted = dict(getattr(network, parts)()), dict(getattr(theirs, parts)())
        assert held.keys() == wanted.keys()
        assert all(torch.equal(held[name], value) for name, value in wanted.items())
        assert all(held[name].dtype == value.dtype for name, value in wanted.items())


def test_what_is_not_exactly_the_networks_is_reported(tmp_path: Path) -> None:
    build_network("llama", 420).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.norm.weight"]
    weights["model.extra.weight"] = torch.zeros(2)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    _, report = load_network(LlamaForCausalLM, tmp_path, torch.float32)
    assert list(report["missing_keys"]) == ["model.norm.weight"]
    assert list(report["unexpected_keys"]) == ["model.extra.weight"]
