from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from models.networks.mini import (
    EOS_ID,
    WEIGHTS_FILE,
    FirstreadMini,
    LanguageConfig,
    MiniConfig,
    load_mini,
    prompt_ids,
)
from models.networks.tokenizer import build_tokenizer
from models.networks.vision import VisionConfig
from models.simulation.film import render
from models.simulation.phrases import every_sentence, join_sections
from models.training.batches import BatchSource
from models.training.losses import GradeHead, batch_losses
from models.training.shards import Pool, save_shard, to_sample

SMALL = MiniConfig(
    vision=VisionConfig(image_size=64, widths=(4, 8, 8, 8), token_width=16, layers=1, heads=2),
    language=LanguageConfig(
        vocabulary=build_tokenizer().get_vocab_size(), width=16, layers=1, heads=2, feed_forward=24
    ),
    expert_hidden=16,
    router_hidden=4,
    max_new_tokens=9,
)


def small() -> FirstreadMini:
    torch.manual_seed(0)
    return FirstreadMini(SMALL).eval()


def test_config_travels_through_json() -> None:
    changed = replace(SMALL, num_experts=5)
    assert MiniConfig.from_json(changed.to_json()) == changed
    with pytest.raises(ValueError, match="firstread-mini"):
        MiniConfig.from_json("{}")
    with pytest.raises(TypeError):
        MiniConfig.from_json(changed.to_json().replace('"num_experts"', '"experts"'))


def test_shapes_are_as_documented() -> None:
    network = small()
    embeddings, seen = network.encode(torch.rand(3, 1, 64, 64), network.task_index("report", 3))
    assert embeddings.shape == (3, SMALL.vision.token_count, 16) == (3, 18, 16)
    assert seen.tokens.shape == (3, 18, 16)
    assert seen.heat.shape == (3, 7, 8, 8)
    assert seen.presence.shape == (3, 7, 3)


def test_brightness_and_contrast_do_not_matter() -> None:
    network, pixels = small(), torch.rand(2, 1, 64, 64)
    plain, changed = network.vision(pixels), network.vision(pixels * 0.5 + 0.2)
    torch.testing.assert_close(plain.presence, changed.presence, atol=0.02, rtol=0.02)


def test_saved_weights_give_the_same_network(tmp_path: Path) -> None:
    network, pixels = small(), torch.rand(2, 1, 64, 64)
    network.save(tmp_path)
    again = load_mini(tmp_path)
    task = network.task_index("findings", 2)
    assert torch.equal(network.encode(pixels, task)[0], again.encode(pixels, task)[0])
    assert {key.split(".")[0] for key in load_file(tmp_path / WEIGHTS_FILE)} == {
        "vision",
        "connector",
        "language",
    }


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    small().save(tmp_path)
    weights = load_file(tmp_path / WEIGHTS_FILE)
    del weights["vision.heat.bias"]
    save_file(weights, tmp_path / WEIGHTS_FILE)
    with pytest.raises(RuntimeError, match=r"vision\.heat\.bias"):
        load_mini(tmp_path)


def test_greedy_writing_follows_the_logits() -> None:
    network = small()
    embeddings, _ = network.encode(torch.rand(3, 1, 64, 64), network.task_index("report", 3))
    texts = network.write(embeddings, prompt_ids())
    for row, text in enumerate(texts):
        ids = list(prompt_ids())
        for token in [*text, None]:
            logits = network.text_logits(embeddings[row : row + 1], torch.tensor([ids]))[0, -1]
            if token is None:
                assert len(text) == SMALL.max_new_tokens or int(logits.argmax()) == EOS_ID
            else:
                assert int(logits.argmax()) == token
                ids.append(token)


def test_several_images_are_joined_tokens() -> None:
    network = small()
    embeddings, _ = network.encode(torch.rand(2, 1, 64, 64), network.task_index("report", 2))
    assert len(network.write(embeddings.flatten(0, 1)[None], prompt_ids())) == 1


def test_prompts_name_task_and_language() -> None:
    assert len({prompt_ids(task) for task in ("report", "findings", "impression")}) == 3
    with pytest.raises(ValueError, match="only"):
        prompt_ids("vqa")
    with pytest.raises(ValueError, match="only"):
        prompt_ids("report", "zh")


def test_tokenizer_gives_back_every_report(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    fast = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for sentence in every_sentence():
        report = join_sections(sentence, sentence)
        ids = tokenizer.encode(report).ids
        assert tokenizer.decode(ids) == report == fast.decode(ids)
    assert prompt_ids("report") == tuple(tokenizer.token_to_id(token) for token in ("<report>", "<en>"))


def test_every_loss_reaches_the_part_it_teaches(tmp_path: Path) -> None:
    save_shard(tmp_path / "0.npz", [to_sample(render(seed, size=64)) for seed in range(8)])
    pools = (Pool(tmp_path, 0), Pool(tmp_path / "none", 0))
    batch = BatchSource(pools, 0.5, 4, build_tokenizer(), 0).next()
    network = small().train()
    words, heat, presence, grade = batch_losses(network, GradeHead(16), batch, 1.0)
    for loss, part in ((words, network.connector.expert_in), (heat, network.vision.heat.weight)):
        (gradient,) = torch.autograd.grad(loss, [part], retain_graph=True)
        assert gradient.abs().sum() > 0
    for loss in (presence, grade):
        (gradient,) = torch.autograd.grad(loss, [network.vision.slots.geometry.weight], retain_graph=True)
        assert gradient.abs().sum() > 0
