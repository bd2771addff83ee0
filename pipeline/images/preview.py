"""A small picture of a frame, for people: the review page shows it beside the draft."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from pipeline.images.sampling import evenly
from pipeline.ledger import Preview
from pipeline.study import StudyImage

LONGEST_SIDE = 768
QUALITY = 85
MOST_SHOWN = 12
"""Pictures of one study on the review page."""


def shown_to_people(images: Sequence[StudyImage]) -> tuple[Preview, ...]:
    """A picture of each image, at most ``MOST_SHOWN`` of them, evenly chosen."""
    return tuple(preview(images[place]) for place in evenly(len(images), MOST_SHOWN))


def preview(image: StudyImage, longest_side: int = LONGEST_SIDE) -> Preview:
    """``image`` as a JPEG of at most ``longest_side`` pixels, never enlarged."""
    picture = Image.fromarray(np.rint(image.pixels * 255).astype(np.uint8))
    picture.thumbnail((longest_side, longest_side), Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    rows, columns = image.pixels.shape[:2]
    sides = image.original_rows or rows, image.original_columns or columns
    return Preview(image.ref, image.frame, buffer.getvalue(), *sides)
