"""Text in the pixels of colour pictures; that of films is measured in docs/security.md."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from models.families.endpoint.drawn_text import text_boxes


def test_letters_in_a_colour_are_found() -> None:
    """Yellow on a skin photograph, as ultrasound and endoscopy systems write: the red and green channels show them."""
    picture = np.full((200, 300, 3), 0.35, np.float32)
    grey = Image.new("L", (300, 200))
    ImageDraw.Draw(grey).text((10, 10), "TEST PATIENT 0815", fill=255, font=ImageFont.load_default(20))
    picture[np.asarray(grey) > 128] = (0.95, 0.9, 0.35)
    assert text_boxes(picture)
    assert not text_boxes(np.full((200, 300, 3), 0.35, np.float32))
