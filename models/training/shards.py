"""Rendered training films on disk, a thousand to a shard, and the pool that draws batches from them."""

import os
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.simulation.film import SimulatedFilm
from models.simulation.phrases import KINDS, SEVERITIES, SIDES, ZONES, FindingFact

SHARD_FILMS = 500
MAX_FACTS = 8
CELL = 8
ABSENT = -1


@dataclass(frozen=True, slots=True)
class Sample:
    """One film as the trainer needs it.

    ``image`` uint8 [size, size]; ``heat`` bool [kinds, size / 8, size / 8]; ``presence`` bool [kinds, 3] (present,
    right, left); ``facts`` int8 [MAX_FACTS, 4] (kind, side, severity, zone as indexes, -1 where there is none).
    """

    image: NDArray[np.uint8]
    heat: NDArray[np.bool_]
    presence: NDArray[np.bool_]
    facts: NDArray[np.int8]


def _index(name: str, names: tuple[str, ...]) -> int:
    return names.index(name) if name in names else ABSENT


def to_sample(film: SimulatedFilm) -> Sample:
    """Reduce a film to 8 bits, heat cells and codes: a twelfth of a cell, or two pixels of a line, make it hot."""
    size = film.pixels.shape[0]
    grid = size // CELL
    heat, presence = np.zeros((len(KINDS), grid, grid), bool), np.zeros((len(KINDS), 1 + len(SIDES)), bool)
    facts = np.full((MAX_FACTS, 4), ABSENT, np.int8)
    for row, (finding, mask) in enumerate(zip(film.findings, film.masks, strict=True)):
        kind = KINDS.index(finding.kind)
        least = 2 if finding.kind == "central_venous_catheter" else CELL * CELL // 12
        heat[kind] |= mask.reshape(grid, CELL, grid, CELL).sum(axis=(1, 3)) >= least
        presence[kind, 0] = True
        if finding.side:
            presence[kind, 1 + SIDES.index(finding.side)] = True
        facts[row] = (
            kind,
            _index(finding.side, SIDES),
            _index(finding.severity, SEVERITIES[finding.kind]),
            _index(finding.zone, ZONES),
        )
    return Sample((film.pixels >> 4).astype(np.uint8), heat, presence, facts)


def read_facts(codes: NDArray[np.int8]) -> list[FindingFact]:
    """The findings behind the codes of one sample."""
    return [
        FindingFact(
            kind=KINDS[kind],
            side=SIDES[side] if side >= 0 else "",
            severity=SEVERITIES[KINDS[kind]][severity] if severity >= 0 else "",
            zone=ZONES[zone] if zone >= 0 else "",
        )
        for kind, side, severity, zone in codes.tolist()
        if kind >= 0
    ]


def save_shard(path: Path, samples: list[Sample]) -> None:
    """Write samples as one shard; a reader never sees half of it."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as target:
        np.savez(
            target,
            image=np.stack([s.image for s in samples]),
            heat=np.packbits(np.stack([s.heat for s in samples]), axis=-1),
            presence=np.stack([s.presence for s in samples]),
            facts=np.stack([s.facts for s in samples]),
        )
    os.replace(partial, path)


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard in memory."""

    image: NDArray[np.uint8]
    heat: NDArray[np.uint8]
    presence: NDArray[np.bool_]
    facts: NDArray[np.int8]

    def sample(self, index: int) -> Sample:
        """One film of the shard."""
        grid = self.image.shape[-1] // CELL
        heat = np.unpackbits(self.heat[index], axis=-1, count=grid).astype(bool)
        return Sample(self.image[index], heat, self.presence[index], self.facts[index])


def load_shard(path: Path) -> Shard:
    """Read a shard into memory."""
    with np.load(path, allow_pickle=False) as stored:
        return Shard(stored["image"], stored["heat"], stored["presence"], stored["facts"])


class Pool:
    """All shards of a folder, later ones included; every film is drawn once before any is drawn again."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Look at ``folder``; it may still be empty."""
        self.folder = folder
        self._shards: dict[str, Shard] = {}
        self._waiting: list[tuple[str, int]] = []
        self._chooser = random.Random(seed)  # noqa: S311 - order, not secrets

    def __len__(self) -> int:
        """Films known so far."""
        return sum(len(shard.image) for shard in self._shards.values())

    def refresh(self) -> None:
        """Take in shards that have appeared since."""
        for path in sorted(self.folder.glob("*.npz")):
            if path.name not in self._shards:
                self._shards[path.name] = load_shard(path)
                self._waiting += self._entries(path.name)
                self._chooser.shuffle(self._waiting)

    def _entries(self, name: str) -> list[tuple[str, int]]:
        return [(name, index) for index in range(len(self._shards[name].image))]

    def draw(self, count: int) -> list[Sample]:
        """``count`` films. Raises ValueError on an empty pool."""
        if not self._shards:
            raise ValueError(f"no shards in {self.folder}")
        drawn = []
        for _ in range(count):
            if not self._waiting:
                self._waiting = [entry for name in self._shards for entry in self._entries(name)]
                self._chooser.shuffle(self._waiting)
            name, index = self._waiting.pop()
            drawn.append(self._shards[name].sample(index))
        return drawn
