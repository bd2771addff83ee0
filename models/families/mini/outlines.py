"""What the outlines of lungs and heart on a film measure: how large the heart is, and how each zone of a lung looks.

The outlines are those of ``models.networks.outlines``; the cardiothoracic ratio is Danzer's (American Journal of the
Medical Sciences 157, 1919): the greatest width of the heart by that of the chest inside the ribs.
"""

import numpy as np
from numpy.typing import NDArray

ZONES = 3
"""Parts of equal height that each lung is cut into, upper, middle and lower."""
TOP = 3
"""Cells of a row or column that have to be of an organ for it to reach there."""
LEAST = 1e-3
Floats = NDArray[np.float32]
Array = NDArray[np.float64]


def measure_outlines(logits: NDArray[np.float32], films: NDArray[np.float32]) -> Floats:
    """Measures [n, m] of films [n, S, S], 0..1, by ``logits`` [n, parts, c, c] of their outlines.

    Lengths are in widths or heights of the chest, areas in both; greys in standard deviations from the mean of lungs
    and heart, detail in logarithms. The first is the cardiothoracic ratio. What both lungs have is told as the greater,
    the lesser and their difference: a disease is the same on either side.
    """
    told = [_measure(one.astype(np.float64), film) for one, film in zip(logits, films, strict=True)]
    return np.stack(told).astype(np.float32)


def _chances(logits: Array) -> Array:
    spread = np.exp(logits - logits.max(axis=0))
    chances: Array = spread / spread.sum(axis=0)
    return chances


def _reach(chance: Array, axis: int) -> tuple[float, float]:
    """First and last place along the columns (``axis`` 0) or rows (1) that an organ reaches, in cells and parts."""
    profile = np.partition(chance, -TOP, axis=axis).take(range(-TOP, 0), axis=axis).mean(axis=axis)
    inside = np.flatnonzero(profile >= 0.5)
    if not len(inside):
        return 0.3 * len(profile), 0.7 * len(profile)
    padded = np.concatenate([[0.0], profile, [0.0]])
    first, last = int(inside[0]), int(inside[-1])
    low = first + 0.5 - (padded[first + 1] - 0.5) / (padded[first + 1] - padded[first] + 1e-6)
    high = last + 0.5 + (padded[last + 1] - 0.5) / (padded[last + 1] - padded[last + 2] + 1e-6)
    return float(low), float(high)


def _measure(logits: Array, film: NDArray[np.float32]) -> Array:
    """Measures [m] of one film."""
    chances = _chances(logits)
    cells = chances.shape[-1]
    step = film.shape[0] // cells
    squares = film.astype(np.float64).reshape(cells, step, cells, step)
    greys, detail = squares.mean(axis=(1, 3)), squares.std(axis=(1, 3))
    right, left, heart = chances[1:]
    lungs = right + left
    x0, x1 = _reach(lungs, 0)
    y0, y1 = _reach(lungs, 1)
    wide, high = max(x1 - x0, 1.0), max(y1 - y0, 1.0)
    h0, h1 = _reach(heart, 0)
    top, bottom = _reach(heart, 1)
    middle = (_reach(right, 0)[1] + _reach(left, 0)[0]) / 2
    size, air = heart.sum(), max(lungs.sum(), 1.0)
    shape = [
        (h1 - h0) / wide,
        size / air,
        size / (wide * high),
        size**0.5 / wide,
        (h1 - x0) / wide,
        (h0 - x0) / wide,
        (h1 - middle) / wide,
        (middle - h0) / wide,
        (bottom - top) / high,
        (h1 - h0) / high,
        high / wide,
        wide / cells,
        high / cells,
        air / (wide * high),
    ]
    body = lungs + heart
    mean = (greys * body).sum() / max(body.sum(), 1.0)
    spread = (np.square(greys - mean) * body).sum() / max(body.sum(), 1.0)
    even = (greys - mean) / (spread**0.5 + LEAST)
    rough = np.log(detail + LEAST)
    sides = np.stack(
        [
            _lung(chance, even, rough, (wide, y0, high), outward)
            for chance, outward in ((right, 1), (left, -1))
        ]
    )
    whole = [mean, spread**0.5, (even * heart).sum() / max(size, 1.0), (even * lungs).sum() / air]
    doubt = [-(chances * np.log(chances + 1e-6)).sum(axis=0).mean()]
    return np.concatenate(
        [shape, whole, doubt, sides.max(axis=0), sides.min(axis=0), np.abs(sides[0] - sides[1])]
    )


def _lung(chance: Array, even: Array, rough: Array, chest: tuple[float, float, float], outward: int) -> Array:
    """Measures of one lung: extent, how far its outer base stays above the chest's, and greys and detail of its zones.

    ``chest`` is its width, upper edge and height in cells; ``outward`` 1 where the film's left is outward.
    """
    wide, y0, high = chest
    low, far = _reach(chance, 0)
    top, bottom = _reach(chance, 1)
    across = np.arange(chance.shape[1]) + 0.5
    inward = across - low if outward > 0 else far - across
    outer = inward < (far - low) / 2
    down = np.clip((np.arange(chance.shape[0]) + 0.5 - top) / max(bottom - top, 1.0) * ZONES, 0, ZONES - 0.01)
    rows = np.eye(ZONES)[down.astype(int)].T
    halves = np.stack([np.ones_like(outer), outer]).astype(np.float64)
    weights = np.einsum("zr,hc,rc->zhrc", rows, halves, chance).reshape(2 * ZONES, -1)
    area = weights.sum(axis=1)
    share = weights / np.maximum(area, 1.0)[:, None]
    grey, flat = share @ even.ravel(), share @ rough.ravel()
    unrest = np.sqrt(np.maximum(share @ np.square(even.ravel()) - np.square(grey), 0))
    edge = _reach(chance * outer, 1)[1]
    inner = _reach(chance * ~outer, 1)[1]
    size = [
        chance.sum() / (wide * high),
        (bottom - top) / high,
        (far - low) / wide,
        (y0 + high - edge) / high,
        (inner - edge) / high,
        (y0 + high - bottom) / high,
    ]
    return np.concatenate([size, area / (wide * high), grey, unrest, flat])
