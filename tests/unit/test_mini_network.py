from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from models.networks.heads import NumberTables, box_overlap, number_embedding
from models.networks.mini import (
    EOS_ID,
    WEIGHTS_FILE,
    FirstreadMini,
    LanguageConfig,
    MiniConfig,
    load_mini,
    prompt_ids,
)
from models.networks.vision import VisionConfig
from models.simulation.study import render_study
from models.training.batches import Batch, Texts
from models.training.copying import begin_copying
from models.training.losses import How, answer_loss, batch_losses, joined_rows, read_films
from models.training.shards import save_shard, shard_path, to_sample
from models.training.store import FilmStore
from models.training.tokenizer import build_tokenizer
from models.training.writing import Writer, WritingOrder, number_token
from models.vocabulary.english import every_sentence, join_sections
from models.vocabulary.task_words import LANGUAGES, TASKS

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
    assert embeddings.shape == (3, SMALL.film_tokens, 16) == (3, 14 + 4 + 3 + 8, 16)
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
        "heads",
        "joiner",
        "language",
        "outlines",
        "labels",
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


def joined(network: FirstreadMini, **given: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(1)
    read = network.read(torch.rand(1, 1, 64, 64)).out
    plain = {
        "side": torch.zeros(1, 7, 3),
        "sided": torch.zeros(1),
        "before": torch.zeros_like(read.state),
        "compared": torch.zeros(1),
        "box": torch.tensor([[0.2, 0.2, 0.5, 0.6]]),
    }
    film, region = network.joiner(read, network.task_index("report", 1), *{**plain, **given}.values())
    return torch.cat([film, region], dim=1)


def test_a_lateral_and_a_prior_film_count_only_where_they_are_given() -> None:
    network = small()
    plain, side, before = joined(network), torch.randn(1, 7, 3), torch.randn(1, 14, 48)
    assert torch.equal(plain, joined(network, side=side))
    assert torch.equal(plain, joined(network, before=before))
    one = torch.ones(1)
    for changed in (joined(network, side=side, sided=one), joined(network, before=before, compared=one)):
        assert not torch.equal(plain[:, :14], changed[:, :14])
        assert torch.equal(plain[:, 14:], changed[:, 14:])


def test_the_region_token_alone_depends_on_the_asked_box() -> None:
    network = small()
    plain, other = joined(network), joined(network, box=torch.tensor([[0.5, 0.1, 0.9, 0.4]]))
    assert torch.equal(plain[:, :-1], other[:, :-1])
    assert not torch.allclose(plain[:, -1], other[:, -1])


def test_near_numbers_are_alike() -> None:
    torch.manual_seed(0)
    tables = NumberTables(32)
    places = tables(torch.tensor([[0.30, 0.4], [0.31, 0.4], [0.90, 0.4]]))
    assert (places[0] - places[1]).norm() < 0.5 * (places[0] - places[2]).norm()


def test_overlap_of_boxes() -> None:
    box = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5], [0.6, 0.6, 0.7, 0.7]])
    other = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.25, 0.0, 0.75, 0.5], [0.0, 0.0, 0.5, 0.5]])
    torch.testing.assert_close(box_overlap(box, other), torch.tensor([1.0, 1 / 3, 0.0]), atol=1e-4, rtol=0)


def test_prompts_name_task_and_language() -> None:
    assert len({prompt_ids(task, language) for task in TASKS for language in LANGUAGES}) == 20
    with pytest.raises(ValueError, match="only"):
        prompt_ids("segment")
    with pytest.raises(ValueError, match="only"):
        prompt_ids("report", "de")


def test_tokenizer_gives_back_every_report(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    fast = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for sentence in every_sentence():
        report = join_sections(sentence, sentence)
        ids = tokenizer.encode(report).ids
        assert tokenizer.decode(ids) == report == fast.decode(ids)
    assert prompt_ids("report") == tuple(tokenizer.token_to_id(token) for token in ("<report>", "<en>"))


def test_the_last_layer_begins_able_to_copy_coordinates() -> None:
    torch.manual_seed(0)
    wide = replace(
        SMALL,
        language=replace(SMALL.language, width=128, layers=2, heads=4),
        vision=replace(SMALL.vision, token_width=32),
    )
    network, tokenizer = FirstreadMini(wide).eval(), build_tokenizer()
    first = number_token(tokenizer)
    with torch.no_grad():
        network.language.model.embed_tokens.weight[first : first + 101] = number_embedding(128)
        network.joiner.numbers.tables.mul_(5)
    near = begin_copying(network, torch.rand(24, 1, 64, 64), first)
    assert len(near) == 4
    assert min(near) > 0.8


def draw_batch(folder: Path, order: WritingOrder) -> Batch:
    """One batch of ``order`` over the shards in ``folder``."""
    writer = Writer(order, build_tokenizer())
    assert writer.refresh()
    drawn = writer.batch()
    films = FilmStore(order.folders, "cpu", 0).films(drawn.studies)
    return Batch(films, Texts.from_arrays(drawn.texts, "cpu"))


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    folder = tmp_path_factory.mktemp("shards")
    studies = [render_study(seed, size=64, lateral=seed % 2 == 0, prior=seed % 3 == 0) for seed in range(12)]
    save_shard(shard_path(folder, 0), [to_sample(study) for study in studies])
    return draw_batch(folder, WritingOrder((folder, folder / "none"), 12, 0.5, 36, 0))


def test_a_batch_holds_what_the_studies_show(batch: Batch) -> None:
    films, texts = batch.films, batch.texts
    assert len(films.frontal) == 12
    assert len(films.lateral) == len(films.lateral_heat) == 6
    assert len(films.prior) == 4
    assert (films.change[films.prior_of] >= 0).any()
    assert (films.heat.flatten(2).amax(dim=-1) == films.presence[..., 0]).all()
    assert (texts.length.diff() >= 0).all()
    assert sum(len(group.study) for group in texts.groups(3)) == 36
    assert (texts.ids[torch.arange(36), texts.length - 1] == EOS_ID).all()


def test_every_loss_reaches_the_part_it_teaches(batch: Batch) -> None:
    network, first = small().train(), number_token(build_tokenizer())
    losses = batch_losses(network, batch, How(first))
    taught: dict[str, torch.Tensor] = {
        "words": network.joiner.connector.expert_in,
        "heat": network.vision.heat.weight,
        "presence": network.vision.slots.geometry.weight,
        "grade": network.heads.severity.weight,
        "box": network.heads.box.weight,
        "place": network.heads.place_shift.weight,
        "change": next(network.joiner.change.parameters()),
    }
    assert set(taught) == set(losses._fields)
    for name, part in taught.items():
        (gradient,) = torch.autograd.grad(getattr(losses, name), [part], retain_graph=True)
        assert gradient.abs().sum() > 0, name
    still = batch_losses(network, batch, How(first, tower_learns=False))
    (gradient,) = torch.autograd.grad(
        still.heat + still.words, [network.heads.region.weight], allow_unused=True
    )
    assert gradient is not None
    with pytest.raises(RuntimeError):
        torch.autograd.grad(still.heat, [network.vision.heat.weight])


def test_texts_beside_it_do_not_change_a_texts_loss(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.training.losses.KNOWN_SHARE", 0.0)
    network, how = small().eval(), How(number_token(build_tokenizer()))
    with torch.no_grad():
        whole = batch_losses(network, batch, how).words
        single = batch.texts.groups(len(batch.texts.study))
        read = read_films(network, batch.films, how)
        sums = torch.stack(
            [answer_loss(network, joined_rows(network, read, batch.films, t), t, how) for t in single]
        )
        total, counted = sums.sum(dim=0)
        torch.testing.assert_close(total / counted, whole)
        for text, (loss, _) in zip(single, sums, strict=True):
            if int(text.task) == TASKS.index("vqa"):
                joined = joined_rows(network, read, batch.films, text)
                ids = text.ids[0, : int(text.length)]
                logits = network.text_logits(joined.film, ids[None, :-1])[0, int(text.prompt) - 1 :]
                plain = torch.nn.functional.cross_entropy(logits, ids[int(text.prompt) :], reduction="sum")
                torch.testing.assert_close(2 * plain, loss)
