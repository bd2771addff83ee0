import random
from pathlib import Path

import numpy as np
import pytest

from models.simulation.film import MAX_VALUE, render
from models.simulation.lesions import DRAW, LEFT, RIGHT, Chest
from models.simulation.maps import HELD_OUT_POSES, edge_distance, load_pose, pose_count
from models.simulation.phrases import KINDS, write_sections
from models.training.shards import Pool, load_shard, read_facts, save_shard, to_sample

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
    samples = [to_sample(render(seed, size=SIZE)) for seed in range(6)]
    save_shard(tmp_path / "000000.npz", samples)
    shard = load_shard(tmp_path / "000000.npz")
    for index, sample in enumerate(samples):
        again = shard.sample(index)
        assert np.array_equal(again.heat, sample.heat)
        assert np.array_equal(again.image, sample.image)
        assert read_facts(again.facts) == read_facts(sample.facts)
        assert (sample.heat.any(axis=(1, 2)) == sample.presence[:, 0]).all()
    pool = Pool(tmp_path, seed=0)
    pool.refresh()
    drawn = {drawn.image.tobytes() for drawn in pool.draw(6)}
    assert drawn == {sample.image.tobytes() for sample in samples}
