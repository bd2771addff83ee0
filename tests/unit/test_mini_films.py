"""The rule fitted to real labelled films: what it reads, and that a label is learned within a source."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from models.families.mini.films import (
    FILMS_FILE,
    LABELS,
    film_features,
    read_film_rule,
    thumbnail_and_histogram,
)
from models.training.fit_films import Collection, fit
from models.training.real_films import held_back
from pipeline.errors import StopRun


def arrays(count: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = {"pooled": (6,), "presence": (2, 3), "thumbnail": (4,)}
    return {name: generator.normal(size=(count, *shape)).astype(np.float32) for name, shape in shapes.items()}


def test_a_rule_scores_each_film_by_its_own_arrays(tmp_path: Path) -> None:
    assert read_film_rule(tmp_path) is None
    films = arrays(5)
    features = film_features(films)
    assert features.shape == (5, 6 + 6 + 4)
    weight = np.zeros((len(LABELS), features.shape[1]), np.float32)
    weight[0, 0], weight[2, -1] = 2, -1
    save_file({"weight": weight, "bias": np.array([0, 1, 0], np.float32)}, tmp_path / FILMS_FILE)
    rule = read_film_rule(tmp_path)
    assert rule is not None
    scores = rule.scores(films)
    wanted = 1 / (1 + np.exp(-2 * films["pooled"][:, 0]))
    np.testing.assert_allclose([score["pleural_effusion"] for score in scores], wanted, rtol=1e-5)
    np.testing.assert_allclose([score["cardiomegaly"] for score in scores], 1 / (1 + np.exp(-1)), rtol=1e-5)
    save_file({"weight": weight[:2], "bias": np.zeros(3, np.float32)}, tmp_path / FILMS_FILE)
    with pytest.raises(StopRun, match="not the rule"):
        read_film_rule(tmp_path)


def collection(generator: np.random.Generator) -> Collection:
    """Films whose first feature tells the first label."""
    labels = generator.random((400, len(LABELS))) < 0.3
    features = generator.normal(size=(400, 5)).astype(np.float32)
    features[:, 0] += 3 * labels[:, 0]
    return Collection(features, labels, np.arange(400))


def test_a_label_is_learned_from_films_that_are_not_held_back() -> None:
    generator = np.random.default_rng(0)
    films = {"nih": collection(generator), "nih64": collection(generator)}
    weight, bias, areas = fit(films)
    assert min(areas[name]["pleural_effusion"] or 0 for name in areas) > 0.9
    assert (areas["nih"]["cardiomegaly"] or 1) < 0.7
    scores = films["nih"].features @ weight[0] + bias[0]
    assert ((scores > 0) == films["nih"].labels[:, 0]).mean() > 0.8
    for one in films.values():
        one.features[one.held] = 0
        one.labels[one.held] = True
    again, _, _ = fit(films)
    np.testing.assert_allclose(weight, again, atol=1e-4)


def test_a_thumbnail_and_a_histogram_of_a_film() -> None:
    film = np.zeros((1, 64, 64), np.float32)
    film[0, :8, :8] = 0.99
    seen = thumbnail_and_histogram(film)
    assert seen.shape == (1, 96)
    assert seen[0, 0] == pytest.approx(0.99)
    assert seen[0, 1:64].max() == 0
    assert seen[0, 64] == pytest.approx(10 * 63 / 64)


def test_a_patient_is_held_back_whatever_the_film() -> None:
    held = [held_back(patient) for patient in range(5000)]
    assert 0.27 < np.mean(held) < 0.33
    assert held == [held_back(patient) for patient in range(5000)]
