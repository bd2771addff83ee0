"""Whole slides: levels by their headers (``pyramid``), what is read of them (``tile_reading``), what a model is shown
(``shown``).
"""

from pipeline.images.slides.pyramid import Level, levels_of
from pipeline.images.slides.shown import has_slides, prepare_slides
from pipeline.images.slides.tile_reading import level_for, thumbnail, tile_picture, tissue

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
