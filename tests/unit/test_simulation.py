import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.simulation.film import MAX_VALUE, render
from models.simulation.lesions import DRAW, LEFT, RIGHT, Chest
from models.simulation.maps import HELD_OUT_POSES, edge_distance, load_pose, pose_count
from models.simulation.study import SimulatedStudy, render_study
from models.training.shards import (
    load_facts,
    load_shard,
    read_facts,
    save_shard,
    shard_files,
    study_facts,
    to_sample,
)
from models.vocabulary.english import KINDS, write_sections
from models.vocabulary.task_words import LANDMARKS, ORGANS

SIZE = 192


def test_a_seed_fixes_the_film() -> None:
    first, second = render(5, size=SIZE), render(5, size=SIZE)
    assert np.array_equal(first.pixels, second.pixels)
    assert (first.findings, first.findings_text) == (second.findings, second.findings_text)
    assert not np.array_equal(first.pixels, render(6, size=SIZE).pixels)


def test_films_use_the_whole_scale_and_boxes_lie_inside() -> None:
    for seed in range(12):
        film = render(seed, size=SIZE)
        assert film.pixels.dtype == np.uint16
        assert film.pixels.shape == (SIZE, SIZE)
        assert (film.pixels.min(), film.pixels.max()) == (0, MAX_VALUE)
        assert film.masks.shape == (len(film.findings), SIZE, SIZE)
        for finding, mask in zip(film.findings, film.masks, strict=True):
            x1, y1, x2, y2 = finding.box
            assert 0 <= x1 < x2 <= SIZE
            assert 0 <= y1 < y2 <= SIZE
            assert mask[y1:y2, x1:x2].sum() == mask.sum()


def test_the_text_says_what_is_on_the_film() -> None:
    for seed in range(12):
        film = render(seed, size=96)
        facts = [finding.fact for finding in film.findings]
        wordings = {write_sections(facts, random.Random(i)) for i in range(200)}
        assert any(film.findings_text == findings for findings, _ in wordings)


@pytest.mark.parametrize("kind", KINDS)
def test_the_patients_left_is_on_the_right_of_the_image(kind: str) -> None:
    centres: dict[str, list[float]] = {"right": [], "left": [], "": []}
    for seed in range(14):
        for finding, mask in zip(
            *(lambda f: (f.findings, f.masks))(render(seed, size=96, kinds=(kind,))), strict=True
        ):
            centres[finding.side].append(float(np.nonzero(mask)[1].mean()) / 96)
    if kind == "cardiomegaly":
        assert not centres["left"]
        assert np.mean(centres[""]) > 0.5
    else:
        assert np.mean(centres["right"]) < np.mean(centres["left"])


def test_fluid_adds_attenuation_and_air_takes_it_away() -> None:
    for side in (RIGHT, LEFT):
        chest = Chest(load_pose(0), np.random.default_rng(side))
        air = chest.air[side].sum()
        rim = DRAW["pneumothorax"](chest, side)
        fluid = DRAW["pleural_effusion"](chest, side)
        assert rim is not None
        assert fluid is not None
        assert rim.added[rim.covered].mean() < -0.05
        assert fluid.added[fluid.covered].mean() > 0.3
        assert fluid.added[~(load_pose(0).depth[side] > 0)].max() == 0
        assert chest.air[side].sum() < air


def test_what_cannot_be_seen_is_not_labelled() -> None:
    asked = [render(seed, size=SIZE, kinds=("nodule",)) for seed in range(40)]
    hidden = [film for film in asked if not film.findings]
    assert 0 < len(hidden) < 20
    assert all("nodule is seen" in film.findings_text or "clear" in film.findings_text for film in hidden)


def test_held_out_poses_are_others() -> None:
    assert pose_count() > 2 * HELD_OUT_POSES
    assert not np.array_equal(render(1, size=64).pixels, render(1, size=64, held_out=True).pixels)


def test_maps_are_in_their_units() -> None:
    maps = load_pose(0)
    assert 3 < maps.total.max() < 16
    assert 100 < maps.thickness.max() < 320
    right, left = maps.extent
    assert right[0] < left[0]
    assert maps.heart_extent[2] - maps.heart_extent[0] > 40
    with pytest.raises(IndexError):
        load_pose(pose_count())


def test_zones_are_thirds_of_the_lung_above_the_diaphragm() -> None:
    maps = load_pose(0)
    chest = Chest(maps, np.random.default_rng(0))
    for side in (RIGHT, LEFT):
        _, top, _, bottom = maps.extent[side]
        assert top < maps.diaphragm[side] < bottom
        middle = (top + maps.diaphragm[side]) / 2
        rows = (top + 1, middle, maps.diaphragm[side] - 1)
        assert [chest.zone(row, side) for row in rows] == ["upper", "mid", "lower"]


def test_edge_distance_of_a_square() -> None:
    inside = np.zeros((7, 9), bool)
    inside[1:6, 2:7] = True
    distance = edge_distance(inside)
    assert distance[0, 0] == 0
    assert distance[3, 4] == 3
    assert distance[1, 2] == 1


def test_a_shard_gives_back_its_samples(tmp_path: Path) -> None:
    samples = [to_sample(render_study(seed, size=SIZE)) for seed in range(6)]
    assert {tuple(sample.given.tolist()) for sample in samples} > {(True, False, False)}
    save_shard(tmp_path / "000000.npz", samples)
    shard = load_shard(tmp_path / "000000.npz")
    for index, sample in enumerate(samples):
        again = shard.sample(index)
        assert np.array_equal(again.heat, sample.heat)
        assert np.array_equal(again.images, sample.images)
        assert np.array_equal(again.boxes, sample.boxes)
        assert read_facts(again.facts) == read_facts(sample.facts)
        assert study_facts(again) == study_facts(sample)
        assert (sample.heat.any(axis=(2, 3)) == sample.presence[:, :, 0]).all()
    assert load_facts(tmp_path / "000000.npz") == [study_facts(sample) for sample in samples]
    assert shard_files(tmp_path) == [(0, tmp_path / "000000.npz")]


@pytest.fixture(scope="module")
def studies() -> list[SimulatedStudy]:
    return [render_study(seed, size=SIZE, lateral=True, prior=True) for seed in range(24)]


def test_a_seed_fixes_the_study(studies: list[SimulatedStudy]) -> None:
    again = render_study(5, size=SIZE, lateral=True, prior=True)
    assert again.lateral is not None
    assert studies[5].lateral is not None
    assert np.array_equal(again.lateral.pixels, studies[5].lateral.pixels)
    assert again.prior is not None
    assert studies[5].prior is not None
    assert np.array_equal(again.prior, studies[5].prior)
    assert again.anatomy == studies[5].anatomy


def test_changes_and_depths_are_told_only_with_the_film_that_shows_them(
    studies: list[SimulatedStudy],
) -> None:
    facts = [finding for study in studies for finding in study.frontal.findings]
    assert {fact.change for fact in facts} >= {"new", "unchanged"}
    assert all(fact.change for fact in facts)
    assert {fact.depth for fact in facts} == {"", "anterior", "posterior"}
    assert {fact.kind for fact in facts if fact.depth} <= {"nodule", "consolidation"}
    alone = [render_study(seed, size=SIZE, lateral=False, prior=False) for seed in range(6)]
    assert all(not (f.change or f.depth) for study in alone for f in study.frontal.findings)
    assert all(study.lateral is None and study.prior is None for study in alone)


def test_the_lateral_shows_a_finding_at_its_height_before_or_behind() -> None:
    heights = []
    fronts: dict[str, list[Any]] = {"anterior": [], "posterior": []}
    for seed in range(40):
        study = render_study(seed, size=SIZE, kinds=("consolidation",), lateral=True, prior=False)
        film = study.lateral
        if film is None or len(film.kinds) != 1 or len(study.frontal.findings) != 1:
            continue
        rows, columns = np.nonzero(film.masks[0])
        fronts[film.depths[0]].append(columns.mean() / SIZE)
        _, y1, _, y2 = study.frontal.findings[0].box
        heights.append(((y1 + y2) / 2 / SIZE, rows.mean() / SIZE))
    assert len(heights) > 8
    assert np.mean(fronts["anterior"]) + 0.1 < np.mean(fronts["posterior"])
    assert np.corrcoef(np.array(heights).T)[0, 1] > 0.7


@pytest.mark.parametrize(("change", "sign"), [("increased", -1), ("decreased", 1)])
def test_a_changed_finding_has_another_size_on_the_prior_film(change: str, sign: int) -> None:
    from models.simulation.film import draw_chest
    from models.simulation.study import _prior_look

    maps, generator = load_pose(0), np.random.default_rng(0)
    for kind in ("nodule", "consolidation", "pleural_effusion", "pneumothorax", "cardiomegaly"):
        drawn = draw_chest(maps, (kind,), generator, framed=False)
        before = _prior_look(maps, drawn, 0, change, generator)
        assert before is not None
        grown = np.abs(before.added).sum() - np.abs(drawn.placed[0].added).sum()
        assert grown * sign > 0, kind


def test_organs_and_landmarks_lie_where_they_belong(studies: list[SimulatedStudy]) -> None:
    for study in studies:
        organs, points = study.anatomy.organs, study.anatomy.landmarks
        assert set(organs) == set(ORGANS)
        assert set(points) <= set(LANDMARKS)
        assert organs["right_lung"][0] < organs["left_lung"][0]
        assert organs["right_lung"][2] < organs["left_lung"][2]
        for name in ("apex", "costophrenic_angle", "hemidiaphragm"):
            if f"right_{name}" in points and f"left_{name}" in points:
                assert points[f"right_{name}"][0] < points[f"left_{name}"][0]
        if {"right_apex", "right_hemidiaphragm"} <= set(points):
            assert points["right_apex"][1] < points["right_hemidiaphragm"][1]
    assert np.mean([len(study.anatomy.landmarks) for study in studies]) > 6
