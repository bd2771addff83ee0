"""Learning and ranking inside collections: what tells the collections apart teaches and counts nothing."""

import numpy as np
import pytest

from models.training.within import Design, fit_within, rank_interval, rank_within, share_interval


def films(count: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, target and collection: feature 0 tells the collection, feature 1 the target; one has more of it."""
    generator = np.random.default_rng(0)
    collections = np.array(["a", "b"])[generator.integers(0, 2, count)]
    target = generator.random(count) < np.where(collections == "a", 0.6, 0.1)
    inputs = generator.normal(size=(count, 4)) * 0.3
    inputs[:, 0] += collections == "a"
    inputs[:, 1] += 0.5 * target
    return inputs, target, collections


def test_what_tells_the_collection_gets_no_weight() -> None:
    inputs, target, collections = films()
    (rule,) = fit_within(inputs, target[None], collections, np.arange(len(target)) % 5)
    assert abs(rule.weights[0]) < 0.1 * rule.weights[1]
    assert (rank_within(rule.unseen, target, collections) or 0) > 0.8
    assert (rank_within(inputs[:, 0], target, collections) or 0) < 0.6, (
        "though it tells the target over all films"
    )


def test_ridge_in_its_dual_form_is_ridge() -> None:
    inputs, target, collections = films(80)
    centred = inputs - np.stack([inputs[collections == one].mean(axis=0) for one in collections])
    wanted = target - np.array([target[collections == one].mean() for one in collections])
    plain = np.linalg.solve(centred.T @ centred + 2 * np.eye(4), centred.T @ wanted)
    np.testing.assert_allclose(Design.of(inputs, collections).weights(target, 2.0), plain, rtol=1e-6)


def test_ranks_of_a_case_counted_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.1, 0.7, 0.2, 0.3, 0.3])
    target = np.array([True, False, True, True, False, False, False])
    every = np.full(7, "a")
    pairs = [1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1]
    assert rank_within(scores, target, every) == pytest.approx(sum(pairs) / 12)
    assert rank_within(np.ones(7), target, every) == 0.5
    assert rank_within(scores, target, np.array(list("abcdefg"))) is None


def test_the_interval_holds_the_value_and_the_difference() -> None:
    inputs, target, collections = films()
    patients = np.array([str(place // 2) for place in range(len(target))])
    good, poor, apart = rank_interval([inputs[:, 1], inputs[:, 2]], target, collections, patients)
    assert good[0] < (rank_within(inputs[:, 1], target, collections) or 0) < good[1]
    assert poor[0] < 0.5 < poor[1]
    assert apart[0] > 0


def test_a_share_is_as_sure_as_its_patients_are_many() -> None:
    """Two hundred films, half of them claimed: of two hundred patients, and of four with fifty films each."""
    said = np.arange(200) % 2 == 0
    low, high = share_interval(said, np.arange(200).astype(str)) or (0.0, 0.0)
    assert low == pytest.approx(0.5 - 1.96 * (0.25 / 200) ** 0.5, abs=0.02)
    assert high == pytest.approx(0.5 + 1.96 * (0.25 / 200) ** 0.5, abs=0.02)
    by_patient = np.repeat([True, False, True, False], 50)
    few = share_interval(by_patient, np.repeat(np.arange(4), 50).astype(str)) or (0.5, 0.5)
    assert few[1] - few[0] > 5 * (high - low)
    assert share_interval(said[:5], np.zeros(5).astype(str)) is None


def test_collections_held_alike_score_alike_and_are_ranked_as_before() -> None:
    """One feature tells the finding a little and the collection a lot, another the finding alone."""
    generator = np.random.default_rng(0)
    target, second = generator.random(600) < 0.3, np.arange(600) % 2 == 1
    collections = np.where(second, "b", "a").astype(np.str_)
    inputs = generator.normal(size=(600, 2)) + np.stack([0.5 * target + 4 * second, 1.0 * target], axis=1)
    plain, held = (
        fit_within(inputs, target[None], collections, np.arange(600) % 5, alike)[0] for alike in (0.0, 40.0)
    )

    def apart(scores: np.ndarray) -> float:
        return float(abs(scores[second].mean() - scores[~second].mean()) / scores[second].std())

    assert apart(plain.unseen) > 1 > 0.1 > apart(held.unseen)
    before, after = (rank_within(one.unseen, target, collections) or 0 for one in (plain, held))
    assert after > before - 0.05 > 0.6
