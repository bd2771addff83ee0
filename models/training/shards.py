"""Rendered training studies on disk, some hundreds to a shard."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.simulation.anatomy import FilmAnatomy
from models.simulation.film import FilmFinding, SimulatedFilm
from models.simulation.study import LateralFilm, SimulatedStudy
from models.simulation.task_texts import PlacedFact, StudyFacts
from models.vocabulary.english import CHANGES, DEPTHS, KINDS, SEVERITIES, SIDES, ZONES, FindingFact
from models.vocabulary.task_words import LANDMARKS, ORGANS

SHARD_FILMS = 250
MAX_FACTS = 8
CELL = 8
ABSENT = -1
LEAST_SHARE = 12
"""One part in this of a cell makes it hot; two pixels of a catheter do."""


@dataclass(frozen=True, slots=True)
class ShardSample:
    """One study as the trainer needs it.

    ``images`` uint8 [3, size, size], the frontal, lateral and prior film; ``given`` bool [3] says which there are.
    ``heat`` bool [2, kinds, size / 8, size / 8] and ``presence`` bool [2, kinds, 3] (present, then right and left, on
    the lateral front and back) are of the frontal and the lateral film. ``boxes`` [kinds, 2, 4], ``organs``
    [3, 4] and ``landmarks`` [8, 2] are float32 shares of the film's width and height, -1 where there is none. ``facts``
    int8 [MAX_FACTS, 6] holds kind, side, severity, zone, change and depth as indexes, -1 where there is none.
    """

    images: NDArray[np.uint8]
    given: NDArray[np.bool_]
    heat: NDArray[np.bool_]
    presence: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    organs: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    facts: NDArray[np.int8]


def _index(name: str, names: tuple[str, ...]) -> int:
    return names.index(name) if name in names else ABSENT


def _hot(kind: str, mask: NDArray[np.bool_], grid: int) -> NDArray[np.bool_]:
    least = 2 if kind == "central_venous_catheter" else CELL * CELL // LEAST_SHARE
    hot: NDArray[np.bool_] = mask.reshape(grid, CELL, grid, CELL).sum(axis=(1, 3)) >= least
    return hot


def _codes(finding: FilmFinding) -> tuple[int, ...]:
    return (
        KINDS.index(finding.kind),
        _index(finding.side, SIDES),
        _index(finding.severity, SEVERITIES[finding.kind]),
        _index(finding.zone, ZONES),
        _index(finding.change, CHANGES),
        _index(finding.depth, DEPTHS),
    )


def to_sample(study: SimulatedStudy | SimulatedFilm) -> ShardSample:
    """Reduce a study, or a frontal film alone, to 8 bits, heat cells, shares and codes."""
    film, anatomy, lateral, prior = (
        (study, FilmAnatomy({}, {}), None, None)
        if isinstance(study, SimulatedFilm)
        else (study.frontal, study.anatomy, study.lateral, study.prior)
    )
    size = film.pixels.shape[0]
    grid = size // CELL
    heat = np.zeros((2, len(KINDS), grid, grid), bool)
    presence = np.zeros((2, len(KINDS), 1 + len(SIDES)), bool)
    facts = np.full((MAX_FACTS, 6), ABSENT, np.int8)
    boxes = np.full((len(KINDS), len(SIDES), 4), ABSENT, np.float32)
    for row, (finding, mask) in enumerate(zip(film.findings, film.masks, strict=True)):
        kind = KINDS.index(finding.kind)
        heat[0, kind] |= _hot(finding.kind, mask, grid)
        presence[0, kind, 0] = True
        side: int | slice = slice(None)
        if finding.side:
            side = SIDES.index(finding.side)
            presence[0, kind, 1 + side] = True
        boxes[kind, side] = np.asarray(finding.box, np.float32) / size
        facts[row] = _codes(finding)
    if lateral is not None:
        _mark_lateral(lateral, heat[1], presence[1])
    organs = np.full((len(ORGANS), 4), ABSENT, np.float32)
    for name, box in anatomy.organs.items():
        organs[ORGANS.index(name)] = np.asarray(box, np.float32) / size
    landmarks = np.full((len(LANDMARKS), 2), ABSENT, np.float32)
    for name, point in anatomy.landmarks.items():
        landmarks[LANDMARKS.index(name)] = np.asarray(point, np.float32) / size
    images = np.zeros((3, size, size), np.uint8)
    for place, pixels in enumerate((film.pixels, lateral.pixels if lateral else None, prior)):
        if pixels is not None:
            images[place] = pixels >> 4
    given = np.array([True, lateral is not None, prior is not None])
    return ShardSample(images, given, heat, presence, boxes, organs, landmarks, facts)


def _mark_lateral(lateral: LateralFilm, heat: NDArray[np.bool_], presence: NDArray[np.bool_]) -> None:
    for name, depth, mask in zip(lateral.kinds, lateral.depths, lateral.masks, strict=True):
        kind = KINDS.index(name)
        heat[kind] |= _hot(name, mask, heat.shape[-1])
        presence[kind, 0] = True
        if depth:
            presence[kind, 1 + DEPTHS.index(depth)] = True


def read_facts(codes: NDArray[np.int8]) -> list[FindingFact]:
    """The findings behind the codes of one sample."""
    return [
        FindingFact(
            kind=KINDS[kind],
            side=SIDES[side] if side >= 0 else "",
            severity=SEVERITIES[KINDS[kind]][severity] if severity >= 0 else "",
            zone=ZONES[zone] if zone >= 0 else "",
            change=CHANGES[change] if change >= 0 else "",
            depth=DEPTHS[depth] if depth >= 0 else "",
        )
        for kind, side, severity, zone, change, depth in codes.tolist()
        if kind >= 0
    ]


def percent(share: NDArray[np.float32]) -> tuple[int, ...]:
    """Whole numbers 0..100 of shares 0..1."""
    return tuple(int(value) for value in np.clip(np.rint(share * 100), 0, 100).tolist())


def study_facts(sample: ShardSample) -> StudyFacts:
    """What is known of a sample, as the task texts take it."""
    return _known(sample.given, sample.boxes, sample.organs, sample.landmarks, sample.facts)


def _known(
    given: NDArray[np.bool_],
    boxes: NDArray[np.float32],
    organ_boxes: NDArray[np.float32],
    points: NDArray[np.float32],
    facts: NDArray[np.int8],
) -> StudyFacts:
    placed = []
    for fact in read_facts(facts):
        x1, y1, x2, y2 = percent(boxes[KINDS.index(fact.kind), _index(fact.side, SIDES)])
        placed.append(PlacedFact(fact, (x1, y1, x2, y2)))
    organs = {}
    for name, box in zip(ORGANS, organ_boxes, strict=True):
        if box[0] >= 0:
            x1, y1, x2, y2 = percent(box)
            organs[name] = (x1, y1, x2, y2)
    landmarks = {}
    for name, point in zip(LANDMARKS, points, strict=True):
        if point[0] >= 0:
            x, y = percent(point)
            landmarks[name] = (x, y)
    return StudyFacts(tuple(placed), organs, landmarks, bool(given[1]), bool(given[2]))


_PLAIN = ("given", "presence", "boxes", "organs", "landmarks", "facts")


def save_shard(path: Path, samples: list[ShardSample]) -> None:
    """Write samples as one shard, without the films that are not given; a reader never sees half of it."""
    partial = path.with_suffix(".partial")
    films = [sample.images[sample.given] for sample in samples]
    with partial.open("wb") as target:
        np.savez(
            target,
            images=np.concatenate(films),
            heat=np.packbits(np.stack([s.heat for s in samples]), axis=-1),
            given=np.stack([s.given for s in samples]),
            presence=np.stack([s.presence for s in samples]),
            boxes=np.stack([s.boxes for s in samples]),
            organs=np.stack([s.organs for s in samples]),
            landmarks=np.stack([s.landmarks for s in samples]),
            facts=np.stack([s.facts for s in samples]),
        )
    os.replace(partial, path)


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard in memory: ``images`` holds the given films of all samples one after the other."""

    images: NDArray[np.uint8]
    starts: NDArray[np.int64]
    heat: NDArray[np.uint8]
    given: NDArray[np.bool_]
    presence: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    organs: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    facts: NDArray[np.int8]

    def __len__(self) -> int:
        """Samples in the shard."""
        return len(self.facts)

    def sample(self, index: int) -> ShardSample:
        """One study of the shard."""
        size = self.images.shape[-1]
        heat = np.unpackbits(self.heat[index], axis=-1, count=size // CELL).astype(bool)
        images, given = np.zeros((3, size, size), np.uint8), self.given[index]
        images[given] = self.images[self.starts[index] : self.starts[index + 1]]
        return ShardSample(
            images,
            given,
            heat,
            self.presence[index],
            self.boxes[index],
            self.organs[index],
            self.landmarks[index],
            self.facts[index],
        )


def load_shard(path: Path) -> Shard:
    """Read a shard into memory."""
    with np.load(path, allow_pickle=False) as stored:
        starts = np.concatenate([[0], np.cumsum(stored["given"].sum(axis=1))]).astype(np.int64)
        plain = {name: stored[name] for name in _PLAIN}
        return Shard(images=stored["images"], starts=starts, heat=stored["heat"], **plain)


def load_facts(path: Path) -> list[StudyFacts]:
    """What is known of every study of a shard, without its films."""
    with np.load(path, allow_pickle=False) as stored:
        known = [stored[name] for name in ("given", "boxes", "organs", "landmarks", "facts")]
    return [_known(*values) for values in zip(*known, strict=True)]


def shard_path(folder: Path, number: int) -> Path:
    """Where shard ``number`` of ``folder`` lies."""
    return folder / f"{number:06d}.npz"


def shard_files(folder: Path) -> list[tuple[int, Path]]:
    """The shards of ``folder`` with their numbers."""
    return [(int(path.stem), path) for path in sorted(folder.glob("*.npz"))]
