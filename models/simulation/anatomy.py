"""Organs and landmarks of a chest, and where they come to lie on a film."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.simulation.film import FilmView, warp
from models.simulation.lesions import LEFT, RIGHT
from models.simulation.maps import FloatMap, PoseMaps, bounding_box
from models.vocabulary.task_words import ORGANS

Box = tuple[int, int, int, int]
Point = tuple[float, float]
HEART_MM = 20
OUTER, DOME = 0.62, (0.42, 0.78)
"""Shares of a lung's width, from its inner edge: where the costophrenic angle and the dome are looked for."""
FARTHEST = 0.02
"""A landmark that no film pixel comes nearer to (of the maps' width, from -1 to 1) is not on the film."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Masks [organ, size, size] in the order of ``ORGANS``, and landmarks as (x, y) in map pixels."""

    masks: FloatMap
    landmarks: Mapping[str, Point]


@dataclass(frozen=True, slots=True)
class FilmAnatomy:
    """Boxes (x1, y1, x2, y2) and points (x, y) in film pixels; what is not on the film is left out."""

    organs: Mapping[str, Box]
    landmarks: Mapping[str, Point]


def _outward(maps: PoseMaps, side: int) -> FloatMap:
    left, _, right, _ = maps.extent[side]
    share = (np.arange(maps.total.shape[1], dtype=np.float32) - left) / (right - left)
    outward: FloatMap = np.clip(1 - share if side == RIGHT else share, 0, 1).astype(np.float32)
    return outward


def _lowest(lung: NDArray[np.bool_], columns: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Columns that hold lung, and the lowest lung row of each."""
    held = np.flatnonzero(lung.any(axis=0) & columns)
    return held, lung.shape[0] - 1 - np.argmax(lung[::-1, held], axis=0)


def read_anatomy(maps: PoseMaps, heart: NDArray[np.bool_] | None = None) -> Anatomy:
    """Organs and landmarks of ``maps``; ``heart`` is the mask of an enlarged one."""
    lungs = maps.depth > 0
    heart = maps.heart > HEART_MM if heart is None else heart
    deep, cardiac = maps.depth.max(axis=0) > 12, maps.heart > 60
    shade = (np.median(maps.total[deep]) + np.median(maps.total[cardiac])) / 2 if deep.any() else 0.0
    masks, points = [], {}
    for side, name in ((RIGHT, "right"), (LEFT, "left")):
        lung, outward = lungs[side], _outward(maps, side)
        shown = lung & (maps.total < shade)
        top = int(np.flatnonzero(lung.any(axis=1))[0])
        points[f"{name}_apex"] = (float(np.flatnonzero(lung[top : top + 4].any(axis=0)).mean()), float(top))
        bottom = float(maps.diaphragm[side])
        held, rows = _lowest(shown, outward > OUTER)
        if len(held):
            lowest = int(np.argmax(rows))
            bottom = float(rows[lowest])
            points[f"{name}_costophrenic_angle"] = (float(held[lowest]), bottom)
        held, rows = _lowest(shown, (outward > DOME[0]) & (outward < DOME[1]))
        if len(held) > 4:
            smooth = np.convolve(rows, np.ones(5) / 5, "valid")
            highest = int(np.argmin(smooth))
            points[f"{name}_hemidiaphragm"] = (float(held[highest + 2]), float(smooth[highest]))
        cut = lung.copy()
        cut[int(bottom) + 2 :] = False
        masks.append(cut)
    masks.append(heart)
    _, up, right, down = bounding_box(heart)
    lower = heart.copy()
    lower[: int(up + 0.45 * (down - up))] = False
    xs = np.nonzero(lower)[1]
    tip = float(xs.max()) if len(xs) else right
    at = np.nonzero(lower[:, int(tip)])[0]
    points["cardiac_apex"] = (tip, float(at.mean()) if len(at) else down)
    inner = (maps.extent[RIGHT][2] + maps.extent[LEFT][0]) / 2
    points["carina"] = (inner, maps.heart_extent[1] - 0.02 * (maps.heart_extent[3] - maps.heart_extent[1]))
    return Anatomy(np.stack(masks).astype(np.float32), points)


def show_anatomy(anatomy: Anatomy, view: FilmView) -> FilmAnatomy:
    """Where the organs and landmarks of a chest lie on the film of ``view``."""
    shown = warp(anatomy.masks, view) > 0.5
    organs: dict[str, Box] = {}
    for name, mask in zip(ORGANS, shown, strict=True):
        if mask.any():
            x1, y1, x2, y2 = (int(edge) for edge in bounding_box(mask))
            organs[name] = (x1, y1, x2, y2)
    grid = view.grid.numpy()
    width = anatomy.masks.shape[-1]
    landmarks: dict[str, Point] = {}
    for name, (x, y) in anatomy.landmarks.items():
        at = np.array([(x + 0.5) * 2 / width - 1, (y + 0.5) * 2 / width - 1], np.float32)
        distance = np.square(grid - at).sum(axis=-1)
        nearest = int(distance.argmin())
        if distance.flat[nearest] < FARTHEST**2:
            row, column = divmod(nearest, grid.shape[1])
            landmarks[name] = (column + 0.5, row + 0.5)
    return FilmAnatomy(organs, landmarks)
