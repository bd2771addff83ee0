"""Text that is drawn into the pixels near the edges of a film, told by its form; no letter is read.

A line of text is a row of strokes: thin, of one brightness, sharper than anatomy, of equal height, on one line, close
together. What was measured: docs/security.md. Handwriting, text across the lungs and a single letter are not found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

STROKE: Final = 11
"""Widest stroke, in pixels."""
CONTRAST: Final = 64
"""Least difference between a stroke and what it is drawn on, of 255."""
LEAST_HEIGHT: Final = 5
MOST_HEIGHT: Final = 72
LEAST_LETTERS: Final = 4
"""A marker of side has fewer."""
EDGE: Final = 0.3
"""Part of the film, from each edge, in which text is looked for."""
_MARGIN: Final = 0.35

Box = tuple[int, int, int, int]
Grey = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Glyph:
    """Strokes that hang together: x0, y0, x1, y1 (outside the box), and how many pixels they are."""

    x0: int
    y0: int
    x1: int
    y1: int
    count: int

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    @property
    def width(self) -> int:
        return self.x1 - self.x0


def text_boxes(pixels: NDArray[np.float32]) -> tuple[Box, ...]:
    """Boxes (x0, y0, x1, y1, the last two outside) around the lines of text in ``pixels`` of 0..1.

    ``pixels`` is [rows, columns], or [rows, columns, 3]: letters in a colour stand out in one of its channels.
    """
    eight = (np.clip(pixels, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
    channels = [eight] if eight.ndim == 2 else [np.ascontiguousarray(eight[..., one]) for one in range(3)]
    found = {box for grey in channels for one in (grey, 255 - grey) for box in _lines(_glyphs(one))}
    return tuple(sorted(found, key=lambda box: (box[1], box[0])))


def without_text(pixels: NDArray[np.float32], boxes: Sequence[Box]) -> NDArray[np.float32]:
    """A copy of ``pixels`` in which the ``boxes`` are black."""
    masked = pixels.copy()
    for x0, y0, x1, y1 in boxes:
        masked[y0:y1, x0:x1] = 0.0
    return masked


def _glyphs(grey: Grey) -> list[_Glyph]:
    rows, columns = grey.shape
    strokes = grey.astype(np.int16) - _opened(grey) >= CONTRAST
    top, left = round(rows * EDGE), round(columns * EDGE)
    strokes[top : rows - top, left : columns - left] = False
    return [
        one
        for one in _components(strokes)
        if LEAST_HEIGHT <= one.height <= MOST_HEIGHT
        and one.width <= 6 * one.height
        and 0.12 * one.height * one.width <= one.count
        and not (one.count > 0.9 * one.height * one.width and one.width > one.height)
    ]


def _lines(glyphs: list[_Glyph]) -> Iterator[Box]:
    """Boxes around rows of glyphs; each is put to the row that ends nearest to its left."""
    rows: list[list[_Glyph]] = []
    for glyph in sorted(glyphs, key=lambda one: one.x0):
        fitting = [row for row in rows if _follows(row[-1], glyph)]
        if fitting:
            max(fitting, key=lambda row: row[-1].x1).append(glyph)
        else:
            rows.append([glyph])
    for row in rows:
        letters = sum(max(1.0, one.width / (0.8 * one.height)) for one in row)
        if len(row) >= 3 and letters >= LEAST_LETTERS and _is_even(row):
            margin = round(_MARGIN * max(one.height for one in row)) + 1
            yield (
                max(0, min(one.x0 for one in row) - margin),
                max(0, min(one.y0 for one in row) - margin),
                max(one.x1 for one in row) + margin,
                max(one.y1 for one in row) + margin,
            )


def _follows(last: _Glyph, glyph: _Glyph) -> bool:
    overlap = min(last.y1, glyph.y1) - max(last.y0, glyph.y0)
    low, high = sorted((last.height, glyph.height))
    gap = glyph.x0 - last.x1
    return overlap >= 0.6 * low and high <= 2.2 * low and -0.3 * high <= gap <= 1.5 * high


def _is_even(row: list[_Glyph]) -> bool:
    """Whether most of the row is of one height on one line, as letters are."""
    heights = np.array([one.height for one in row])
    bottoms = np.array([one.y1 for one in row])
    usual, base = float(np.median(heights)), float(np.median(bottoms))
    return bool(np.mean((abs(heights - usual) <= 0.35 * usual) & (abs(bottoms - base) <= 0.3 * usual)) >= 0.7)


def _opened(grey: Grey) -> NDArray[np.int16]:
    """``grey`` without bright things narrower than ``STROKE``: the least of a square about each, then the most."""
    opened = grey
    for axis in (0, 1):
        opened = _running(opened, axis, np.minimum)
    for axis in (0, 1):
        opened = _running(opened, axis, np.maximum)
    return opened.astype(np.int16)


def _running(values: Grey, axis: int, pick: np.ufunc) -> Grey:
    """The least or most of the ``STROKE`` values about each along ``axis``."""
    half = STROKE // 2
    padded = np.pad(values, [(half, half) if one == axis else (0, 0) for one in range(2)], mode="edge")
    length = values.shape[axis]
    picked = None
    for start in range(STROKE):
        part = padded[start : start + length] if axis == 0 else padded[:, start : start + length]
        picked = part.copy() if picked is None else pick(picked, part, out=picked)
    assert picked is not None
    return picked


def _components(mask: NDArray[np.bool_]) -> list[_Glyph]:
    """The connected parts of ``mask`` (8 neighbours), by the runs of its rows."""
    rows, columns = mask.shape
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    begins_row, begins = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    parent = list(range(len(begins)))

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    first = np.searchsorted(begins_row, np.arange(rows + 1))
    start, stop = begins.tolist(), ends.tolist()
    for row in range(1, rows):
        above, here = int(first[row - 1]), int(first[row])
        while above < first[row] and here < first[row + 1]:
            if start[above] <= stop[here] and start[here] <= stop[above]:
                parent[root(here)] = root(above)
            if stop[above] < stop[here]:
                above += 1
            else:
                here += 1
    if not parent:
        return []
    roots = np.array([root(one) for one in range(len(parent))])
    order = np.unique(roots, return_inverse=True)[1]
    count = int(order.max()) + 1
    x0, y0 = np.full(count, columns), np.full(count, rows)
    x1, y1, size = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.int64)
    np.minimum.at(x0, order, begins)
    np.maximum.at(x1, order, ends)
    np.minimum.at(y0, order, begins_row)
    np.maximum.at(y1, order, begins_row + 1)
    np.add.at(size, order, ends - begins)
    return [_Glyph(*map(int, values)) for values in zip(x0, y0, x1, y1, size, strict=True)]
