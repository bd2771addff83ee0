"""A small picture of a frame, for people: the review page shows it beside the draft."""

import io

import numpy as np
from PIL import Image

from pipeline.ledger import Preview
from pipeline.study import StudyImage

LONGEST_SIDE = 768
QUALITY = 85


def preview(image: StudyImage, longest_side: int = LONGEST_SIDE) -> Preview:
    """``image`` as a grey JPEG of at most ``longest_side`` pixels, never enlarged."""
    picture = Image.fromarray(np.rint(image.pixels * 255).astype(np.uint8))
    picture.thumbnail((longest_side, longest_side), Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return Preview(image.ref, image.frame, buffer.getvalue(), image.original_rows, image.original_columns)
