"""The studies of the shards on the device that trains, kept as 8-bit films, and drawn from there, lit anew."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.training.batches import FilmBatch, relight
from models.training.shards import ABSENT, Shard, load_shard, shard_path
from models.vocabulary.english import KINDS, SIDES


def slot_codes(facts: NDArray[np.int8]) -> NDArray[np.int64]:
    """Severity, zone and change codes per slot, -1 where there is none: [n, 3, slots] from facts [n, facts, 6]."""
    targets = np.full((len(facts), 3, len(KINDS), len(SIDES)), ABSENT, np.int64)
    for row, sample in enumerate(facts.tolist()):
        for kind, side, *codes, _ in sample:
            if kind >= 0:
                sides = slice(None) if side < 0 else side
                for place, code in enumerate(codes):
                    targets[row, place, kind, sides] = code
    return targets.reshape(len(facts), 3, -1)


class _Column:
    """Rows of one kind; grows by doubling, so that adding a shard does not copy all that is there."""

    def __init__(self) -> None:
        self._rows: Tensor | None = None
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def add(self, values: Tensor) -> None:
        needed = self._used + len(values)
        if self._rows is None or needed > len(self._rows):
            grown = values.new_empty(max(needed, 2 * self._used), *values.shape[1:])
            if self._rows is not None:
                grown[: self._used] = self._rows[: self._used]
            self._rows = grown
        self._rows[self._used : needed] = values
        self._used = needed

    def rows(self, index: Tensor) -> Tensor:
        if self._rows is None:
            raise ValueError("nothing is stored yet")
        return self._rows[index]


_LOOKED_UP = ("heat", "presence", "boxes", "organs", "landmarks")


class FilmStore:
    """All shards that were drawn from so far."""

    def __init__(self, folders: Sequence[Path], device: str, seed: int) -> None:
        """Empty; a shard is read when a study of it is first asked for."""
        self._folders, self._device = folders, device
        self._first: dict[tuple[int, int], int] = {}
        self._columns = {name: _Column() for name in ("images", "places", "codes", *_LOOKED_UP)}
        self._generator = torch.Generator(device).manual_seed(seed)

    def __len__(self) -> int:
        """Studies held."""
        return len(self._columns["places"])

    def _row(self, pool: int, number: int, index: int) -> int:
        if (pool, number) not in self._first:
            self._first[pool, number] = len(self)
            self._add(load_shard(shard_path(self._folders[pool], number)))
        return self._first[pool, number] + index

    def _add(self, shard: Shard) -> None:
        before = len(self._columns["images"])
        given = shard.given.astype(np.int64)
        place = before + shard.starts[:-1, None] + np.cumsum(given, axis=1) - 1
        named = {name: getattr(shard, name) for name in ("images", *_LOOKED_UP)}
        named |= {"places": np.where(shard.given, place, ABSENT), "codes": slot_codes(shard.facts)}
        for name, values in named.items():
            self._columns[name].add(torch.from_numpy(np.ascontiguousarray(values)).to(self._device))

    def _light(self, places: Tensor) -> Tensor:
        return relight(self._columns["images"].rows(places)[:, None].float() / 255, self._generator)

    def films(self, studies: NDArray[np.int64]) -> FilmBatch:
        """What is on ``studies`` [n, 3], pool, shard and place in it. Raises OSError for a shard that is not there."""
        rows = torch.tensor([self._row(*study) for study in studies.tolist()], device=self._device)
        places = self._columns["places"].rows(rows)
        lateral, prior = ((places[:, film] >= 0).nonzero().flatten() for film in (1, 2))
        looked = {name: self._columns[name].rows(rows) for name in _LOOKED_UP}
        bit = torch.arange(7, -1, -1, device=self._device)
        heat = (looked["heat"][..., None].int() >> bit & 1).flatten(-2).float()
        heat = heat[..., : heat.shape[-2]]
        presence = looked["presence"].float()
        severity, zone, change = self._columns["codes"].rows(rows).unbind(1)
        return FilmBatch(
            frontal=self._light(places[:, 0]),
            lateral=self._light(places[lateral, 1]),
            lateral_of=lateral,
            prior=self._light(places[prior, 2]),
            prior_of=prior,
            heat=heat[:, 0],
            presence=presence[:, 0],
            lateral_heat=heat[lateral, 1],
            lateral_presence=presence[lateral, 1],
            boxes=looked["boxes"].flatten(1, 2),
            organs=looked["organs"],
            landmarks=looked["landmarks"],
            severity=severity,
            zone=zone,
            change=change,
        )
