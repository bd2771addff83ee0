"""Training a tiny Uni-Med: the loss falls, the tower stays, and a stopped run goes on as if it had not been."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from models.networks.uni_med import ADAPTER_FOLDER, WEIGHTS_FILE, load_encoder
from models.networks.uni_med_language import load_language
from models.training.train_uni_med import CHECKPOINT, UniMedTrainer, UniMedTrainingPlan
from models.training.uni_med_data import UniMedSample, choose_batch, read_samples
from pipeline.errors import ConfigurationError
from tests.tiny_uni_med import write_uni_med

PLAN = UniMedTrainingPlan(
    steps=24, batch=4, rate=0.02, last_rate=0.002, warm_up=2, seed=1, checkpoint_every=1000
)
LINES: tuple[dict[str, str], ...] = (
    {"image": "dark.png", "task": "vqa", "question": "Is it bright?", "answer": "no"},
    {"image": "bright.png", "task": "vqa", "question": "Is it bright?", "answer": "yes"},
    {"image": "bright.png", "task": "refer", "question": "heart", "answer": "{<10><20><30><40>}"},
    {"task": "qa", "question": "What is an effusion?", "answer": "Fluid."},
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_uni_med(tmp_path_factory.mktemp("uni-med"), adapter=False)
    for name, value in (("dark", 20), ("bright", 220)):
        Image.fromarray(np.full((64, 48), value, np.uint8)).save(folder / f"{name}.png")
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return folder


def test_the_loss_falls_and_the_tower_stays(model: Path, tmp_path: Path) -> None:
    samples = read_samples(model / "samples.jsonl")
    trainer = UniMedTrainer(model, tmp_path, PLAN)
    losses = trainer.train(samples)
    assert np.mean(losses[-4:]) < 0.5 * np.mean(losses[:2])
    trainer.save()
    before, after = load_file(model / WEIGHTS_FILE), load_file(tmp_path / WEIGHTS_FILE)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("connector.") for name in changed)
    encoder = load_encoder(tmp_path)
    network, tokenizer = load_language(tmp_path)
    assert encoder.config == trainer.config
    assert (tmp_path / ADAPTER_FOLDER).is_dir()
    merged = network.model.layers[0].mlp.up_proj.weight
    base = load_file(model / "language" / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    assert not torch.equal(merged, base)
    assert tokenizer.eos_token == "</s>"


def test_a_stopped_run_goes_on_with_the_same_numbers(model: Path, tmp_path: Path) -> None:
    samples = read_samples(model / "samples.jsonl")
    whole = UniMedTrainer(model, tmp_path / "whole", PLAN).train(samples, until=8)
    first = UniMedTrainer(model, tmp_path / "parts", PLAN)
    begun = first.train(samples, until=4)
    first.checkpoint()
    second = UniMedTrainer(model, tmp_path / "parts", PLAN)
    assert second.step == 4
    assert begun + second.train(samples, until=8) == whole
    with pytest.raises(ConfigurationError, match="another plan"):
        UniMedTrainer(model, tmp_path / "parts", replace(PLAN, rate=0.5))
    assert not list((tmp_path / "parts").glob(f"{CHECKPOINT}.part"))


def test_a_long_sample_is_refused_not_clipped(model: Path, tmp_path: Path) -> None:
    long = UniMedSample(None, "qa", "why " * 200, "x")
    with pytest.raises(ConfigurationError, match="nothing is clipped"):
        UniMedTrainer(model, tmp_path, PLAN).train([long], until=1)


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        '{"task": "vqa", "question": "x", "answer": "y"}',
        '{"image": "a.png", "task": "qa", "question": "x", "answer": "y"}',
        '{"image": "a.png", "task": "draw", "question": "x", "answer": "y"}',
        '{"image": "a.png", "task": "vqa", "question": "x", "answer": ""}',
        '{"image": "a.png", "task": "vqa", "question": "x", "answer": "y", "note": 1}',
    ],
)
def test_a_line_that_is_no_sample_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(f'{{"task": "qa", "question": "x", "answer": "y"}}\n{line}\n')
    with pytest.raises(ConfigurationError, match="line 2"):
        read_samples(path)


def test_every_epoch_sees_every_sample_once_in_an_order_of_its_own() -> None:
    samples = [UniMedSample(None, "qa", str(number), "x") for number in range(6)]
    steps = [choose_batch(samples, 0, step, 3) for step in range(4)]
    first, second = steps[0] + steps[1], steps[2] + steps[3]
    assert sorted(one.question for one in first) == sorted(one.question for one in second) == list("012345")
    assert first != second


def test_the_rate_rises_and_falls() -> None:
    plan = UniMedTrainingPlan(steps=100, rate=1.0, last_rate=0.0, warm_up=10)
    rates = [plan.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
