"""What the encoder gives for every real film, computed once: ``python -m models.training.film_readings``.

The cache is named after the digest of the weights, so other weights read the films anew.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.families.mini.films import film_features, thumbnail_and_histogram
from models.families.mini.outlines import measure_outlines
from models.networks.mini import WEIGHTS_FILE, FirstreadMini, load_mini
from models.training.real_sources import LABELS, Film, load_film, read_films
from models.weight_loading.verified import file_digest

TOGETHER = 32
SMALL = 112
"""Pixels a side of the films that the small network of ``small_network`` reads."""
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Readings:
    """``films`` in order, and what was read of them by name, first axis the films: what ``feature_blocks`` takes, and
    ``small`` uint8 [n, SMALL, SMALL]."""

    films: Sequence[Film]
    arrays: Arrays

    @property
    def features(self) -> NDArray[np.float32]:
        """[n, f]."""
        return film_features(self.arrays)

    @property
    def collections(self) -> NDArray[np.str_]:
        """[n]."""
        return np.array([film.collection for film in self.films])

    @property
    def patients(self) -> NDArray[np.str_]:
        """[n]."""
        return np.array([film.patient for film in self.films])

    @property
    def held_back(self) -> NDArray[np.bool_]:
        """[n]."""
        return np.array([film.held_back for film in self.films])

    def truth(self, finding: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which films have ``finding`` by their label, and of which films the labels say so or not: both [n]."""
        said = [film.truth(finding) for film in self.films]
        return np.array([bool(one) for one in said]), np.array([one is not None for one in said])


@torch.inference_mode()
def read_pixels(network: FirstreadMini, pixels: NDArray[np.float32]) -> Arrays:
    """Of films [n, size, size], 0..1, as the drafting family computes it."""
    films = torch.from_numpy(pixels)[:, None]
    seen, heads = network.read(films)
    return {
        "pooled": seen.pooled.numpy(),
        "cells": seen.cells.numpy(),
        "presence": seen.presence.numpy(),
        "organs": heads.organs.numpy(),
        "landmarks": heads.landmarks.numpy(),
        "thumbnail": thumbnail_and_histogram(pixels),
        "measures": measure_outlines(network.outlines(films).numpy(), pixels),
        "labelled": network.labels(films).numpy(),
    }


def read_all(model: Path, shared: Path, cache: Path) -> Readings:
    """The readings of every film of ``shared``, from ``cache`` where they are there."""
    films = read_films(shared)
    path = cache / f"readings-{file_digest(model / WEIGHTS_FILE)[:12]}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as held:
            arrays = dict(held)
        if len(arrays["pooled"]) == len(films):
            return Readings(films, arrays)
    network, parts = load_mini(model), []
    for start in range(0, len(films), TOGETHER):
        some = films[start : start + TOGETHER]
        pixels = np.stack([load_film(film.path, network.config.vision.image_size) for film in some])
        small = np.stack([load_film(film.path, SMALL) for film in some])
        parts.append({**read_pixels(network, pixels), "small": np.rint(small * 255).astype(np.uint8)})
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    cache.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return Readings(films, arrays)


def main() -> None:
    """Read them and say how many there are of each collection."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument(
        "--shared", type=Path, required=True, help="folder that holds data/nih and the others"
    )
    parser.add_argument("--cache", type=Path, required=True)
    chosen = parser.parse_args()
    readings = read_all(chosen.model, chosen.shared, chosen.cache)
    for name in sorted(set(readings.collections.tolist())):
        rows, held = readings.collections == name, readings.held_back
        told = []
        for finding in LABELS:
            true, known = readings.truth(finding)
            if (known & rows).any():
                told.append(f"{finding} {int((true & rows).sum())}")
        print(
            f"  {name:<15}{int(rows.sum()):>6} films, {int((rows & held).sum())} held back; {', '.join(told)}"
        )


if __name__ == "__main__":
    main()
