"""Images on their way to a server: PNG of the pixels alone."""

from io import BytesIO

import numpy as np
from PIL import Image

from pipeline.study import StudyImage

BLACK = (0, 0, 0)


def picture(image: StudyImage, max_side: int) -> bytes:
    """PNG, 8-bit grey, aspect ratio kept, the longest side at most ``max_side`` pixels, dense tissue bright.

    Made from the pixel array: no DICOM header, no name and no text chunk can be in it.
    """
    grey = Image.fromarray(np.rint(np.clip(image.pixels, 0.0, 1.0) * 255).astype(np.uint8))
    longest = max(grey.size)
    if longest > max_side:
        columns, rows = (max(1, round(side * max_side / longest)) for side in grey.size)
        grey = grey.resize((columns, rows), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    grey.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def padded_picture(content: bytes, colour: tuple[int, int, int] = BLACK) -> bytes:
    """A PNG padded to the square of its longer side, its middle kept; in colour where ``colour`` is not black."""
    with Image.open(BytesIO(content)) as whole:
        side = max(whole.size)
        square = Image.new("L", (side, side)) if colour == BLACK else Image.new("RGB", (side, side), colour)
        square.paste(whole, ((side - whole.width) // 2, (side - whole.height) // 2))
    buffer = BytesIO()
    square.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
