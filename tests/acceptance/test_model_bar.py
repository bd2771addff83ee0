"""The shipped weights on a few dozen studies they never saw; ``models.training.evaluate`` measures the full bars."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.networks.heads import box_overlap
from models.networks.mini import WEIGHTS_FILE, FirstreadMini, load_mini, load_tokenizer
from models.simulation.task_texts import prompt_text
from models.training.answering import Ask, Asker
from models.training.evaluate import WEIGHTS
from models.training.measure import Examiner
from models.training.scoring import score_reports
from models.training.shards import Sample
from models.training.unseen import unseen_studies

STUDIES = 50
SHIPPED_BYTES = 45_000_000


@pytest.fixture(scope="module")
def network() -> FirstreadMini:
    torch.set_num_threads(1)
    return load_mini(WEIGHTS)


@pytest.fixture(scope="module")
def samples(network: FirstreadMini) -> list[Sample]:
    return unseen_studies(STUDIES, network.config.vision.image_size)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_drafts_state_what_is_on_the_film_and_depend_on_it(
    network: FirstreadMini, samples: list[Sample], language: str
) -> None:
    texts, facts = Examiner(network, load_tokenizer(WEIGHTS), samples).drafts(language, "frontal")
    score = score_reports(texts, facts)
    assert score.readable == 1.0
    assert score.macro_f1 >= 0.80
    assert score.side_of_found >= 0.95
    assert score.normal_as_normal >= 0.80
    assert score_reports(texts[1:] + texts[:1], facts).macro_f1 <= 0.35


def test_a_blank_film_and_a_film_of_noise_still_give_a_readable_draft(network: FirstreadMini) -> None:
    size = network.config.vision.image_size
    noise = np.random.default_rng(0).random((size, size), dtype=np.float32)
    asker = Asker(network, load_tokenizer(WEIGHTS), np.stack([np.zeros_like(noise), noise])[:, None])
    texts = asker.answer([Ask(study, prompt_text("report", "en")) for study in (0, 1)])
    assert all(text.startswith("Findings: ") for text in texts)


def test_boxes_and_landmarks_lie_where_they_belong(network: FirstreadMini, samples: list[Sample]) -> None:
    pixels = torch.from_numpy(np.stack([sample.images[0] for sample in samples]))[:, None].float() / 255
    with torch.no_grad():
        heads = network.read(pixels).heads
    boxes = torch.from_numpy(np.stack([sample.boxes for sample in samples])).flatten(1, 2)
    overlap = box_overlap(heads.boxes, boxes)[boxes[..., 0] >= 0]
    assert float((overlap >= 0.5).float().mean()) >= 0.7
    points = torch.from_numpy(np.stack([sample.landmarks for sample in samples]))
    apart = (heads.landmarks - points).norm(dim=-1)[points[..., 0] >= 0]
    assert float((apart <= 0.05).float().mean()) >= 0.8


def test_the_folder_is_small_and_its_card_tells_the_figures() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) <= SHIPPED_BYTES
    card = (WEIGHTS / "MODEL_CARD.md").read_text()
    measured = json.loads(next(line for line in card.splitlines() if line.startswith('{"simulated"')))
    for name in measured["bars_missed"]:
        assert name in card.replace(json.dumps(measured), ""), "the card says in words which bars are missed"
    assert (Path(WEIGHTS) / WEIGHTS_FILE).exists()
