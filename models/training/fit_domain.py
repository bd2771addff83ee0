"""Fit what firstread-mini knows: ``python -m models.training.fit_domain --model DIR --readings DIR --shared DIR``.

Statistics from rendered training studies (``--cache``, as the trainer uses it) and the films of training patients of
every source of adults; thresholds from training films that were kept out of the statistics. Held-out poses and
held-back patients take no part. Without ``--cache`` the groups of rendered films stay as the folder has them: they
depend on the weights alone.
"""

import argparse
import logging
import os
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.families.mini.domain import CHILDREN, SIMULATED, Array, Domain, fit_group
from models.networks.mini import FirstreadMini, load_mini
from models.runners.encoder import VisionEncoder
from models.training.film_readings import Readings, read_all
from models.training.real_sources import SOURCES
from models.training.shards import load_shard

log = logging.getLogger(__name__)
DIRECTIONS = 32
DECLINED = 0.025
"""Share of the known films kept out of the statistics that the thresholds decline."""
MARGIN = 1.15
"""Room beyond that for anatomy never seen; the nearest outliers it was chosen on (not those measured on) lie at 1.3."""
KEPT_OUT = 0.3
FEWEST = 60
"""Films of a source below which it is no group."""
OWN, COARSE, CHILDREN_SOURCE = ("nih", "nih64"), "nih64", "kermany"
SHARED_DIRECTIONS, SHARED_DECLINED, CHILDREN_MARGIN = 128, 0.03, 0.93
"""Of the groups that share a covariance. Directions and share were chosen on every second image of those out of domain
that are told in the model card, the children's margin on training films alone."""
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


def own_groups(readings: Readings) -> dict[str, tuple[Array, Array]]:
    """The sources with films enough for a covariance of their own."""
    pooled, sources = readings.arrays["pooled"], np.array([film.source for film in readings.films])
    out = np.array(
        [
            int(film.patient) * 48271 % 65521 / 65521 < KEPT_OUT if film.patient.isdigit() else False
            for film in readings.films
        ]
    )
    rows = {name: (sources == name) & ~readings.held_back for name in OWN}
    return {name: (pooled[mine & ~out], pooled[mine & out]) for name, mine in rows.items()}


def add_real(domain: Domain, readings: Readings) -> Domain:
    """``domain`` with a group for each source of real films that it lacks, and for children.

    A source has few films, so all share one covariance: that of the films of all adult sources about the middle of
    their own, sources weighing as the root of their films. Thresholds are of films kept out, of training patients too.
    """
    sources = np.array([film.source for film in readings.films])
    features = ((readings.arrays["pooled"] - domain.mean) / domain.scale).astype(np.float32)
    out = np.array(
        [zlib.crc32(f"threshold {film.patient}".encode()) / 2**32 < KEPT_OUT for film in readings.films]
    )
    parts, centres = [], {}
    for name in SOURCES:
        rows = (sources == name) & ~readings.held_back & ~out
        if rows.sum() >= FEWEST:
            centres[name] = features[rows].mean(axis=0)
            if name not in (COARSE, CHILDREN_SOURCE):
                parts.append((features[rows] - centres[name]) / rows.sum() ** 0.25)
    spread = np.concatenate(parts)
    rooted = sum(len(part) ** 0.5 for part in parts)
    shape = fit_group((spread * (len(spread) / rooted) ** 0.5).astype(np.float32), SHARED_DIRECTIONS)
    fitted = dict(domain.groups)
    for name, centre in centres.items():
        group = replace(shape, centre=centre)
        kept = features[(sources == name) & ~readings.held_back & out]
        margin = CHILDREN_MARGIN if name == CHILDREN_SOURCE else 1.0
        group = replace(
            group, threshold=margin * float(np.quantile(group.distance(kept), 1 - SHARED_DECLINED))
        )
        fitted.setdefault(CHILDREN if name == CHILDREN_SOURCE else name, group)
    return Domain(domain.mean, domain.scale, fitted)


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
    parser.add_argument("--cache", type=Path, default=None, help="the trainer's cache of rendered studies")
    parser.add_argument(
        "--shared", type=Path, required=True, help="folder that holds data/nih and the others"
    )
    parser.add_argument(
        "--readings", type=Path, required=True, help="folder that keeps what was read of them"
    )
    parser.add_argument("--films", type=int, default=1200, help="rendered films of each view")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(chosen.threads)
    readings = read_all(chosen.model, chosen.shared, chosen.readings)
    if chosen.cache is None:
        domain = Domain.load(chosen.model)
        kept = {
            name: group for name, group in domain.groups.items() if name.startswith(SIMULATED) or name in OWN
        }
        domain = replace(domain, groups=kept)
    else:
        network, groups = load_mini(chosen.model), {}
        for name, rendered in zip(("frontal", "lateral"), _rendered(chosen.cache, chosen.films), strict=True):
            known, others = _split(rendered, np.arange(len(rendered)))
            groups[f"{SIMULATED}_{name}"] = pool(network, known), pool(network, others)
        domain = fit_domain({**groups, **own_groups(readings)})
    domain = add_real(domain, readings)
    domain.save(chosen.model)
    log.info("%s", {name: round(group.threshold, 3) for name, group in domain.groups.items()})


if __name__ == "__main__":
    main()
