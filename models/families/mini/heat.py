"""From heat maps to boxes."""

import numpy as np
from numpy.typing import NDArray

from models.family import SeenImage
from pipeline.report import Region, Side

HOT = 0.5
"""A cell is part of a finding from this probability on, or from half the hottest cell's where that is less."""
LEAST = 0.15
"""A map whose hottest cell is below this shows nothing."""
SHARED = 0.2
"""A patch with at least this share of its heat on the lesser side is two findings that touch."""


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logistic function, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), np.float32)


def find_region(heat: NDArray[np.float32], side: Side | None, image: SeenImage) -> Region | None:
    """The box of what a heat map [g, g] of logits shows on ``side`` (None: anywhere), in pixels of the original.

    The patient's right is the left half of the film. Neighbouring hot cells are one patch; it belongs to the side
    that holds its heat, and is cut in the middle where both sides hold a good share. None where the map shows nothing.
    """
    chance = sigmoid(heat)
    hottest = float(_half(chance, side).max())
    if hottest < LEAST:
        return None
    patches = [_own_part(patch, chance, side) for patch in _patches(chance >= min(HOT, hottest / 2))]
    patches = [patch for patch in patches if len(patch)]
    if not patches:
        return None
    warmest = max(patches, key=lambda patch: float(chance[patch[:, 0], patch[:, 1]].sum()))
    (top, left), (bottom, right) = warmest.min(axis=0).tolist(), (warmest.max(axis=0) + 1).tolist()
    across, down = image.columns / chance.shape[1], image.rows / chance.shape[0]
    return Region(image.ref, image.frame, left * across, top * down, right * across, bottom * down)


def _half(chance: NDArray[np.float32], side: Side | None) -> NDArray[np.float32]:
    middle = chance.shape[1] // 2
    if side is Side.RIGHT:
        return chance[:, :middle]
    return chance[:, middle:] if side is Side.LEFT else chance


def _own_part(patch: NDArray[np.intp], chance: NDArray[np.float32], side: Side | None) -> NDArray[np.intp]:
    """The cells of a patch that belong to ``side``: all, none, or those on its half of the film."""
    if side is None:
        return patch
    warmth = chance[patch[:, 0], patch[:, 1]]
    on_side = (patch[:, 1] < chance.shape[1] // 2) == (side is Side.RIGHT)
    share = float(warmth[on_side].sum() / warmth.sum())
    if share < SHARED:
        return patch[:0]
    return patch[on_side] if share < 1 - SHARED else patch


def _patches(hot: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Connected groups of hot cells (with diagonals), each as rows of (row, column)."""
    left = {(int(row), int(column)) for row, column in np.argwhere(hot)}
    patches = []
    while left:
        edge = [left.pop()]
        patch = list(edge)
        while edge:
            row, column = edge.pop()
            near = {(row + down, column + across) for down in (-1, 0, 1) for across in (-1, 0, 1)} & left
            left -= near
            edge += near
            patch += near
        patches.append(np.array(sorted(patch), dtype=np.intp))
    return sorted(patches, key=lambda cells: (-len(cells), cells[0].tolist()))
