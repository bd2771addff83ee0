"""Stored values to display: Modality LUT, VOI LUT or window, polarity (PS3.3 C.11.1, C.11.2, C.7.6.3.1.2).

Where every step is linear the chain is one ramp over the stored values; else it is one table with an entry
per value.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from pipeline.errors import FailStudy
from pipeline.images.headers import MALFORMED, Elements, integer, items, numbers, text

Values = npt.NDArray[np.float64]
PERCENTILES = (0.5, 99.5)
"""Range shown where the header gives no usable window, in per cent of the film's pixels."""
MAX_CLIPPED = 0.95
"""A header's window that shows more than this part of the film as one black or one white is taken for wrong.
"""
MIN_LEVELS = 16
SAMPLE_SIDE = 512


@dataclass(frozen=True, slots=True)
class Levels:
    """The values a film can hold, what part of it holds each, and which are padding; all [n], ascending."""

    stored: Values
    weights: Values
    padding: npt.NDArray[np.bool_]


def display(
    stored: npt.NDArray[np.integer], dataset: Elements, *, little: bool = True, least_levels: int = MIN_LEVELS
) -> npt.NDArray[np.float32]:
    """float32 [rows, columns] in 0..1, dense tissue bright, from stored values and the film's header.

    ``little`` is the byte order of the file, which the words of its tables have too (PS3.5 7.3). Padding is shown black
    and does not count for the range. Raises FailStudy: "constant" for a film of one value, "blank" for one with fewer
    than ``least_levels`` of them, "unsupported-bits" for values that span more than 16 bits.
    """
    levels = _levels(stored, dataset, least_levels)
    modality = _modality_values(levels.stored, dataset, little=little)
    shown = _shown(modality, levels, dataset, little=little)
    ramp = _as_ramp(shown, levels)
    if ramp is not None:
        film = stored.astype(np.float32)
        film *= np.float32(ramp[0])
        film += np.float32(ramp[1])
        np.clip(film, 0.0, 1.0, out=film)
        return film
    wide = np.int32 if stored.dtype.itemsize <= 2 else np.int64  # the span of 16 signed bits overflows in 16
    index = np.subtract(stored, int(levels.stored[0]), dtype=wide)
    return np.asarray(np.take(shown.astype(np.float32), index), np.float32)


def inverted(dataset: Elements) -> bool:
    """Whether low values are meant bright: MONOCHROME1, which DX says again as Presentation LUT Shape
    INVERSE.
    """
    return (
        text(dataset, "PhotometricInterpretation").upper() == "MONOCHROME1"
        or text(dataset, "PresentationLUTShape").upper() == "INVERSE"
    )


def padding_of(stored: npt.NDArray[np.integer], dataset: Elements) -> npt.NDArray[np.bool_] | None:
    """Where ``stored`` is padding, of its shape; None where the header names no padding value."""
    if _pixel_value(dataset, "PixelPaddingValue") is None:
        return None
    return _padding(stored, dataset)


def _levels(stored: npt.NDArray[np.integer], dataset: Elements, least: int) -> Levels:
    lowest, highest = int(stored.min()), int(stored.max())
    if lowest == highest:
        raise FailStudy("constant", "every pixel has the same value")
    if highest - lowest > 0xFFFF:
        raise FailStudy("unsupported-bits", "the pixel values span more than 16 bits")
    steps = tuple(max(1, side // SAMPLE_SIDE) for side in stored.shape)
    sample = stored[:: steps[0], :: steps[1]].astype(np.int64).reshape(-1) - lowest
    values = np.arange(lowest, highest + 1, dtype=np.float64)
    padding = _padding(values, dataset)
    weights = np.where(padding, 0, np.bincount(sample, minlength=values.size)).astype(np.float64)
    if np.count_nonzero(weights) < least:
        raise FailStudy("blank", f"fewer than {least} different values: nothing is on the film")
    return Levels(values, weights / weights.sum(), padding)


def _padding(values: Values | npt.NDArray[np.integer], dataset: Elements) -> npt.NDArray[np.bool_]:
    """Where ``values`` lie in the padding range (PS3.3 C.7.5.1.1.2)."""
    first = _pixel_value(dataset, "PixelPaddingValue")
    if first is None:
        return np.zeros(values.shape, bool)
    last = _pixel_value(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((first, first if last is None else last))
    return (values >= low) & (values <= high)


def _pixel_value(dataset: Elements, keyword: str) -> int | None:
    """A value that is of the kind that Pixel Representation says, whether it was written as US or as SS.

    A positive one that is too large for a signed pixel by its highest stored bit is the negative of that bit.
    """
    value = integer(dataset, keyword)
    if value is None:
        return None
    value %= 0x10000
    if integer(dataset, "PixelRepresentation") != 1:
        return value
    bits = integer(dataset, "BitsStored") or 16
    half = 1 << max(0, min(bits, 16) - 1)
    if half <= value < 2 * half:
        return value - 2 * half
    return value - 0x10000 if value > 0x7FFF else value


def _modality_values(values: Values, dataset: Elements, *, little: bool) -> Values:
    """Modality LUT or rescale (PS3.3 C.11.1)."""
    for table in items(dataset, "ModalityLUTSequence"):
        entries = _lut(table, signed=integer(dataset, "PixelRepresentation") == 1, little=little)
        if entries is not None:
            return _looked_up(values, *entries)
    return _rescaled(values, dataset)


def _rescaled(values: Values, dataset: Elements) -> Values:
    """By Rescale Slope and Intercept (PS3.3 C.11.1.1.2)."""
    slope, intercept = numbers(dataset, "RescaleSlope")[:1], numbers(dataset, "RescaleIntercept")[:1]
    return values * (slope[0] if slope and slope[0] != 0 else 1.0) + (intercept[0] if intercept else 0.0)


def _shown(modality: Values, levels: Levels, dataset: Elements, *, little: bool) -> Values:
    """0..1 per level: the header's own VOI transformation where it shows the film, else a range from the film
    itself.
    """
    signed = _may_be_negative(dataset)
    candidates = (
        _voi_lut(modality, dataset, signed=signed, little=little),
        _voi_lut(modality, dataset, signed=not signed, little=little),  # of a writer who took the other sign
        _window(modality, dataset),
    )
    for candidate in candidates:
        if candidate is not None and _clipped(candidate, levels) <= MAX_CLIPPED:
            return _polarity(candidate, levels, dataset)
    cumulative = np.cumsum(levels.weights) * 100
    low, high = (float(levels.stored[np.searchsorted(cumulative, p)]) for p in PERCENTILES)
    # few counts, and fewer places that have any
    if low == high and np.count_nonzero(levels.weights) < MIN_LEVELS:
        low, high = float(levels.stored[0]), float(levels.stored[-1])
    if low == high:
        raise FailStudy("blank", "nearly every pixel has the same value")
    ramp = np.clip((levels.stored - low) / (high - low), 0, 1)
    falling = modality[-1] < modality[0]
    return _polarity(1 - ramp if falling else ramp, levels, dataset)


def _polarity(shown: Values, levels: Levels, dataset: Elements) -> Values:
    bright = 1.0 - shown if inverted(dataset) else shown.copy()
    bright[levels.padding] = 0.0
    return bright


def _clipped(shown: Values, levels: Levels) -> float:
    """The larger part of the film shown entirely black or entirely white."""
    return float(max(levels.weights[shown <= 0].sum(), levels.weights[shown >= 1].sum()))


def _voi_lut(modality: Values, dataset: Elements, *, signed: bool, little: bool) -> Values | None:
    for table in items(dataset, "VOILUTSequence"):
        entries = _lut(table, signed=signed, little=little)
        if entries is not None:
            found = _looked_up(modality, *entries)
            top = float(entries[1].max())
            return found / top if top > 0 else None
    return None


def _may_be_negative(dataset: Elements) -> bool:
    """Whether the Modality LUT step can give a negative value, whatever this film holds: then the first value that a
    VOI LUT maps is signed (PS3.3 C.11.2.1.1).
    """
    if items(dataset, "ModalityLUTSequence"):
        return False
    bits = min(max(integer(dataset, "BitsStored") or 16, 1), 16)
    lowest = -(1 << bits - 1) if integer(dataset, "PixelRepresentation") == 1 else 0
    ends = np.array([lowest, lowest + (1 << bits) - 1], np.float64)
    return bool(_rescaled(ends, dataset).min() < 0)


def _window(modality: Values, dataset: Elements) -> Values | None:
    """The first window of the header (PS3.3 C.11.2.1.2 and .3), or None where there is no valid one."""
    centers, widths = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    if not centers or not widths:
        return None
    center, width, function = centers[0], widths[0], text(dataset, "VOILUTFunction").upper()
    if function == "SIGMOID":
        return None if width <= 0 else 1 / (1 + np.exp(np.clip(-4 * (modality - center) / width, -500, 500)))
    if function == "LINEAR_EXACT":
        return None if width <= 0 else np.clip((modality - center) / width + 0.5, 0, 1)
    if width < 1:
        return None
    return np.clip((modality - (center - 0.5)) / max(width - 1, 1e-3) + 0.5, 0, 1)


def _lut(table: Dataset, *, signed: bool, little: bool) -> tuple[float, Values] | None:
    """First mapped value and entries of a LUT item (PS3.3 C.11.1.1.1), or None where it is not one.

    Entries come as US, SS or OW, and the 8-bit ones packed two to a word by some writers.
    """
    descriptor, content = numbers(table, "LUTDescriptor"), table.get("LUTData")
    if len(descriptor) != 3 or content is None:
        return None
    count, first, bits = (int(value) for value in descriptor)
    count = count % 0x10000 or 0x10000
    first %= 0x10000
    if signed and first > 0x7FFF:
        first -= 0x10000
    try:
        if isinstance(content, bytes):
            words = content if little or table["LUTData"].VR not in ("OW", "US or OW") else _swapped(content)
            packed = len(words) < 2 * count
            entries = np.frombuffer(words, np.uint8 if packed else "<u2")[:count].astype(np.float64)
        else:
            entries = np.asarray(content, np.int64).reshape(-1)[:count].astype(np.float64) % 0x10000
    except MALFORMED:
        return None
    return (float(first), entries) if entries.size == count and 8 <= bits <= 16 else None


def _swapped(words: bytes) -> bytes:
    """Big-endian words as little-endian ones (PS3.5 7.3): those of OW are swapped with the rest of the file."""
    return np.frombuffer(words[: len(words) // 2 * 2], ">u2").astype("<u2").tobytes()


def _looked_up(values: Values, first: float, entries: Values) -> Values:
    """Entries for ``values``; those outside the table take its first or last entry."""
    index = np.clip(np.rint(values - first), 0, entries.size - 1)
    return entries[index.astype(np.intp)]


def _as_ramp(shown: Values, levels: Levels) -> tuple[float, float] | None:
    """(slope, intercept) with shown = clip(slope * stored + intercept, 0, 1) where that is what the table is,
    else None.
    """
    inside = np.flatnonzero((shown > 0) & (shown < 1))
    if inside.size < 2 or levels.padding.any():
        return None
    a, b = inside[0], inside[-1]
    slope = (shown[b] - shown[a]) / (levels.stored[b] - levels.stored[a])
    intercept = shown[a] - slope * levels.stored[a]
    again = np.clip(slope * levels.stored + intercept, 0, 1)
    return (float(slope), float(intercept)) if np.abs(again - shown).max() < 1e-6 else None
