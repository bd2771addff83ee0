"""Outlines of lungs and heart: what they measure of drawn chests, and that they are learned from drawn outlines."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.families.mini.outlines import measure_outlines
from models.networks.mini import load_mini
from models.networks.outlines import CELL, PARTS, OutlineNet
from models.training import fit_outlines
from models.training.fit_outlines import draw, fit, load_beside, overlaps, read_outlines
from models.training.real_sources import Film
from tests.tiny_model import tiny_weights

SIZE = 96


def chest(heart: tuple[int, int], *, size: int = SIZE) -> np.ndarray:
    """Parts [size, size] of a chest from column 8 to 88 of 96, its heart from and to the columns given."""
    parts = np.zeros((96, 96), np.uint8)
    parts[16:80, 8:44] = PARTS.index("right_lung")
    parts[16:80, 52:88] = PARTS.index("left_lung")
    parts[48:80, heart[0] : heart[1]] = PARTS.index("heart")
    return np.array(Image.fromarray(parts).resize((size, size), Image.Resampling.NEAREST))


def logits_of(parts: np.ndarray, cells: int = SIZE // CELL) -> np.ndarray:
    """Logits [1, parts, cells, cells] of a network that is sure of the share of each cell."""
    one_hot = np.eye(len(PARTS))[parts].reshape(cells, CELL, cells, CELL, -1).mean(axis=(1, 3))
    logits: np.ndarray = np.log(one_hot.transpose(2, 0, 1)[None] + 1e-6).astype(np.float32)
    return logits


def film(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((1, SIZE, SIZE)).astype(np.float32)


@pytest.mark.parametrize(("heart", "ratio"), [((36, 64), 28 / 80), ((30, 70), 40 / 80), ((24, 76), 52 / 80)])
def test_the_ratio_is_the_hearts_width_by_the_chests(heart: tuple[int, int], ratio: float) -> None:
    measures = measure_outlines(logits_of(chest(heart)), film())
    assert measures[0, 0] == pytest.approx(ratio, abs=0.02)


def test_both_sides_count_alike() -> None:
    parts, seen = chest((36, 70)), film()
    parts[64:80, 8:20] = 0
    turned = np.array([0, 2, 1, 3])[parts[:, ::-1]]
    given, mirrored = (
        measure_outlines(logits_of(one), pixels)[0]
        for one, pixels in ((parts, seen), (turned, seen[..., ::-1]))
    )
    sided = [4, 5, 6, 7]  # where the heart lies
    keep = np.setdiff1d(np.arange(len(given)), sided)
    np.testing.assert_allclose(given[keep], mirrored[keep], atol=1e-4)
    assert not np.allclose(given[sided], mirrored[sided], atol=1e-2)


def test_a_blunt_angle_and_a_white_zone_are_measured() -> None:
    clear, blunt = chest((36, 64)), chest((36, 64))
    blunt[64:80, 52:88] = 0
    white = film()
    white[:, 48:80, 52:88] += 2
    plain = measure_outlines(logits_of(clear), film())[0]
    for logits, pixels in ((logits_of(blunt), film()), (logits_of(clear), white)):
        told = measure_outlines(logits, pixels)[0]
        assert np.isfinite(told).all()
        assert np.abs(told - plain).max() > 0.2


@pytest.mark.parametrize("level", [0.0, -50.0])
def test_a_film_without_a_chest_has_finite_measures(level: float) -> None:
    logits = np.full((1, len(PARTS), 24, 24), level, np.float32)
    logits[:, 0] = 0
    assert np.isfinite(measure_outlines(logits, np.zeros((1, SIZE, SIZE), np.float32))).all()


def test_a_film_measures_the_same_whatever_is_read_with_it() -> None:
    logits = np.concatenate([logits_of(chest((30 + step, 70))) for step in range(3)])
    films = np.concatenate([film(seed) for seed in range(3)])
    together = measure_outlines(logits, films)
    for place in range(3):
        alone = measure_outlines(logits[place : place + 1], films[place : place + 1])
        np.testing.assert_array_equal(alone[0], together[place])


def test_the_network_reads_any_linear_scale_alike() -> None:
    torch.manual_seed(0)
    network, seen = OutlineNet().eval(), torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        given, scaled = network(seen), network(seen * 7 + 3)
    assert given.shape == (1, len(PARTS), 64 // CELL, 64 // CELL)
    torch.testing.assert_close(given, scaled, atol=2e-2, rtol=0)


@pytest.fixture
def drawn(tmp_path: Path) -> list[Film]:
    """Six films whose lungs are dark and hearts bright, with their outlines beside."""
    for name in ("films", "masks"):
        (tmp_path / name).mkdir()
    films = []
    for number in range(6):
        parts = chest((36 - number, 64 + number), size=256)
        noise = np.random.default_rng(number).normal(0, 8, parts.shape)
        grey = np.array([120, 40, 40, 220])[parts] + noise
        Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(tmp_path / "films" / f"{number}.png")
        Image.fromarray(parts).save(tmp_path / "masks" / f"{number}.png")
        films.append(Film("wingspan", tmp_path / "films" / f"{number}.png", str(number), "PA", ()))
    return films


def test_outlines_are_learned_from_drawn_ones(drawn: list[Film], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(fit_outlines, "TOGETHER", 6)
    pixels, parts = read_outlines(drawn)
    seen, there = draw(pixels, parts, 64, torch.Generator().manual_seed(0))
    assert (seen.shape, there.shape) == ((6, 1, 64, 64), (6, len(PARTS), 16, 16))
    torch.testing.assert_close(there.sum(dim=1), torch.ones(6, 16, 16))
    monkeypatch.setattr(fit_outlines, "MIRRORED", 1.0)
    halves = draw(pixels, parts, 64, torch.Generator().manual_seed(0))[1].reshape(6, len(PARTS), 16, 2, 8)
    right, left = (halves[:, PARTS.index(name)].sum(dim=(0, 1, 3)) for name in ("right_lung", "left_lung"))
    assert right[0] > right[1], "a mirrored film is one whose lungs are named by where they then lie"
    assert left[1] > left[0]
    monkeypatch.undo()
    monkeypatch.setattr(fit_outlines, "TOGETHER", 6)
    before = overlaps(fit(pixels, parts, 64, 1, 0), pixels, parts, 64)
    learned = fit(pixels, parts, 64, 40, 0)
    after = overlaps(learned, pixels, parts, 64)
    assert min(after[part] for part in PARTS[1:]) > 0.6 > max(before[part] for part in PARTS[1:])


def test_weights_of_before_outlines_and_labels_are_taken_and_others_refused(tmp_path: Path) -> None:
    network = load_mini(tiny_weights())
    taken = load_beside(tiny_weights())
    torch.testing.assert_close(dict(taken.named_parameters()), dict(network.named_parameters()))
    earlier = load_mini(tiny_weights())
    del earlier.outlines, earlier.labels
    earlier.save(tmp_path)
    torch.testing.assert_close(load_beside(tmp_path).vision.position, network.vision.position)
    del earlier.heads
    earlier.save(tmp_path)
    with pytest.raises(ValueError, match="not of this network"):
        load_beside(tmp_path)
