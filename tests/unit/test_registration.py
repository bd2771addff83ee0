import numpy as np

from models.simulation.film import MAX_VALUE, render
from models.simulation.maps import load_pose
from models.training.real_films import MAP_SIZE, to_maps
from models.training.real_sources import held_back
from models.training.registration import SIZE, align


def test_a_pose_is_laid_over_a_film() -> None:
    pose = load_pose(0)
    large = render(3, size=MAP_SIZE, kinds=(), held_out=True).pixels.astype(np.float32) / np.float32(
        MAX_VALUE
    )
    small = large[np.ix_(np.arange(SIZE) * MAP_SIZE // SIZE, np.arange(SIZE) * MAP_SIZE // SIZE)]
    noise = np.random.default_rng(0).random((SIZE, SIZE)).astype(np.float32)
    fitted, unfit = align(np.stack([small, noise]), pose)
    assert fitted.likeness > 0.8
    assert unfit.likeness < 0.5
    maps = to_maps(large, fitted, pose)
    lungs, heart = maps.depth.max(axis=0) > 12, maps.heart > 60
    assert large[lungs].mean() < large[heart].mean() - 0.2
    assert maps.extent[0][2] < maps.extent[1][2]


def test_a_patient_is_held_back_or_not_for_good() -> None:
    share = np.mean([held_back(patient) for patient in range(30_000)])
    assert 0.27 < share < 0.33
    assert [held_back(patient) for patient in (61, 150, 1280, 1281)] == [False, False, True, False]
