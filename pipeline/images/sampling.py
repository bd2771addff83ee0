"""Which of many planes or frames are shown where not all are."""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np


def evenly(count: int, most: int) -> tuple[int, ...]:
    """At most ``most`` of ``count`` places, ascending: the first and the last too where ``most`` is above one."""
    if count <= most:
        return tuple(range(count))
    return (
        (count // 2,)
        if most == 1
        else tuple(round(place * (count - 1) / (most - 1)) for place in range(most))
    )


def by_steps(count: int, most: int) -> tuple[int, ...]:
    """At most ``most`` of ``count`` places, ascending: the end of each of ``most`` like steps, so not the first place.

    As MedGemma 1.5's authors choose planes (Google-Health/medgemma d89262c,
    ``notebooks/high_dimensional_ct_hugging_face.ipynb``).
    """
    if count <= most:
        return tuple(range(count))
    return tuple(round(place / most * (count - 1)) for place in range(1, most + 1))


def by_time(times: Sequence[float], rate: float, most: int) -> tuple[int, ...]:
    """``rate`` frames a second of those at ``times`` (seconds, ascending, the first is the beginning), ascending.

    The frame that is seen in the middle of each 1 / ``rate`` seconds, as VideoLLaMA3 and what is made of it sample a
    video; the middle one of a shorter clip; evenly chosen where that would be more than ``most``.
    """
    count = len(times)
    step = (times[-1] - times[0]) / (count - 1) if count > 1 else 0.0
    shown = max(1, int((times[-1] - times[0] + step) * rate + 0.5)) if step else 1
    if shown == 1:
        return (count // 2,)
    if shown > most:
        return evenly(count, most)
    middles = (times[0] + (place + 0.5) / rate for place in range(shown))
    return tuple(sorted({max(0, bisect_right(times, middle + step * 1e-6) - 1) for middle in middles}))


def by_rate(times: Sequence[float], rate: float, least: int, most: int) -> tuple[int, ...]:
    """As many frames as ``rate`` a second makes, ``least`` to ``most``, spread evenly from the first to the last.

    Of frames at ``times`` (seconds, ascending). As Qwen3-VL samples a video (transformers 5.23,
    ``Qwen3VLVideoProcessor.sample_frames``).
    """
    count = len(times)
    step = (times[-1] - times[0]) / (count - 1) if count > 1 else 0.0
    wanted = int((times[-1] - times[0] + step) * rate + 1e-6)  # a whole number may come out a little smaller
    shown = min(max(wanted, least), most, count)
    return tuple(int(place) for place in np.linspace(0, count - 1, shown).round())
