"""Findings on the lateral film of a chest whose frontal film shows them, at the same height.

The front of the patient is on the left of the image. A nodule or consolidation is given a depth, anterior or
posterior; a pneumothorax and a catheter do not show.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.simulation.lesions import TISSUE_PER_MM, Insertion
from models.simulation.maps import LUNG_EDGE_MM, FloatMap, LateralMaps
from models.vocabulary.english import DEPTHS

DEPTH_RANGE = {"anterior": (0.14, 0.42), "posterior": (0.58, 0.86)}
"""Where between the front and the back of a lung a finding of each depth lies."""


@dataclass(frozen=True, slots=True)
class _Side:
    """What a finding is drawn on: the maps, the lung it lies in, and the generator."""

    maps: LateralMaps
    generator: np.random.Generator
    rows: FloatMap
    columns: FloatMap

    def noise(self, cells: int) -> FloatMap:
        coarse = torch.from_numpy(self.generator.standard_normal((1, 1, cells, cells)).astype(np.float32))
        fine = torch.nn.functional.interpolate(
            coarse, size=self.maps.total.shape, mode="bicubic", align_corners=False
        )
        smooth: FloatMap = fine[0, 0].numpy()
        return smooth

    def column(self, insertion: Insertion, depth: str) -> float | None:
        """A column at ``depth`` of the lung, at the finding's height; None where the lung is too narrow."""
        if insertion.place is None or insertion.side is None:
            return None
        row = round(insertion.place[0])
        held = np.flatnonzero(self.maps.lung[insertion.side][row] > 4 * LUNG_EDGE_MM)
        if len(held) < 24:
            return None
        return float(held[0] + (held[-1] - held[0]) * self.generator.uniform(*DEPTH_RANGE[depth]))


def _nodule(side: _Side, insertion: Insertion, depth: str) -> tuple[FloatMap, NDArray[np.bool_]] | None:
    column = side.column(insertion, depth)
    if column is None or insertion.place is None:
        return None
    radius = insertion.size / 2
    distance = np.hypot(side.rows - insertion.place[0], side.columns - column) * side.maps.pixel_mm
    path = 2 * np.sqrt(np.maximum(radius**2 - distance**2, 0))
    added = np.minimum(path, 60) * TISSUE_PER_MM * side.generator.uniform(0.9, 1.4)
    return added.astype(np.float32), path > 0


def _consolidation(
    side: _Side, insertion: Insertion, depth: str
) -> tuple[FloatMap, NDArray[np.bool_]] | None:
    column = side.column(insertion, depth)
    if column is None or insertion.place is None or insertion.side is None:
        return None
    lung = side.maps.lung[insertion.side]
    distance = np.hypot(side.rows - insertion.place[0], side.columns - column) * side.maps.pixel_mm
    ragged = distance * (1 + 0.25 * side.noise(14))
    extent = 1 / (1 + np.exp(np.clip((ragged - insertion.size / 2) / 4, -30, 30)))
    extent = extent * (lung > LUNG_EDGE_MM)
    filled = np.minimum(lung, 1.6 * insertion.size) * side.generator.uniform(0.35, 0.75)
    added = extent * np.clip(1 + 0.35 * side.noise(44), 0.3, 1.6) * filled * TISSUE_PER_MM * 0.9
    return added.astype(np.float32), extent > 0.4


def _effusion(side: _Side, insertion: Insertion, depth: str) -> tuple[FloatMap, NDArray[np.bool_]] | None:
    if insertion.side is None or not insertion.covered.any():
        return None
    lung = side.maps.lung[insertion.side]
    left, top, right, bottom = side.maps.extent[insertion.side]
    back = np.clip((side.columns - left) / (right - left), 0, 1)
    level = bottom - insertion.size * (bottom - top) * (0.4 + 0.8 * back**2) + side.noise(5) * 1.5
    fluid = 1 / (1 + np.exp(np.clip(-(side.rows - level) / 3, -30, 30))) * (lung > LUNG_EDGE_MM)
    if insertion.severity == "small":
        fluid = fluid * np.clip(back * 1.8 - 0.5, 0, 1)
    path = np.minimum(lung, 140) * TISSUE_PER_MM * side.generator.uniform(0.75, 1.0)
    return (fluid * path).astype(np.float32), fluid > 0.4


def _heart(side: _Side, insertion: Insertion, depth: str) -> tuple[FloatMap, NDArray[np.bool_]] | None:
    maps = side.maps
    left, top, right, bottom = maps.heart_extent
    x, y, size = (left + right) / 2, top * 0.35 + bottom * 0.65, maps.heart.shape[0]
    across = ((side.columns - x) / insertion.size + x + 0.5) * 2 / size - 1
    down = ((side.rows - y) / (1 + (insertion.size - 1) * 0.5) + y + 0.5) * 2 / size - 1
    grid = torch.from_numpy(np.stack([across, down], axis=-1).astype(np.float32))[None]
    scaled = torch.nn.functional.grid_sample(
        torch.from_numpy(maps.heart)[None, None], grid, align_corners=False
    )[0, 0].numpy()
    gained = np.minimum(np.maximum(scaled - maps.heart, 0), maps.lung.sum(axis=0))
    added = (gained * 0.014).astype(np.float32)
    return added, (maps.heart > 20) | (added > 0.2)


def _pacemaker(side: _Side, insertion: Insertion, depth: str) -> tuple[FloatMap, NDArray[np.bool_]] | None:
    if insertion.place is None or insertion.side is None:
        return None
    row = insertion.place[0]
    front = side.maps.extent[insertion.side][0] - side.generator.uniform(2, 12)
    down, across = (side.rows - row) * side.maps.pixel_mm, (side.columns - front) * side.maps.pixel_mm
    can = (down / 20) ** 4 + (across / side.generator.uniform(5, 8)) ** 4 < 1
    return (can * side.generator.uniform(1.8, 3.0)).astype(np.float32), can


_DRAW: dict[str, Callable[[_Side, Insertion, str], tuple[FloatMap, NDArray[np.bool_]] | None]] = {
    "nodule": _nodule,
    "consolidation": _consolidation,
    "pleural_effusion": _effusion,
    "cardiomegaly": _heart,
    "pacemaker": _pacemaker,
}
FIXED_DEPTH = {"pleural_effusion": "posterior", "pacemaker": "anterior"}
HAS_DEPTH = ("nodule", "consolidation")


@dataclass(frozen=True, slots=True)
class LateralInsertion:
    """A finding on the lateral maps; ``depth`` is "" for the heart. ``index`` is that of the frontal's insertion."""

    index: int
    depth: str
    insertion: Insertion


def draw_lateral(
    maps: LateralMaps, placed: list[Insertion], generator: np.random.Generator
) -> list[LateralInsertion]:
    """Those of ``placed`` that have a lateral look, drawn on ``maps``."""
    size = maps.total.shape
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    side, drawn = _Side(maps, generator, rows, columns), []
    for index, insertion in enumerate(placed):
        depth = FIXED_DEPTH.get(insertion.kind, "")
        if insertion.kind in HAS_DEPTH:
            depth = DEPTHS[int(generator.integers(len(DEPTHS)))]
        draw = _DRAW.get(insertion.kind)
        looks = draw(side, insertion, depth) if draw else None
        if looks is not None and looks[1].any():
            added, covered = looks
            one = Insertion(insertion.kind, insertion.side, insertion.severity, "", added, covered)
            drawn.append(LateralInsertion(index, depth, one))
    return drawn
