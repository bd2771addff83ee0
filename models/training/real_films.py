"""Real normal films as chests to put simulated findings into.

The lungs and the heart of one CT pose are laid over a film labelled 'No Finding' (``registration``) and its grey levels
are brought to the attenuation scale of the organ maps. Findings are then added as path lengths, as on the CT.
``python -m models.training.real_films --shared DIR --out DIR`` writes such films, and the untouched ones, as shards.
"""

import argparse
import logging
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.simulation.anatomy import FilmAnatomy
from models.simulation.film import choose_kinds
from models.simulation.lesions import LEFT, RIGHT
from models.simulation.maps import (
    FloatMap,
    PoseMaps,
    bounding_box,
    diaphragm_row,
    edge_distance,
    load_pose,
)
from models.simulation.study import PRIOR_SHARE, SimulatedStudy, render_study_from
from models.training import registration
from models.training.real_sources import Film, load_film, read_source
from models.training.registration import Alignment, align, sampling_grid
from models.training.render_shards import TRAINING_SHARE, shard_numbers
from models.training.shards import SHARD_FILMS, save_shard, shard_path, to_sample

log = logging.getLogger(__name__)
Mask = NDArray[np.bool_]
MAP_SIZE = 256
LEAST_LIKENESS = 0.72
LUNG_WIDTH_MM = 115.0
"""Typical width of one lung on a film; sets the millimetres per pixel, which the files no longer hold."""
LUNG_ATTENUATION_PER_MM = 0.0042
UNTOUCHED_SHARE = 0.35
RECESS_ROWS = 9
"""Map rows of lung kept below the diaphragm, where fluid gathers."""
SOURCES = ("nih", "nih64")
"""Folders whose normal films are drawn into."""
COARSE_SHARE = 0.25
"""How often a draw shows a coarse film, always as it is: findings put into it would be sharper than the film."""
ALIGNED_TOGETHER = 14


def _attenuation(film: FloatMap, depth: FloatMap, heart: FloatMap, pose: PoseMaps) -> FloatMap:
    """Grey levels on the attenuation scale of the pose: its middle lung matched to the film's, heart to heart."""
    deepest = pose.depth.max(axis=0)
    low, high = float(np.median(pose.total[deepest > 12])), float(np.median(pose.total[pose.heart > 60]))
    lung, cardiac = depth > 12, heart > 60
    dark = float(np.median(film[lung])) if lung.any() else float(np.quantile(film, 0.3))
    bright = float(np.median(film[cardiac])) if cardiac.any() else float(np.quantile(film, 0.8))
    return (low + (film - dark) * (high - low) / max(bright - dark, 0.12)).astype(np.float32)


def _above_diaphragm(lung: Mask, dark: Mask) -> Mask:
    """A lung down to a little below the diaphragm of this film."""
    cut = lung.copy()
    cut[diaphragm_row(lung, dark) + RECESS_ROWS :] = False
    return cut


def to_maps(film: FloatMap, alignment: Alignment, pose: PoseMaps) -> PoseMaps:
    """Maps of a real film [MAP_SIZE, MAP_SIZE], borrowing thickness and heart from ``pose``."""
    grid = sampling_grid(alignment.affine[None], alignment.bend[None], MAP_SIZE)
    borrowed = torch.from_numpy(np.stack([*pose.thickness, pose.heart]))[None]
    laid = functional.grid_sample(borrowed, grid, align_corners=False)[0].numpy()
    thickness, heart = laid[:2], laid[2]
    whole = thickness > 6
    deepest = np.stack([edge_distance(lung) for lung in whole]).max(axis=0)
    attenuation = _attenuation(film, deepest, heart, pose)
    middle = (np.median(attenuation[deepest > 12]) + np.median(attenuation[heart > 60])) / 2
    lungs = np.stack([_above_diaphragm(lung, attenuation < middle) for lung in whole])
    thickness = thickness * lungs
    depth = np.stack([edge_distance(lung) for lung in lungs])
    smooth = functional.avg_pool2d(torch.from_numpy(attenuation)[None, None], 9, 1, 4)[0, 0].numpy()
    markings = thickness * LUNG_ATTENUATION_PER_MM + 0.35 * (attenuation - smooth)[None] * lungs
    extent = (bounding_box(lungs[RIGHT]), bounding_box(lungs[LEFT]))
    width = (extent[RIGHT][2] - extent[RIGHT][0] + extent[LEFT][2] - extent[LEFT][0]) / 2
    return PoseMaps(
        total=attenuation,
        thickness=thickness,
        heart=heart,
        lung_attenuation=markings.astype(np.float32),
        depth=depth,
        extent=extent,
        heart_extent=bounding_box(heart > 20),
        diaphragm=(extent[RIGHT][3] - RECESS_ROWS, extent[LEFT][3] - RECESS_ROWS),
        pixel_mm=LUNG_WIDTH_MM / width,
    )


@dataclass(frozen=True, slots=True)
class RealChest:
    """A film as maps; ``aligned`` says whether findings may be put into it."""

    maps: PoseMaps
    aligned: bool
    coarse: bool

    def draw(self, size: int, generator: np.random.Generator) -> SimulatedStudy:
        """The film as it is, or with one to three findings, seen a little differently each time."""
        kinds: tuple[str, ...] = ()
        if self.aligned and generator.random() > UNTOUCHED_SHARE:
            kinds = choose_kinds(generator, TRAINING_SHARE)
        prior = bool(generator.random() < PRIOR_SHARE)
        study = render_study_from(self.maps, None, kinds, size, generator, prior=prior, framed=True)
        return study if self.aligned else replace(study, anatomy=FilmAnatomy({}, {}))


def _plausible(maps: PoseMaps) -> bool:
    right, left = maps.extent
    return all(0.2 < (box[3] - box[1]) / MAP_SIZE < 0.98 for box in (right, left)) and right[0] < left[0]


def load_chests(films: list[Film]) -> list[RealChest]:
    """Align a group of films to the first pose."""
    torch.set_num_threads(1)
    pose, chests = load_pose(0), []
    small = np.stack([load_film(film.path, registration.SIZE) for film in films])
    for film, alignment in zip(films, align(small, pose), strict=True):
        maps = to_maps(load_film(film.path, MAP_SIZE), alignment, pose)
        fits = alignment.likeness > LEAST_LIKENESS and _plausible(maps)
        chests.append(RealChest(maps, fits and not film.coarse, film.coarse))
    return chests


def training_normals(shared: Path) -> list[Film]:
    """The 'No Finding' films of the patients that are not held back."""
    return [
        film for name in SOURCES for film in read_source(shared, name) if film.normal and not film.held_back
    ]


_CHESTS: list[RealChest] = []
"""The chests of a worker process, filled when it starts: they are too large to send with every shard."""


def write_shard(out: Path, size: int, shard: int) -> None:
    """Draw shard number ``shard`` from the chests of this worker."""
    generator = np.random.default_rng([7, shard])
    groups = [[chest for chest in _CHESTS if chest.coarse is coarse] for coarse in (False, True)]
    samples = []
    for _ in range(SHARD_FILMS):
        group = groups[int(generator.random() < COARSE_SHARE)] or _CHESTS
        samples.append(to_sample(group[int(generator.integers(len(group)))].draw(size, generator)))
    save_shard(shard_path(out, shard), samples)


def _start_worker(chests: list[RealChest]) -> None:
    torch.set_num_threads(1)
    _CHESTS.extend(replace(chest) for chest in chests)


def render_missing(shared: Path, out: Path, films: int, size: int, workers: int) -> None:
    """Align the films once, then draw the shards of the first ``films`` draws that ``out`` lacks."""
    out.mkdir(parents=True, exist_ok=True)
    missing = [shard for shard in shard_numbers(films) if not (shard_path(out, shard)).exists()]
    if not missing:
        return
    normals = training_normals(shared)
    groups = [normals[at : at + ALIGNED_TOGETHER] for at in range(0, len(normals), ALIGNED_TOGETHER)]
    with ProcessPoolExecutor(workers) as pool:
        chests = [chest for group in pool.map(load_chests, groups) for chest in group]
    log.info("%d films, %d aligned", len(chests), sum(chest.aligned for chest in chests))
    with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(chests,)) as pool:
        list(pool.map(partial(write_shard, out, size), missing))


def main() -> None:
    """Read the options, then draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder that holds data/nih")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--films", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--workers", type=int, default=1)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    render_missing(chosen.shared, chosen.out, chosen.films, chosen.size, chosen.workers)


if __name__ == "__main__":
    main()
