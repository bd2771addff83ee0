"""Simulated studies that training never sees, for evaluation: held-out poses, seeds below the training seeds."""

from pathlib import Path

import torch

from models.simulation.study import render_study
from models.training.shards import ShardSample, load_shard, save_shard, to_sample

PER_FILE = 50


def _render(first: int, count: int, size: int) -> list[ShardSample]:
    torch.set_num_threads(1)
    seeds = range(first, first + count)
    return [to_sample(render_study(s, size=size, held_out=True, lateral=True, prior=True)) for s in seeds]


def unseen_studies(count: int, size: int, cache: Path | None = None) -> list[ShardSample]:
    """The first ``count`` unseen studies, each with a lateral and a prior film of ``size`` pixels a side.

    ``cache`` keeps them from one run to the next; their seeds fix what is on them.
    """
    studies: list[ShardSample] = []
    for first in range(0, count, PER_FILE):
        path = None if cache is None else cache / f"unseen-{size}-{first:05d}.npz"
        if path is not None and path.exists():
            shard = load_shard(path)
            studies += [shard.sample(index) for index in range(len(shard))]
            continue
        drawn = _render(first, PER_FILE, size)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_shard(path, drawn)
        studies += drawn
    return studies[:count]
