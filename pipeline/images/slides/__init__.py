"""Whole slides: levels by their headers (``pyramid``), what is read of them (``reading``), what a model is shown
(``shown``).
"""

from pipeline.images.slides.pyramid import Level, levels_of
from pipeline.images.slides.reading import level_for, thumbnail, tile_picture, tissue
from pipeline.images.slides.shown import has_slides, prepare_slides

__all__ = [
    "Level",
    "has_slides",
    "level_for",
    "levels_of",
    "prepare_slides",
    "thumbnail",
    "tile_picture",
    "tissue",
]
