"""Render simulated studies into shards ahead of training: ``python -m models.training.render_shards --out DIR``."""

import argparse
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from models.simulation.study import render_study
from models.training.shards import SHARD_FILMS, save_shard, shard_path, to_sample

FIRST_TRAINING_SEED = 1_000_000
"""Seeds below are left to evaluation, tests and demonstrations."""
TRAINING_SHARE = (0.29, 0.16, 0.14, 0.14, 0.09, 0.08, 0.10)
"""How often each kind is drawn for training: nodules are the hardest to see and weigh more."""


def write_shard(out: Path, size: int, shard: int) -> None:
    """Render shard number ``shard``: its films are fixed by its number."""
    torch.set_num_threads(1)
    path = shard_path(out, shard)
    if not path.exists():
        first = FIRST_TRAINING_SEED + shard * SHARD_FILMS
        studies = (render_study(first + i, size=size, shares=TRAINING_SHARE) for i in range(SHARD_FILMS))
        save_shard(path, [to_sample(study) for study in studies])


def shard_numbers(films: int) -> range:
    """Numbers of the shards that hold ``films`` films."""
    return range(-(-films // SHARD_FILMS))


def render_missing(out: Path, films: int, size: int, workers: int) -> None:
    """Render the shards of the first ``films`` films that ``out`` lacks."""
    out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool:
        pending = [pool.submit(write_shard, out, size, shard) for shard in shard_numbers(films)]
        for done in as_completed(pending):
            done.result()


def main() -> None:
    """Read the options, then render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--films", type=int, default=40_000)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    render_missing(chosen.out, chosen.films, chosen.size, chosen.workers)


if __name__ == "__main__":
    main()
