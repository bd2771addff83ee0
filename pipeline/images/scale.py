"""Resizing by area to square pixels at the working size."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.images.headers import Elements, numbers

MAX_ASPECT = 4.0
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


def spacing_mm(dataset: Elements) -> tuple[float, float] | None:
    """(row, column) spacing in mm: Pixel Spacing, else at the detector, else of the scanned film; None where
    absent.
    """
    for keyword in SPACINGS:
        found = numbers(dataset, keyword)
        if len(found) == 2 and min(found) >= 0.001 and max(found) <= 20:
            return found[0], found[1]
    return None


def pixel_aspect(dataset: Elements) -> float:
    """Height of a pixel over its width, from its spacing or Pixel Aspect Ratio (PS3.3 C.7.6.3.1.7); 1 where
    unknown.
    """
    spacing = spacing_mm(dataset) or numbers(dataset, "PixelAspectRatio")
    if len(spacing) != 2 or min(spacing) <= 0:
        return 1.0
    aspect = spacing[0] / spacing[1]
    return aspect if 1 / MAX_ASPECT <= aspect <= MAX_ASPECT else 1.0


def working_size(rows: int, columns: int, aspect: float, longest_side: int) -> tuple[int, int]:
    """(rows, columns) of square pixels, at most ``longest_side``, never finer than stored on any axis."""
    height, width = (float(rows), columns / aspect) if aspect >= 1 else (rows * aspect, float(columns))
    shrink = min(1.0, longest_side / max(height, width))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def resized(film: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """``film`` [rows, columns] averaged over areas to ``size`` (rows, columns)."""
    if film.shape == size:
        return film
    rows, columns = size
    factor = (film.shape[1] // columns, film.shape[0] // rows)
    picture = Image.fromarray(film)
    if factor != (1, 1) and film.shape == (rows * factor[1], columns * factor[0]):
        return np.asarray(picture.reduce(factor))
    return np.asarray(picture.resize((columns, rows), Image.Resampling.BOX))
