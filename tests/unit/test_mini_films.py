"""The rule fitted to real labelled films: what it reads, and that a label is learned within a source."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from models.families.mini_films import FILMS_FILE, LABELS, film_features, read_film_rule
from models.training.fit_films import Collection, fit, fit_rule
from models.training.real_films import held_back
from pipeline.errors import StopRun


def arrays(count: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = {"pooled": (6,), "presence": (2, 3), "tokens": (9, 4)}
    return {name: generator.normal(size=(count, *shape)).astype(np.float32) for name, shape in shapes.items()}


def test_a_rule_scores_each_film_by_its_own_arrays(tmp_path: Path) -> None:
    assert read_film_rule(tmp_path) is None
    films = arrays(5)
    features = film_features(films, slots=4)
    assert features.shape == (5, 6 + 6 + 16)
    weight = np.zeros((len(LABELS), features.shape[1]), np.float32)
    weight[0, 0], weight[2, -1] = 2, -1
    save_file({"weight": weight, "bias": np.array([0, 1, 0], np.float32)}, tmp_path / FILMS_FILE)
    rule = read_film_rule(tmp_path)
    assert rule is not None
    scores = rule.scores(films, 4)
    wanted = 1 / (1 + np.exp(-2 * films["pooled"][:, 0]))
    np.testing.assert_allclose([score["pleural_effusion"] for score in scores], wanted, rtol=1e-5)
    np.testing.assert_allclose([score["cardiomegaly"] for score in scores], 1 / (1 + np.exp(-1)), rtol=1e-5)
    save_file({"weight": weight[:2], "bias": np.zeros(3, np.float32)}, tmp_path / FILMS_FILE)
    with pytest.raises(StopRun, match="not the rule"):
        read_film_rule(tmp_path)


def collection(generator: np.random.Generator, shift: float, share: float) -> Collection:
    """Films whose first feature tells the labels, and whose second tells only where they come from."""
    count = 400
    labels = (generator.random((count, len(LABELS))) < share).astype(np.float32)
    features = generator.normal(size=(count, 5)).astype(np.float32)
    features[:, 0] += 3 * labels[:, 0]
    features[:, 1] = shift + 0.01 * generator.normal(size=count)
    return Collection(features, labels, np.arange(count))


def test_what_tells_sources_apart_is_not_learned() -> None:
    generator = np.random.default_rng(0)
    weight, bias, areas = fit({"nih": collection(generator, 0, 0.2), "nih64": collection(generator, 5, 0.7)})
    assert weight.shape == (len(LABELS), 5)
    assert bias.shape == (len(LABELS),)
    assert min(areas[name]["pleural_effusion"] or 0 for name in areas) > 0.9
    assert (areas["nih"]["cardiomegaly"] or 1) < 0.7
    assert abs(float(weight[0, 1]) * 0.01) < 0.2 * abs(float(weight[0, 0]))


def test_a_stronger_rule_has_smaller_weights() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(60, 8)).astype(np.float32)
    target = (features[:, 0] > 0).astype(np.float32)
    soft, hard = (np.abs(fit_rule(features, target, strength)[0]).sum() for strength in (0.01, 1.0))
    assert hard < 0.5 * soft


def test_a_patient_is_held_back_whatever_the_film() -> None:
    held = [held_back(patient) for patient in range(5000)]
    assert 0.27 < np.mean(held) < 0.33
    assert held == [held_back(patient) for patient in range(5000)]
