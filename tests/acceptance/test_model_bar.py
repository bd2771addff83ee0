"""The shipped weights on a few dozen films they never saw; ``models.training.evaluate`` measures the full bars."""

import json
from pathlib import Path

import pytest
import torch

from models.networks.mini import WEIGHTS_FILE, FirstreadMini, load_mini, load_tokenizer
from models.simulation.film import render
from models.training.evaluate import WEIGHTS, draft, evaluate_simulated

STUDIES = 64
SHIPPED_BYTES = 60_000_000


@pytest.fixture(scope="module")
def network() -> FirstreadMini:
    return load_mini(WEIGHTS)


def test_drafts_state_what_is_on_the_film_and_depend_on_it(network: FirstreadMini) -> None:
    score, shuffled = evaluate_simulated(network, load_tokenizer(WEIGHTS), STUDIES)
    assert score.readable == 1.0
    assert score.macro_f1 >= 0.80
    assert score.side_of_found >= 0.95
    assert score.normal_as_normal >= 0.80
    assert shuffled.macro_f1 <= 0.35


def test_a_blank_film_and_a_film_of_noise_still_give_a_readable_draft(network: FirstreadMini) -> None:
    size = network.config.vision.image_size
    films = torch.stack(
        [torch.zeros(size, size), torch.rand(size, size, generator=torch.Generator().manual_seed(0))]
    )
    texts = draft(network, load_tokenizer(WEIGHTS), films.numpy()).texts
    assert all(text.startswith("Findings: ") for text in texts)


def test_regions_lie_where_the_finding_is(network: FirstreadMini) -> None:
    size = network.config.vision.image_size
    inside = 0
    for seed in range(16):
        film = render(seed, size=size, kinds=("pacemaker",), held_out=True)
        pixels = torch.from_numpy(film.pixels / 4095.0).float()[None, None]
        with torch.no_grad():
            heat = network.vision(pixels).heat[0, network.config.kinds.index("pacemaker")]
        row, column = divmod(int(heat.argmax()), heat.shape[-1])
        x1, y1, x2, y2 = film.findings[0].box
        inside += x1 <= column * 8 + 7 and column * 8 <= x2 and y1 <= row * 8 + 7 and row * 8 <= y2
    assert inside >= 15


def test_the_folder_is_small_and_its_card_tells_the_figures() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) <= SHIPPED_BYTES
    card = (WEIGHTS / "MODEL_CARD.md").read_text()
    measured = json.loads(next(line for line in card.splitlines() if line.startswith('{"simulated"')))
    assert measured["bars_missed"] == []
    assert (Path(WEIGHTS) / WEIGHTS_FILE).exists()
