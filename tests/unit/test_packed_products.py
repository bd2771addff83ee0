"""Products by oneDNN's packed weights: the same texts, and weights that are in memory once."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from models.runners import packed_products
from models.runners.packed_products import PackedLinear, StoredTable, can_pack, pack_language, pack_stored
from models.weight_loading import stored_tensors
from models.weight_loading.tensors import load_network
from pipeline.errors import StopRun
from tests.tiny_qwen import build_network, build_tokenizer
from tests.tiny_text import build_network as build_text

PROMPTS = torch.tensor([[5, 9, 13, 17, 30, 31, 32, 33], [40, 41, 42, 43, 44, 45, 46, 47]])
SHAPE: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def every_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks are packed too, read in several pieces and their larger matrices packed in blocks."""
    monkeypatch.setattr(packed_products, "BLOCK", 64 * 100)
    monkeypatch.setattr(packed_products, "LEAST", 1)
    monkeypatch.setattr(stored_tensors, "PIECE", 96)
    if not can_pack():
        pytest.skip("this torch or this processor has no packed products")


def llama(*, tied: bool, stored: torch.dtype = torch.bfloat16) -> Any:
    """A random Llama in float32, its values as a file in ``stored`` has them."""
    torch.manual_seed(3)
    network = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE, tie_word_embeddings=tied))
    return network.to(stored).float().eval()  # type: ignore[arg-type]


def written(network: Any) -> list[list[int]]:
    """Greedy texts of ``PROMPTS``."""
    found: list[list[int]] = network.generate(
        PROMPTS, attention_mask=torch.ones_like(PROMPTS), max_new_tokens=20, do_sample=False, pad_token_id=0
    ).tolist()
    return found


def plain_bytes(network: Any) -> int:
    """Bytes of the parameters that lie as torch has them."""
    return sum(one.numel() * one.element_size() for one in network.parameters())


@pytest.mark.parametrize("tied", [True, False])
def test_texts_are_those_of_the_network_as_it_was(tied: bool) -> None:
    network = llama(tied=tied)
    expected, before = written(network), network(PROMPTS).logits
    assert pack_language(network)
    assert written(network) == expected
    assert torch.allclose(network(PROMPTS).logits, before, rtol=1e-4, atol=1e-5)
    kinds = [type(one) for one in network.modules()]
    assert torch.nn.Linear not in kinds
    assert kinds.count(PackedLinear) == 2 * 7 + 1
    assert kinds.count(StoredTable) == tied, "a table that is the head as well is kept beside it in 16 bits"


def test_no_matrix_is_left_beside_its_packed_one() -> None:
    network = llama(tied=False)
    matrices = [one.weight for one in network.modules() if isinstance(one, torch.nn.Linear)]
    held = sum(one.numel() * 4 for one in matrices)
    before = plain_bytes(network)
    pack_language(network)
    assert plain_bytes(network) == before - held
    assert network.dtype == torch.float32
    assert network.device.type == "cpu"


def test_a_table_that_sixteen_bits_would_change_is_held_once_and_the_head_with_it() -> None:
    network = llama(tied=True, stored=torch.float32)
    expected = written(network)
    assert pack_language(network)
    assert network.lm_head.weight is network.model.embed_tokens.weight
    assert written(network) == expected


def test_another_type_and_a_processor_without_them_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not pack_language(llama(tied=False).to(torch.bfloat16))
    network = llama(tied=False)
    monkeypatch.setattr(packed_products, "can_pack", lambda: False)
    assert not pack_language(network)
    assert type(network.lm_head) is torch.nn.Linear


KINDS = [("llama", False), ("llama", True), ("qwen2", False), ("gemma2", True), ("bloom", True)]


def opened(folder: Path, network_class: Any = transformers.AutoModelForCausalLM) -> tuple[Any, Any]:
    """A folder read with its matrices packed on the way, and as transformers reads it, packed afterwards."""
    ours, report = load_network(network_class, folder, torch.float32, pack_stored)
    assert not any(report.values())
    theirs = network_class.from_pretrained(folder, dtype=torch.float32)
    for network in (ours, theirs):
        assert pack_language(network)
    return ours, theirs.eval()


@pytest.mark.parametrize(("kind", "tied"), KINDS)
def test_packed_from_the_files_a_network_computes_what_it_does_when_packed_later(
    kind: str, tied: bool, tmp_path: Path
) -> None:
    built = build_text(kind, 300)
    built.config.tie_word_embeddings = tied
    type(built)(built.config).to(torch.bfloat16).save_pretrained(tmp_path, max_shard_size="60KB")
    ours, later = opened(tmp_path)
    with torch.inference_mode():
        assert torch.equal(ours(PROMPTS).logits, later(PROMPTS).logits)
    kinds = [type(one) for one in ours.modules()]
    assert kinds == [type(one) for one in later.modules()]
    assert PackedLinear in kinds
    assert plain_bytes(ours) == plain_bytes(later)


@pytest.mark.parametrize("kind", ["qwen2.5-vl", "qwen3-vl"])
def test_image_networks_are_packed_from_their_files_and_their_towers_are_not(
    kind: str, tmp_path: Path
) -> None:
    built = build_network(kind, build_tokenizer()).to(torch.bfloat16)
    built.save_pretrained(tmp_path)
    ours, theirs = opened(tmp_path, type(built))
    assert written(ours) == written(theirs)
    assert [type(one) for one in ours.modules()] == [type(one) for one in theirs.modules()]
    assert any(isinstance(one, PackedLinear) for one in ours.model.language_model.modules())
    towers = [one.model.visual for one in (built.float(), ours, theirs)]
    assert not any(isinstance(one, PackedLinear) for tower in towers for one in tower.modules())
    tower, *read = [tower.state_dict() for tower in towers]
    assert all(one.keys() == tower.keys() for one in read)
    assert all(torch.equal(one[name], tower[name]) for one in read for name in tower)


@pytest.mark.parametrize("stored", [torch.float16, torch.float32])
def test_other_types_of_files_are_packed_too(stored: torch.dtype, tmp_path: Path) -> None:
    llama(tied=True, stored=stored).to(stored).save_pretrained(tmp_path)
    ours, later = opened(tmp_path)
    assert written(ours) == written(later)


def test_a_file_that_becomes_shorter_while_it_is_read_stops_the_run(tmp_path: Path) -> None:
    llama(tied=False).to(torch.bfloat16).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"

    def cut(network: Any, tensors: Any) -> frozenset[str]:
        os.truncate(path, path.stat().st_size // 2)
        return pack_stored(network, tensors)

    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(StopRun, match="became shorter"):
            load_network(transformers.LlamaForCausalLM, tmp_path, torch.float32, cut)
        assert torch.get_num_threads() == 3, "the readers' own number is not left to the others"
    finally:
        torch.set_num_threads(usual)
