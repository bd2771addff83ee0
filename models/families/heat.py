"""From heat maps to boxes."""

import numpy as np
from numpy.typing import NDArray

from models.families import SeenImage
from pipeline.report import Region, Side

HOT = 0.5
"""A cell is part of a finding from this probability on, or from half the hottest cell's where that is
less.
"""
LEAST = 0.15
"""A map whose hottest cell is below this shows nothing."""


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logistic function, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), np.float32)


def find_region(heat: NDArray[np.float32], side: Side | None, image: SeenImage) -> Region | None:
    """The box of what a heat map [g, g] of logits shows on ``side`` (None: anywhere), in pixels of the
    original.

    The patient's right is the left half of the film. Neighbouring hot cells belong together, and lie on the
    side where most of their heat is. None where the map shows nothing there.
    """
    chance = sigmoid(heat)
    cells = chance.shape[1]
    hottest = float(_half(chance, side).max())
    if hottest < LEAST:
        return None
    best: tuple[float, NDArray[np.intp]] | None = None
    for patch in _patches(chance >= min(HOT, hottest / 2)):
        weight = chance[patch[:, 0], patch[:, 1]]
        middle = float((patch[:, 1] * weight).sum() / weight.sum()) + 0.5
        if side in (Side.LEFT, Side.RIGHT) and (middle < cells / 2) != (side is Side.RIGHT):
            continue
        mass = float(weight.sum())
        if best is None or mass > best[0]:
            best = mass, patch
    if best is None:
        return None
    (top, left), (bottom, right) = best[1].min(axis=0), best[1].max(axis=0) + 1
    across, down = image.columns / cells, image.rows / chance.shape[0]
    box = (left * across, top * down, right * across, bottom * down)
    return Region(image.ref, image.frame, *(float(edge) for edge in box))


def _half(chance: NDArray[np.float32], side: Side | None) -> NDArray[np.float32]:
    middle = chance.shape[1] // 2
    if side is Side.RIGHT:
        return chance[:, :middle]
    return chance[:, middle:] if side is Side.LEFT else chance


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
