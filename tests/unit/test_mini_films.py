"""The rule of real films: what it reads, how its chances become what a draft says, and how it is fitted."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from models.families.mini.films import (
    ABNORMAL,
    FILMS_FILE,
    RULED,
    Certainty,
    FilmRule,
    film_features,
    read_film_rule,
    thumbnail_and_histogram,
)
from models.training.film_readings import Readings
from models.training.fit_films import HALVED, QUALITY, choose_levels, false_share, fit
from models.training.real_sources import Film, held_back
from models.training.within import centre
from pipeline.errors import StopRun

ROWS = len(RULED)


def arrays(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    shapes = {"pooled": (6,), "presence": (2, 3), "thumbnail": (4,), "organs": (3, 4), "landmarks": (8, 2)}
    shapes |= {"cells": (2, 3, 3), "measures": (5,), "labelled": (ROWS,)}
    return {name: generator.normal(size=(count, *shape)).astype(np.float32) for name, shape in shapes.items()}


def rule(features: int) -> FilmRule:
    """Effusion by the first feature alone; nothing else is ever said."""
    weight, levels = np.zeros((ROWS, features), np.float32), np.full((ROWS, 3), 2, np.float32)
    row = RULED.index("pleural_effusion")
    weight[row, 0], levels[row] = 2, (0.2, 0.5, 0.8)
    ones = np.ones(features, np.float32)
    return FilmRule(0 * ones, ones, weight, np.zeros(ROWS, np.float32), np.ones(ROWS, np.float32), levels)


def test_a_rule_reads_each_film_by_its_own_arrays(tmp_path: Path) -> None:
    assert read_film_rule(tmp_path) is None
    films = arrays(5)
    features = film_features(films)
    save_file(rule(features.shape[1]).arrays(), tmp_path / FILMS_FILE)
    held = read_film_rule(tmp_path)
    assert held is not None
    wanted = 1 / (1 + np.exp(-2 * films["pooled"][:, 0]))
    chances = [reading.chances["pleural_effusion"] for reading in held.read(films)]
    np.testing.assert_allclose(chances, np.minimum(wanted, 0.95), rtol=1e-5)
    for place in range(5):
        (alone,) = held.read({name: values[place : place + 1] for name, values in films.items()})
        assert alone == held.read(films)[place], "the same film, the same numbers, whatever is read with it"
    save_file({**held.arrays(), "bias": np.zeros(2, np.float32)}, tmp_path / FILMS_FILE)
    with pytest.raises(StopRun, match="not the rule"):
        read_film_rule(tmp_path)


def test_a_disease_counts_the_same_on_either_side() -> None:
    films = arrays(3)
    turned = {**films, "cells": films["cells"][..., ::-1]}
    np.testing.assert_array_equal(film_features(films), film_features(turned))


@pytest.mark.parametrize(
    ("feature", "certainty"),
    [(-2.0, Certainty.DENIED), (-0.5, Certainty.UNSAID), (0.3, Certainty.POSSIBLE), (2.0, Certainty.STATED)],
)
def test_the_chance_decides_how_a_finding_is_spoken_of(feature: float, certainty: Certainty) -> None:
    films = arrays(1)
    films["pooled"][0, 0] = feature
    (reading,) = rule(film_features(films).shape[1]).read(films)
    assert reading.certainty["pleural_effusion"] is certainty
    assert reading.certainty[ABNORMAL] is Certainty.DENIED
    assert reading.normal == (certainty < Certainty.POSSIBLE)


def readings(seed: int, *, held_back_wrong: bool = False) -> Readings:
    """Films of two collections; effusions show in the first feature, and so does the collection."""
    generator, films = np.random.default_rng(seed), []
    values = arrays(900, seed)
    for place in range(900):
        source = "nih-more" if place % 2 else "nih64"
        sick = bool(generator.random() < 0.3)
        values["pooled"][place, 0] += 2 * sick + 4 * (source == "nih64")
        film = Film(
            source, Path(f"{place}.png"), str(place), "PA", ("Effusion",) if sick else ("No Finding",)
        )
        if held_back_wrong and film.held_back:
            values["pooled"][place] = 9
            film = Film(source, film.path, film.patient, "PA", ("Effusion", "Mass", "Pneumothorax"))
        films.append(film)
    for place in range(0, 900, 7):
        if not films[place].held_back:
            labels = (*films[place].labels, "Mass", "Pneumothorax", "Cardiomegaly", "Consolidation")
            films[place] = Film(films[place].source, films[place].path, str(place), "PA", labels)
    return Readings(films, values)


def test_it_is_learned_inside_collections_from_patients_that_are_not_held_back() -> None:
    learned = readings(0)
    fitted, _ = fit(learned)
    row = RULED.index("pleural_effusion")
    assert fitted.weight[row].argmax() == 0
    again, _ = fit(readings(0, held_back_wrong=True))
    np.testing.assert_allclose(fitted.weight, again.weight, atol=1e-4)
    chances = fitted.chances(learned.arrays)[:, row]
    true, _ = learned.truth("pleural_effusion")
    inside = learned.collections == "nih64"
    assert chances[inside & true].mean() > chances[inside & ~true].mean() + 0.1
    possible = fitted.levels[row, 1]
    fine = learned.collections != "nih64"
    assert (chances[~true & fine & ~learned.held_back] >= possible).mean() <= 0.2


def test_label_networks_say_half_of_the_findings_named_and_nothing_of_others() -> None:
    told = readings(0)
    rule, fitted = fit(told)
    own = rule.weight[:, -ROWS:]
    assert np.array_equal(own != 0, np.diag([finding in HALVED for finding in RULED]))
    one = next(one for one in fitted if one.finding in HALVED)
    place, inside = RULED.index(one.finding), told.collections[one.rows]
    inputs = np.clip((film_features(told.arrays)[one.rows] - rule.mean) / rule.scale, -4, 4)
    halves = inputs[:, :-ROWS] @ rule.weight[place, :-ROWS], inputs[:, -ROWS + place] * own[place, place]
    spread = [centre(half, inside).std() for half in halves]
    # the rule's half was set by its scores over the folds, which spread less than on films that taught it
    assert spread[0] / spread[1] == pytest.approx(1, abs=0.5)


def test_levels_are_those_of_films_that_archives_hold() -> None:
    told = readings(0)
    rule, fitted = fit(told)
    row = RULED.index("pleural_effusion")
    (one,) = (one for one in fitted if one.finding == "pleural_effusion")
    fine = told.collections[one.rows] != "nih64"
    assert np.array_equal(one.fine, fine)
    wanted = choose_levels("pleural_effusion", one.unseen[fine], one.true[fine])
    np.testing.assert_allclose(rule.levels[row], wanted, rtol=1e-6)
    assert rule.levels[row, 1] != pytest.approx(choose_levels("pleural_effusion", one.unseen, one.true)[1])


def test_films_wrongly_claimed_are_told_from_those_that_lack_a_label() -> None:
    """Of 1000 films 200 have it and half of these are labelled; a claim hits 60 % of them, 5 % of the others."""
    precision, recall = 1.0, 0.5
    labelled = 0.6
    unlabelled = (100 * 0.6 + 800 * 0.05) / 900
    before = QUALITY.get("pneumothorax")
    QUALITY["pneumothorax"] = (precision, recall)
    try:
        assert false_share(labelled, unlabelled, "pneumothorax", 0.1) == pytest.approx(0.05)
    finally:
        QUALITY["pneumothorax"] = before or (1.0, 1.0)
    assert false_share(0.6, 0.1, "consolidation", 0.1) == pytest.approx(0.1), "nothing is known of its labels"


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
    film = Film("hannover", Path("a.jpg"), "mhh-024e7871", "AP", ())
    other = Film("hannover", Path("b.jpg"), "mhh-024e7871", "PA", ())
    assert (film.held_back, film.fold(5)) == (other.held_back, other.fold(5))
