"""How large an image may be before anything is allocated for it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Bounds on what a header may declare; a radiograph beyond them is refused before allocation.

    ``max_frame_pixels`` bounds Rows x Columns x Samples of one frame, ``max_pixels`` that times
    NumberOfFrames. ``max_inflated_bytes`` bounds a deflated data set, ``max_images`` how many images one
    study gives to a model.
    """

    max_frame_pixels: int = 120_000_000
    max_pixels: int = 2_000_000_000
    max_inflated_bytes: int = 1 << 30
    min_side: int = 128
    max_images: int = 8
