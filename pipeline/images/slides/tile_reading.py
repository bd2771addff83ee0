"""A slide small enough to look at, made tile by tile, and its tiles as they are stored: never a level as a whole.

For a small picture tiles in JPEG are reduced while they are decoded (libjpeg's scaled inverse transform), and what is
left of the reduction is an average over whole cells of the level, so that tiles meet without a seam.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import FailStudy
from pipeline.images import decoder_process
from pipeline.images.colour import in_srgb, is_colour, rgb
from pipeline.images.decode import compressed_frames, stored_values
from pipeline.images.decoder_program import packed
from pipeline.images.headers import numbers
from pipeline.images.sampling import evenly
from pipeline.images.slides.pyramid import TILE_LIMITS, Level

Picture = NDArray[np.uint8]
MOST_REDUCED = 1 << 16
"""Tiles that are decoded for one small picture."""
TISSUE_DIFFERENCE = 24
"""How far a channel of tissue is from the glass around it, of 255."""
_GLASS = 200
"""Glass is at least so bright."""
_SCALES = (8, 4, 2)
_WHITE = (255, 255, 255)
_SAMPLED, _GREY_PERCENTILES = 64, (0.5, 99.8)
"""Tiles of a grey level that the range is taken from, and what part of their values is shown black and white."""
THREADS = 2
AT_ONCE = 32
"""Tiles that one request to a decoder's process has."""


def level_for(levels: Sequence[Level], longest_side: int) -> Level:
    """The smallest level that has ``longest_side`` pixels on a side, the finest where none has."""
    large = [level for level in levels if max(level.rows, level.columns) >= longest_side]
    return min(large or levels[:1], key=lambda level: level.rows * level.columns)


def thumbnail(level: Level, longest_side: int) -> Picture:
    """The whole level as sRGB uint8 [rows, columns, 3], reduced by a whole number to at most ``longest_side``.

    Places without a tile are white, or as Recommended Absent Pixel CIELab Value says. Raises FailStudy: "too-large"
    where the level has more than ``MOST_REDUCED`` tiles, and as ``rgb``.
    """
    if len(level.tiles) > MOST_REDUCED:
        raise FailStudy("too-large", f"a slide without a level of less than {len(level.tiles)} tiles")
    scale, factor = reduction(level, longest_side)
    rows, columns = (-(-side // factor) for side in (level.rows, level.columns))
    sums = np.zeros((rows, columns, 3), np.uint32)
    counts = np.zeros((rows, columns, 1), np.uint32)

    def reduced(begin: int) -> list[tuple[int, int, NDArray[np.uint32], NDArray[np.uint32]]]:
        return _reduced(level, level.tiles[begin : begin + AT_ONCE], scale, factor)

    with ThreadPoolExecutor(THREADS) as pool:
        for begin in range(0, len(level.tiles), THREADS * 8 * AT_ONCE):
            some = range(begin, min(begin + THREADS * 8 * AT_ONCE, len(level.tiles)), AT_ONCE)
            for row, column, values, weights in chain.from_iterable(pool.map(reduced, some)):
                here = np.s_[row : row + values.shape[0], column : column + values.shape[1]]
                sums[here] += values
                counts[here] += weights
    shown = np.where(
        counts, (sums + counts // 2) // np.maximum(counts, 1), np.array(absent(level), np.uint32)
    )
    return in_srgb(level.parts[0].dataset, shown.astype(np.uint8))


def reduction(level: Level, longest_side: int) -> tuple[int, int]:
    """By how much tiles are reduced while decoded (1, 2, 4, 8), and the level in all, a multiple of that."""
    factor = max(1, -(-max(level.rows, level.columns) // longest_side))
    for scale in _SCALES:
        whole = -(-factor // scale) * scale
        aligned = not (level.tiles[:, 2:] % scale).any() and not (
            level.declared.rows % scale or level.declared.columns % scale
        )
        if aligned and whole * 4 <= factor * 5 and _is_ycc_jpeg(level):
            return scale, whole
    return 1, factor


def tile_picture(level: Level, number: int) -> Picture:
    """Tile ``number`` of ``level`` as sRGB, cut where the level ends. Raises as ``rgb``."""
    part, frame, row, column = (int(one) for one in level.tiles[number])
    picture = in_srgb(level.parts[part].dataset, _stored(level, part, frame))
    return picture[: level.rows - row, : level.columns - column]


def with_range(level: Level) -> Level:
    """A level of grey tiles with the range of values that it is shown in, by some of its tiles; another as it is.

    Raises FailStudy: "blank" where nearly every value is the same, and as ``stored_values``.
    """
    if is_colour(level.declared):
        return level
    sample = []
    for number in evenly(len(level.tiles), _SAMPLED):
        part, frame = (int(one) for one in level.tiles[number, :2])
        sample.append(stored_values(level.parts[part], level.declared, frame, TILE_LIMITS)[::4, ::4].ravel())
    low, high = (float(one) for one in np.percentile(np.concatenate(sample), _GREY_PERCENTILES))
    if low >= high:
        raise FailStudy("blank", "nearly every value of the slide is the same")
    return replace(level, grey=(low, high))


def _in_grey(level: Level, stored: NDArray[np.integer]) -> Picture:
    low, high = level.grey or (0.0, float((1 << level.declared.bits_stored) - 1))
    shown = np.rint(np.clip((stored.astype(np.float32) - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    if level.declared.photometric == "MONOCHROME1":
        shown = 255 - shown
    return np.repeat(shown[..., None], 3, axis=-1)


def tissue(small: Picture, *, dark: bool = False) -> NDArray[np.bool_]:
    """Where a small picture of a slide shows something else than glass, [rows, columns].

    Glass is the median of what is bright, white where hardly anything is; on a ``dark`` ground (fluorescence) black.
    """
    if dark:
        return np.asarray(small.max(axis=-1) > TISSUE_DIFFERENCE)
    bright = small.min(axis=-1) >= _GLASS
    glass = np.median(small[bright], axis=0) if bright.mean() > 0.02 else np.array(_WHITE)
    return np.asarray(np.abs(small.astype(np.int16) - glass).max(axis=-1) > TISSUE_DIFFERENCE)


def absent(level: Level) -> tuple[int, int, int]:
    """What is shown where a slide has no tile: Recommended Absent Pixel CIELab Value (PS3.3 C.10.7.1.1), else white,
    of a grey one black.
    """
    lab = numbers(level.parts[0].dataset, "RecommendedAbsentPixelCIELabValue")
    if len(lab) != 3:
        return _WHITE if is_colour(level.declared) else (0, 0, 0)
    lightness, a, b = lab[0] / 65535 * 100, lab[1] / 65535 * 255 - 128, lab[2] / 65535 * 255 - 128
    return _WHITE if lightness > 95 and max(abs(a), abs(b)) < 5 else _of_lab(lightness, a, b)


def _of_lab(lightness: float, a: float, b: float) -> tuple[int, int, int]:
    from PIL import ImageCms

    lab = Image.frombytes("LAB", (1, 1), bytes([round(lightness * 2.55), round(a) & 0xFF, round(b) & 0xFF]))
    through = ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )
    shown = ImageCms.applyTransform(lab, through)
    assert shown is not None
    red, green, blue = np.asarray(shown)[0, 0].tolist()
    return red, green, blue


def _is_ycc_jpeg(level: Level) -> bool:
    """Whether tiles are 8-bit JPEG in luminance and chrominance: what libjpeg can reduce and show by itself."""
    declared = level.declared
    return (
        level.parts[0].transfer_syntax == "1.2.840.10008.1.2.4.50"
        and declared.samples == 3
        and declared.photometric in ("YBR_FULL_422", "YBR_FULL")
    )


def _stored(level: Level, part: int, frame: int) -> Picture:
    """One tile as RGB before any colour profile."""
    header, declared = level.parts[part], level.declared
    if not is_colour(declared):
        return _in_grey(level, stored_values(header, declared, frame, TILE_LIMITS))
    return rgb(header, declared, frame, TILE_LIMITS)


def _reduced(
    level: Level, tiles: NDArray[np.int32], scale: int, factor: int
) -> list[tuple[int, int, NDArray[np.uint32], NDArray[np.uint32]]]:
    """``tiles`` summed over cells of ``factor`` pixels a side: cell of the first pixel, sums, and pixels of each."""
    if scale == 1:
        pictures = [_stored(level, int(part), int(frame)) for part, frame in tiles[:, :2]]
    else:
        pictures = _scaled(level, tiles, scale)
    found = []
    for (row, column), picture in zip(tiles[:, 2:].tolist(), pictures, strict=True):
        cut = picture[: _cut(level.rows - row, scale), : _cut(level.columns - column, scale)]
        found.append(_in_cells(cut, row // scale, column // scale, factor // scale))
    return found


def _scaled(level: Level, tiles: NDArray[np.int32], scale: int) -> list[Picture]:
    """The tiles a ``scale``-th of their size, reduced while they are decoded, all by one request."""
    declared = level.declared
    frames: list[bytes] = []
    for part, numbers_of in groupby(tiles[:, :2].tolist(), key=itemgetter(0)):
        frames += compressed_frames(level.parts[part], declared, [frame for _, frame in numbers_of])
    rows, columns = declared.rows // scale, declared.columns // scale
    shape = (len(frames) * rows, columns, 3)
    decoded = decoder_process.decode(f"jpeg8-{scale}", packed(frames), len(frames) * rows * columns * 3)
    if decoded is None or decoded.shape != shape:
        raise FailStudy("undecodable", "a tile of the slide is damaged")
    return list(np.asarray(decoded, np.uint8).reshape(len(frames), rows, columns, 3))


def _cut(side: int, scale: int) -> int:
    return max(1, side // scale)


def _in_cells(
    picture: Picture, row: int, column: int, factor: int
) -> tuple[int, int, NDArray[np.uint32], NDArray[np.uint32]]:
    """``picture``, whose first pixel is at (row, column), summed over the cells of ``factor`` pixels a side, and how
    many pixels each sum has; with the cell of the first.
    """
    rows, columns = picture.shape[:2]
    if not (row % factor or column % factor or rows % factor or columns % factor):
        cells = picture.reshape(rows // factor, factor, columns // factor, factor, 3)
        sums = cells.sum(axis=(1, 3), dtype=np.uint32)
        return row // factor, column // factor, sums, np.full((1, 1, 1), factor * factor, np.uint32)
    down, across = _begins(row, rows, factor), _begins(column, columns, factor)
    sums = np.add.reduceat(np.add.reduceat(picture, down, axis=0, dtype=np.uint32), across, axis=1)
    sides = (np.diff([*down, rows]), np.diff([*across, columns]))
    return row // factor, column // factor, sums, np.outer(*sides).astype(np.uint32)[..., None]


def _begins(first: int, count: int, factor: int) -> NDArray[np.intp]:
    """Where in ``count`` pixels from ``first`` on a new cell begins."""
    return np.concatenate([[0], np.arange(factor - first % factor, count, factor)]).astype(np.intp)
