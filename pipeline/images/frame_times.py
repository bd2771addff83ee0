"""When each frame of a clip is shown, as its header says (PS3.3 C.7.6.5, the Cine module)."""

from itertools import accumulate

from pipeline.images.headers import Elements, integer, numbers

_SLOWEST, _QUICKEST = 1e-4, 3600.0
"""Seconds between two frames that are believed."""


def frame_times(dataset: Elements, frames: int) -> tuple[float, ...] | None:
    """Seconds from the first frame to each, ascending; None where the header does not say, or says what cannot be.

    Frame Time Vector (milliseconds from the frame before) where Frame Increment Pointer or its length means it, else
    Frame Time, else Cine Rate or Recommended Display Frame Rate (frames a second).
    """
    vector = numbers(dataset, "FrameTimeVector")
    if len(vector) == frames > 1 and min(vector[1:]) >= 0 and sum(vector[1:]) > 0:
        return tuple(accumulate((0.0, *(one / 1000 for one in vector[1:]))))
    step = next((one / 1000 for one in numbers(dataset, "FrameTime")[:1] if one > 0), 0.0)
    if not step:
        rate = integer(dataset, "CineRate") or integer(dataset, "RecommendedDisplayFrameRate") or 0
        step = 1 / rate if rate > 0 else 0.0
    return tuple(number * step for number in range(frames)) if _SLOWEST <= step <= _QUICKEST else None
