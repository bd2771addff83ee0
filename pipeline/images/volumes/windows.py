"""The window in which the header of a CT asks to be shown, and values brought to 0..1 by one (PS3.3 C.11.2.1)."""

import numpy as np
from numpy.typing import NDArray

from pipeline.images.headers import integer
from pipeline.images.volumes.plane import Plane, floats_of, said

SOFT_TISSUE = (-160.0, 240.0)
"""What CT is shown in where neither model nor header names a window, in HU."""


def header_window(plane: Plane) -> tuple[float, float] | None:
    """The first window of the frame or the header as a range (PS3.3 C.11.2.1.2, C.7.6.16.2.10), or None.

    One as wide as all that can be stored says nothing: converters to enhanced objects write it where there was none.
    """
    centers, widths = (
        floats_of(plane.groups, "FrameVOILUTSequence", f"Window{which}") for which in ("Center", "Width")
    )
    stored = abs(plane.slope) * 2.0 ** (integer(plane.header.dataset, "BitsStored") or 16)
    if not centers or not widths or not 1 < widths[0] < stored:
        return None
    return centers[0] - widths[0] / 2, centers[0] + widths[0] / 2


def is_sigmoid(plane: Plane) -> bool:
    """Whether the window of the header is a curve without ends, and no ramp (PS3.3 C.11.2.1.3.1)."""
    asked = said(plane.groups, "FrameVOILUTSequence", "VOILUTFunction").upper() == "SIGMOID"
    return asked and header_window(plane) is not None


def in_range(values: NDArray[np.float32], low: float, high: float, *, curved: bool) -> NDArray[np.float32]:
    """``values`` from 0 at ``low`` to 1 at ``high``, of their shape; ``curved`` as a sigmoid between the same."""
    ramp = (values - np.float32(low)) / np.float32(high - low)
    if not curved:
        return np.asarray(np.clip(ramp, 0, 1), np.float32)
    return np.asarray(1 / (1 + np.exp(np.clip(2 - 4 * ramp, -80, 80))), np.float32)
