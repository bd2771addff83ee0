"""Lesions and devices as additions to the path-length maps of a chest, before noise and window.

Every function draws one finding on one side and gives an :class:`Insertion`: what it adds to the attenuation map, and
where. Attenuation of soft tissue is about 0.0185 per millimetre on the scale of the maps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from models.simulation.maps import FloatMap, PoseMaps
from models.vocabulary.english import SEVERITIES

RIGHT, LEFT = 0, 1
TISSUE_PER_MM = 0.0185
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Insertion:
    """One finding on one side: what it adds to the attenuation map and the pixels it covers."""

    kind: str
    side: int | None
    severity: str
    zone: str
    added: FloatMap
    covered: Mask
    place: tuple[float, float] | None = None
    size: float = 0.0


class Chest:
    """A pose on which findings are being placed; ``air`` is the lung thickness in mm that still holds air.

    ``scale`` and ``place`` draw a finding again at another size and at a known point (row, column).
    """

    def __init__(
        self,
        maps: PoseMaps,
        generator: np.random.Generator,
        scale: float = 1.0,
        place: tuple[float, float] | None = None,
    ) -> None:
        """Start from the healthy maps."""
        self.maps, self.generator, self.scale, self.place = maps, generator, scale, place
        self.air = maps.thickness.copy()
        height, width = maps.total.shape
        self.rows, self.columns = np.mgrid[0:height, 0:width].astype(np.float32)

    def smooth_noise(self, cells: int) -> FloatMap:
        """Normal noise [map size] that varies over ``cells`` cells across the field."""
        coarse = torch.from_numpy(self.generator.standard_normal((1, 1, cells, cells)).astype(np.float32))
        size = self.maps.total.shape
        fine = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic", align_corners=False)
        smooth: FloatMap = fine[0, 0].numpy()
        return smooth

    def lateral(self, side: int) -> FloatMap:
        """0 at the inner edge of a lung to 1 at its outer edge."""
        left, _, right, _ = self.maps.extent[side]
        fraction = (self.columns - left) / (right - left)
        outward: FloatMap = np.clip(1 - fraction if side == RIGHT else fraction, 0, 1).astype(np.float32)
        return outward

    def zone(self, row: float, side: int) -> str:
        """Upper, mid or lower third of the lung's height above the diaphragm."""
        top, bottom = self.maps.extent[side][1], self.maps.diaphragm[side]
        fraction = (row - top) / max(1.0, bottom - top)
        return "upper" if fraction < 0.36 else "mid" if fraction < 0.68 else "lower"

    def draw_size(
        self, ranges: tuple[tuple[float, float], ...], shares: tuple[float, ...]
    ) -> tuple[int, float]:
        """Pick a range by its share, then a size within it: (index of the range, size)."""
        index = int(self.generator.choice(len(ranges), p=shares))
        return index, float(self.generator.uniform(*ranges[index])) * self.scale

    def lung_point(self, side: int, margin_mm: float) -> tuple[float, float] | None:
        """A random (row, column) at least ``margin_mm`` inside an aerated part of a lung, or None if there is none."""
        maps = self.maps
        inside = (maps.depth[side] * maps.pixel_mm > margin_mm) & (self.air[side] > 55)
        dense = maps.total > np.quantile(maps.total[::4, ::4], 0.62)
        inside &= ~dense if self.generator.random() < 0.95 else maps.heart < 25
        rows, columns = np.nonzero(inside)
        if not len(rows):
            return None
        chosen = int(self.generator.integers(len(rows)))
        if self.place is not None:
            return self.place
        return float(rows[chosen]), float(columns[chosen])


def _sigmoid(values: FloatMap) -> FloatMap:
    return (1 / (1 + np.exp(-np.clip(values, -30, 30)))).astype(np.float32)


def nodule(chest: Chest, side: int) -> Insertion | None:
    """A round opacity of 12 to 55 mm, its path length that of a slightly dented ball."""
    place, generator = chest.lung_point(side, 8.0), chest.generator
    if place is None:
        return None
    row, column = place
    index, diameter = chest.draw_size(((12, 17), (17, 30), (30, 55)), (0.3, 0.42, 0.28))
    radius = diameter / 2
    down, across = (chest.rows - row) * chest.maps.pixel_mm, (chest.columns - column) * chest.maps.pixel_mm
    window = (np.abs(down) < 2 * radius) & (np.abs(across) < 2 * radius)
    box = np.ix_(window.any(axis=1), window.any(axis=0))
    down, across = down[box], across[box]
    angle, phase = np.arctan2(down, across), generator.uniform(0, 2 * np.pi, 3)
    dents = (
        1
        + 0.08 * np.sin(2 * angle + phase[0])
        + 0.05 * np.sin(3 * angle + phase[1])
        + 0.03 * np.sin(5 * angle + phase[2])
    )
    distance = np.hypot(down * generator.uniform(0.85, 1.18), across) * dents
    path = 2 * np.sqrt(np.maximum(radius**2 - distance**2, 0))
    added, covered = np.zeros_like(chest.rows), np.zeros(chest.rows.shape, bool)
    added[box] = np.minimum(path, 60) * TISSUE_PER_MM * generator.uniform(0.9, 1.4)
    covered[box] = path > 0
    severity = SEVERITIES["nodule"][index]
    return Insertion("nodule", side, severity, chest.zone(row, side), added, covered, place, diameter)


def consolidation(chest: Chest, side: int) -> Insertion | None:
    """A patch of 35 to 100 mm with a ragged edge and uneven density, within the lung."""
    place, generator, maps = chest.lung_point(side, 8.0), chest.generator, chest.maps
    if place is None:
        return None
    row, column = place
    index, diameter = chest.draw_size(((35, 55), (55, 75), (75, 100)), (0.32, 0.4, 0.28))
    distance = (
        np.hypot((chest.rows - row) * generator.uniform(0.75, 1.3), chest.columns - column) * maps.pixel_mm
    )
    ragged = distance * (1 + 0.25 * chest.smooth_noise(14))
    extent = _sigmoid((diameter / 2 - ragged) / 4) * (maps.depth[side] > 0)
    texture = np.clip(1 + 0.35 * chest.smooth_noise(44), 0.3, 1.6)
    filled = np.minimum(chest.air[side], 1.6 * diameter) * generator.uniform(0.35, 0.75)
    added = (extent * texture * filled * TISSUE_PER_MM * 0.9).astype(np.float32)
    covered = extent > 0.4
    if not covered.any():
        return None
    zone = chest.zone(float(np.average(chest.rows[covered])), side)
    severity = SEVERITIES["consolidation"][index]
    return Insertion("consolidation", side, severity, zone, added, covered, place, diameter)


def pleural_effusion(chest: Chest, side: int) -> Insertion | None:
    """Fluid below a level that climbs to the outer wall; a small one only fills the outer angle."""
    generator, maps = chest.generator, chest.maps
    _, top, _, bottom = maps.extent[side]
    height = bottom - top
    index, filled = chest.draw_size(((0.10, 0.18), (0.18, 0.34), (0.34, 0.6)), (0.34, 0.4, 0.26))
    filled = min(filled, 0.8)
    lateral = chest.lateral(side)
    level = (
        bottom
        - filled * height * (1.0 if index == 0 else 0.8)
        - lateral**2.2 * height * generator.uniform(0.08, 0.2)
    )
    fluid = _sigmoid((chest.rows - level - chest.smooth_noise(5) * 1.5) / float(generator.uniform(2, 5)))
    fluid = fluid * (maps.depth[side] > 0)
    if index == 0:
        fluid = fluid * np.clip(lateral * 1.8 - 0.5, 0, 1)
    rounded = np.clip(maps.depth[side] * maps.pixel_mm / 14, 0, 1)
    path = np.maximum(chest.air[side], 60 * rounded) * TISSUE_PER_MM * generator.uniform(0.75, 1.0)
    chest.air[side] *= 1 - fluid
    severity = SEVERITIES["pleural_effusion"][index]
    added = (fluid * path).astype(np.float32)
    return Insertion("pleural_effusion", side, severity, "", added, fluid > 0.4, None, filled)


def pneumothorax(chest: Chest, side: int) -> Insertion | None:
    """A rim of air without lung markings, widest at the apex, with a thin pleural line and a denser lung beside it."""
    generator, maps = chest.generator, chest.maps
    _, top, _, bottom = maps.extent[side]
    index, rim_mm = chest.draw_size(((10, 17), (17, 30), (30, 55)), (0.34, 0.4, 0.26))
    climb = np.clip((bottom - chest.rows) / (bottom - top), 0, 1)
    lateral, depth = chest.lateral(side), maps.depth[side]
    rim = (
        rim_mm / maps.pixel_mm * climb ** generator.uniform(0.5, 1.0) * np.clip(0.35 + lateral * 1.2, 0, 1.25)
    )
    rim = rim * (1 + 0.08 * chest.smooth_noise(6)) + 2 * (climb > 0.75)
    rim = np.where((lateral < 0.18) & (climb < 0.8), 0, rim)
    air = (depth < rim) & (depth > 0)
    lung = depth > 0
    share = air.sum() / max(1, lung.sum())
    markings = maps.lung_attenuation[side]
    added = -(air * markings) * generator.uniform(0.85, 1.0) + (lung & ~air) * markings * min(
        1.2, share * 1.3
    )
    line = np.exp(-(((depth - rim) / 0.9) ** 2)) * lung * (rim > 1.5) * (climb > 0.25)
    added = (added + line * generator.uniform(0.15, 0.35)).astype(np.float32)
    return Insertion("pneumothorax", side, SEVERITIES["pneumothorax"][index], "", added, air)


def heart_scaled(chest: Chest, factor: float) -> FloatMap:
    """What the attenuation map gains (or loses) when the heart is ``factor`` times as wide, in the lung beside it."""
    maps = chest.maps
    left, top, right, bottom = maps.heart_extent
    centre_x, centre_y = left * 0.62 + right * 0.38, top * 0.35 + bottom * 0.65
    tall = 1 + (factor - 1) * 0.5
    height, width = maps.heart.shape
    across = ((chest.columns - centre_x) / factor + centre_x + 0.5) * 2 / width - 1
    down = ((chest.rows - centre_y) / tall + centre_y + 0.5) * 2 / height - 1
    grid = torch.from_numpy(np.stack([across, down], axis=-1).astype(np.float32))[None]
    source = torch.from_numpy(maps.heart)[None, None]
    scaled = torch.nn.functional.grid_sample(source, grid, align_corners=False)[0, 0].numpy()
    gained = np.minimum(np.maximum(scaled - maps.heart, 0), chest.air.sum(axis=0))
    added: FloatMap = gained * 0.016 - np.maximum(maps.heart - scaled, 0) * 0.012
    return added


def cardiomegaly(chest: Chest, side: int) -> Insertion | None:
    """A heart 1.25 to 1.6 times as wide; ``side`` is ignored."""
    index, factor = chest.draw_size(((1.25, 1.35), (1.35, 1.46), (1.46, 1.6)), (0.34, 0.36, 0.3))
    factor = 1 + (factor / chest.scale - 1) * chest.scale
    added = heart_scaled(chest, factor)
    covered = (chest.maps.heart > 20) | (added > 0.2)
    severity = SEVERITIES["cardiomegaly"][index]
    return Insertion("cardiomegaly", None, severity, "", added, covered, None, factor)


def _curve(
    start: tuple[float, float], bend: tuple[float, float], end: tuple[float, float]
) -> NDArray[np.float64]:
    t = np.linspace(0, 1, 16)[:, None] * np.ones(2)
    points: NDArray[np.float64] = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
    return points


def _wire(chest: Chest, points: NDArray[np.float64], width: float) -> FloatMap:
    height, columns = chest.rows.shape
    canvas = Image.new("L", (2 * columns, 2 * height))
    line = [(2 * float(x), 2 * float(y)) for x, y in points]
    ImageDraw.Draw(canvas).line(line, fill=255, width=max(1, round(2 * width)), joint="curve")
    fine = np.asarray(canvas, dtype=np.float32) / 255
    wire: FloatMap = fine.reshape(height, 2, columns, 2).mean(axis=(1, 3))
    return wire


def _veins(chest: Chest) -> tuple[float, float, float]:
    """Column of the superior vena cava, row of the heart's top and the heart's height, in map pixels."""
    left, top, right, bottom = chest.maps.heart_extent
    return left + 0.13 * (right - left), top, bottom - top


def pacemaker(chest: Chest, side: int) -> Insertion | None:
    """A metal can below the collar bone and a lead through the superior vena cava into the heart."""
    generator, maps = chest.generator, chest.maps
    left, top, right, bottom = maps.extent[side]
    fraction = generator.uniform(0.45, 0.8)
    x = left + (right - left) * (1 - fraction if side == RIGHT else fraction)
    y = top + (bottom - top) * generator.uniform(0.1, 0.26)
    tilt = generator.uniform(-0.4, 0.4)
    across, down = (chest.columns - x) * maps.pixel_mm, (chest.rows - y) * maps.pixel_mm
    u = (across * np.cos(tilt) + down * np.sin(tilt)) / generator.uniform(19, 25)
    v = (-across * np.sin(tilt) + down * np.cos(tilt)) / generator.uniform(16, 22)
    can = u**4 + v**4 < 1
    vein, heart_top, heart_height = _veins(chest)
    heart_left, _, heart_right, heart_bottom = maps.heart_extent
    entry = (vein, top + (bottom - top) * 0.3)
    tip = (
        heart_left + (heart_right - heart_left) * generator.uniform(0.45, 0.8),
        heart_bottom - generator.uniform(4, 14),
    )
    lead = np.concatenate(
        [
            _curve((x, y), ((x + vein) / 2, top - 6), entry),
            _curve(entry, (vein - 4, heart_top + heart_height), tip),
        ]
    )
    added = can * generator.uniform(1.5, 3.0) + _wire(chest, lead, 1.6) * generator.uniform(0.4, 0.7)
    return Insertion("pacemaker", side, "", "", added.astype(np.float32), can, (y, x))


def central_venous_catheter(chest: Chest, side: int) -> Insertion | None:
    """A thin line from the neck or the collar bone down the superior vena cava."""
    generator, maps = chest.generator, chest.maps
    left, top, right, bottom = maps.extent[side]
    vein, heart_top, heart_height = _veins(chest)
    vein += generator.uniform(-3, 3)
    outward = -1 if side == RIGHT else 1
    start = (
        (left + right) / 2 + outward * generator.uniform(-10, 24),
        max(2.0, top - generator.uniform(2, 16)),
    )
    middle = top + 0.2 * (bottom - top)
    tip_row = heart_top + generator.uniform(0.0, 0.35) * heart_height
    line = np.concatenate(
        [
            _curve(start, ((start[0] + vein) / 2, middle - 2), (vein, middle + 7)),
            _curve((vein, middle + 7), (vein - 1, tip_row - 6), (vein + generator.uniform(-1, 2), tip_row)),
        ]
    )
    added = _wire(chest, line, generator.uniform(1.4, 2.2))
    covered = added > 0.3
    return Insertion(
        "central_venous_catheter", side, "", "", added * np.float32(generator.uniform(0.4, 0.75)), covered
    )


DRAW: dict[str, Callable[[Chest, int], Insertion | None]] = {
    "nodule": nodule,
    "consolidation": consolidation,
    "pleural_effusion": pleural_effusion,
    "pneumothorax": pneumothorax,
    "cardiomegaly": cardiomegaly,
    "pacemaker": pacemaker,
    "central_venous_catheter": central_venous_catheter,
}
"""How each kind is drawn on one side."""
