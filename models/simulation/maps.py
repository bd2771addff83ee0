"""Organ maps: path lengths through one CT, projected once per pose.

Attenuation adds up along a ray, so a film without noise is a sum of path-length maps. One pose holds the total
attenuation, the thickness of each lung and of the heart in millimetres, and the attenuation each lung adds.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FloatMap = NDArray[np.float32]
MAPS_PATH = Path(__file__).with_name("maps.npz")
LATERAL_PATH = Path(__file__).with_name("lateral_maps.npz")
HELD_OUT_POSES = 4
"""The last poses of the file are never used for training."""

CHANNELS = ("total", "right_lung", "left_lung", "heart", "right_lung_attenuation", "left_lung_attenuation")
FULL_SCALE = (16.0, 320.0, 320.0, 320.0, 4.0, 4.0)
"""Value of code 65535, per channel: attenuation is dimensionless, thickness is in millimetres."""
LUNG_EDGE_MM = 6
"""Thinner lung does not show."""
LATERAL_CHANNELS = CHANNELS[:4]


@dataclass(frozen=True, slots=True)
class PoseMaps:
    """One pose. Index 0 is the patient's right side (the left of the image), 1 the left; maps are [side, size, size].

    ``depth`` is the distance in pixels of a lung pixel from the lung's edge, zero outside. ``extent`` is the bounding
    box of each lung and ``heart_extent`` of the heart, as (x1, y1, x2, y2) in map pixels. ``diaphragm`` is the row
    below which each lung is hidden. ``pixel_mm`` is the size of a map pixel at the middle of the patient.
    """

    total: FloatMap
    thickness: FloatMap
    heart: FloatMap
    lung_attenuation: FloatMap
    depth: FloatMap
    extent: tuple[tuple[float, float, float, float], tuple[float, float, float, float]]
    heart_extent: tuple[float, float, float, float]
    diaphragm: tuple[float, float]
    pixel_mm: float


def edge_distance(inside: NDArray[np.bool_]) -> FloatMap:
    """Euclidean distance in pixels from each inside pixel to the nearest outside pixel; zero outside."""
    height, width = inside.shape
    rows = np.arange(height)
    column = np.full(inside.shape, height + width, np.float32)
    for down in (True, False):
        gap = np.full(width, height + width, np.float32)
        for y in rows if down else rows[::-1]:
            gap = np.where(inside[y], gap + 1, 0).astype(np.float32)
            column[y] = np.minimum(column[y], gap)
    offsets = (np.arange(width)[:, None] - np.arange(width)[None, :]).astype(np.float32) ** 2
    distance: FloatMap = np.sqrt(np.stack([(row**2 + offsets).min(axis=1) for row in column]))
    return distance


def bounding_box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Smallest box (x1, y1, x2, y2) that holds every true pixel; the far edges are exclusive."""
    xs, ys = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)


def diaphragm_row(lung: NDArray[np.bool_], dark: NDArray[np.bool_]) -> int:
    """The row below the last one in which a good part of a lung is dark: what lies lower is hidden on the film."""
    share = (lung & dark).sum(axis=1) / np.maximum(1, lung.sum(axis=1))
    shown = np.flatnonzero(share > 0.3)
    return int(shown[-1]) + 1 if len(shown) else int(np.flatnonzero(lung.any(axis=1))[-1]) + 1


def save_maps(path: Path, channels: FloatMap, pixel_mm: float) -> None:
    """Write ``channels`` [pose, channel, size, size], ordered as ``CHANNELS``, as row differences of 16-bit codes."""
    scale = np.array(FULL_SCALE[: channels.shape[1]], np.float32)[None, :, None, None]
    codes = np.clip(np.rint(channels / scale * 65535), 0, 65535).astype(np.uint16)
    codes[:, 1:4] &= 0xFFC0
    differences = np.diff(codes, axis=-1, prepend=np.uint16(0)).astype(np.uint16)
    np.savez_compressed(
        path,
        high=(differences >> 8).astype(np.uint8),
        low=(differences & 255).astype(np.uint8),
        pixel_mm=np.float32(pixel_mm),
    )


@lru_cache(maxsize=2)
def _stored(path: Path) -> tuple[NDArray[np.uint16], float]:
    with np.load(path, allow_pickle=False) as stored:
        differences = (stored["high"].astype(np.uint16) << 8) | stored["low"]
        return np.cumsum(differences, axis=-1, dtype=np.uint16), float(stored["pixel_mm"])


def pose_count(path: Path = MAPS_PATH) -> int:
    """Number of poses in the file, the held-out ones included."""
    return len(_stored(path)[0])


@lru_cache(maxsize=64)
def load_pose(index: int, path: Path = MAPS_PATH) -> PoseMaps:
    """Maps of one pose, ready to render from. Raises IndexError outside ``pose_count``."""
    codes, pixel_mm = _stored(path)
    scale = np.array(FULL_SCALE, np.float32)[:, None, None] / np.float32(65535)
    channels = codes[index].astype(np.float32) * scale
    thickness = channels[1:3]
    depth = np.stack([edge_distance(thickness[side] > 6) for side in (0, 1)])
    aerated, cardiac = depth.max(axis=0) > 12, channels[3] > 60
    dark = channels[0] < (np.median(channels[0][aerated]) + np.median(channels[0][cardiac])) / 2
    return PoseMaps(
        total=channels[0],
        thickness=thickness,
        heart=channels[3],
        lung_attenuation=channels[4:6],
        depth=depth,
        extent=(bounding_box(depth[0] > 0), bounding_box(depth[1] > 0)),
        heart_extent=bounding_box(channels[3] > 20),
        diaphragm=(float(diaphragm_row(depth[0] > 0, dark)), float(diaphragm_row(depth[1] > 0, dark))),
        pixel_mm=pixel_mm,
    )


@dataclass(frozen=True, slots=True)
class LateralMaps:
    """One pose from the side, the front of the patient on the left; a row is at the height of the frontal's row.

    ``total`` attenuation, ``lung`` [side, size, size] and ``heart`` in millimetres, extents as in PoseMaps.
    """

    total: FloatMap
    lung: FloatMap
    heart: FloatMap
    extent: tuple[tuple[float, float, float, float], tuple[float, float, float, float]]
    heart_extent: tuple[float, float, float, float]
    pixel_mm: float


@lru_cache(maxsize=64)
def load_lateral(index: int, path: Path = LATERAL_PATH) -> LateralMaps:
    """Lateral maps of the pose that :func:`load_pose` gives from the front."""
    codes, pixel_mm = _stored(path)
    scale = np.array(FULL_SCALE[: len(LATERAL_CHANNELS)], np.float32)[:, None, None] / np.float32(65535)
    channels = codes[index].astype(np.float32) * scale
    lung, heart = channels[1:3], channels[3]
    extent = (bounding_box(lung[0] > LUNG_EDGE_MM), bounding_box(lung[1] > LUNG_EDGE_MM))
    return LateralMaps(channels[0], lung, heart, extent, bounding_box(heart > 20), pixel_mm)
