"""Fit what firstread-mini knows: ``python -m models.training.fit_domain --model DIR --cache DIR --shared DIR``.

Statistics from rendered training studies (``--cache``, as the trainer uses it) and the NIH films of training patients;
thresholds from training films that were kept out of the statistics. Held-out poses and held-back patients take no part.
"""

import argparse
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.families.mini.domain import Array, Domain, fit_group
from models.networks.mini import FirstreadMini, load_mini
from models.runners.encoder import VisionEncoder
from models.training.real_films import SOURCES, held_back, load_film, read_source
from models.training.shards import load_shard

log = logging.getLogger(__name__)
DIRECTIONS = 32
DECLINED = 0.025
"""Share of the known films kept out of the statistics that the thresholds decline."""
MARGIN = 1.15
"""Room beyond that for anatomy never seen; the nearest outliers it was chosen on (not those measured on) lie at 1.3."""
KEPT_OUT = 0.3
BATCH = 32


@torch.no_grad()
def pool(network: FirstreadMini, films: NDArray[np.generic], encoder: VisionEncoder | None = None) -> Array:
    """Pooled features [n, d] of films [n, size, size], uint8 or 0..1; by ``encoder`` in place of the network's own."""
    scale = np.float32(255 if films.dtype == np.uint8 else 1)
    parts = []
    for start in range(0, len(films), BATCH):
        pixels = films[start : start + BATCH, None].astype(np.float32) / scale
        if encoder is None:
            parts.append(network.vision(torch.from_numpy(pixels)).pooled.numpy())
        else:
            parts.append(encoder.encode({"pixels": pixels})["pooled"])
    pooled: Array = np.concatenate(parts)
    return pooled


def fit_domain(groups: Mapping[str, tuple[Array, Array]]) -> Domain:
    """Fit to pooled features: per group those for the statistics and those for the threshold."""
    whole = np.concatenate([known for known, _ in groups.values()])
    mean, scale = whole.mean(axis=0), whole.std(axis=0) + 1e-6
    fitted = {}
    for name, (known, others) in groups.items():
        group = fit_group(((known - mean) / scale).astype(np.float32), min(DIRECTIONS, len(known) // 4))
        distance = group.distance(((others - mean) / scale).astype(np.float32))
        fitted[name] = replace(group, threshold=MARGIN * float(np.quantile(distance, 1 - DECLINED)))
    return Domain(mean, scale, fitted)


def _split(
    films: NDArray[np.generic], keys: NDArray[np.int64]
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Films for the statistics and for the threshold; one of ``keys`` (a patient) is in one part only."""
    out = (keys * 48271 % 65521) / 65521 < KEPT_OUT
    return films[~out], films[out]


def _rendered(cache: Path, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Frontals and laterals of the first rendered studies, ``count`` at most of each."""
    frontal: list[NDArray[np.uint8]] = []
    lateral: list[NDArray[np.uint8]] = []
    for path in sorted((cache / "ct").glob("*.npz")):
        shard = load_shard(path)
        for index in range(len(shard)):
            sample = shard.sample(index)
            frontal.append(sample.images[0])
            if sample.given[1]:
                lateral.append(sample.images[1])
        if len(frontal) >= count and len(lateral) >= count:
            break
    return np.stack(frontal[:count]), np.stack(lateral[:count])


def main() -> None:
    """Read the options, fit and write ``domain.safetensors`` beside the weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="the trainer's cache of rendered studies")
    parser.add_argument(
        "--shared", type=Path, required=True, help="folder that holds data/nih and data/nih64"
    )
    parser.add_argument("--films", type=int, default=1200, help="rendered films of each view")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(chosen.threads)
    network = load_mini(chosen.model)
    size = network.config.vision.image_size
    groups = {}
    for name, rendered in zip(("frontal", "lateral"), _rendered(chosen.cache, chosen.films), strict=True):
        known, others = _split(rendered, np.arange(len(rendered)))
        groups[f"simulated_{name}"] = pool(network, known), pool(network, others)
    for source in SOURCES:
        films = [film for film in read_source(chosen.shared, source) if not held_back(film.patient)]
        pixels = np.stack([load_film(film.path, size) for film in films])
        known, others = _split(pixels, np.array([film.patient for film in films]))
        groups[source] = pool(network, known), pool(network, others)
    fit_domain(groups).save(chosen.model)
    log.info("%s", {name: [len(part) for part in parts] for name, parts in groups.items()})


if __name__ == "__main__":
    main()
