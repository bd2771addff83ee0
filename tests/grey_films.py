"""Grey films as files in each byte order, and windows as PS3.3 prints them, for tests of what is shown."""

import math
import struct
from collections.abc import Sequence as Values
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from pipeline.images import ImageLimits

LIMITS = ImageLimits(min_side=8)
IMPLICIT, LITTLE, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"


def in_vr(value: int, vr: str) -> int:
    """The 16 bits of ``value`` as US or SS reads them."""
    value %= 0x10000
    return value - 0x10000 if vr == "SS" and value > 0x7FFF else value


def windowed(function: str, center: float, width: float, x: float) -> float:
    """0..1 of LINEAR, LINEAR_EXACT or SIGMOID (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        return 1 / (1 + math.exp(-4 * (x - center) / width))
    if function == "LINEAR_EXACT":
        return min(max((x - center) / width + 0.5, 0), 1)
    if x <= center - 0.5 - (width - 1) / 2:
        return 0.0
    if x > center - 0.5 + (width - 1) / 2:
        return 1.0
    return (x - (center - 0.5)) / (width - 1) + 0.5


def lut_item(
    first: int, entries: Values[int], bits: int, *, descriptor_vr: str, data_vr: str, big: bool
) -> Dataset:
    """A LUT item (PS3.3 C.11.1.1.1); the descriptor's second value has the sign that its VR gives it."""
    item = Dataset()
    told = (len(entries), first, bits)
    item.add_new(0x00283002, descriptor_vr, [in_vr(value, descriptor_vr) for value in told])
    if data_vr == "OW":
        item.add_new(0x00283006, "OW", struct.pack(f"{'>' if big else '<'}{len(entries)}H", *entries))
    else:
        item.add_new(0x00283006, data_vr, [in_vr(value, data_vr) for value in entries])
    return item


def grey_film(
    shape: tuple[int, int],
    *,
    syntax: str,
    bits: int,
    signed: bool,
    inverse: bool,
    padding: Values[int | None] = (),
    padding_vr: str = "US",
) -> Dataset:
    """The header of a film without its display: ``padding`` is the value and, if any, its range's other end."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *shape, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverse else "MONOCHROME2"
    for tag, value in zip((0x00280120, 0x00280121), padding, strict=False):
        if value is not None:
            dataset.add_new(tag, padding_vr, in_vr(value, padding_vr))
    return dataset


def save_film(dataset: Dataset, values: npt.NDArray[np.int64], path: Path) -> Path:
    """Write the film with ``values`` as its pixels."""
    order = ">" if dataset.file_meta.TransferSyntaxUID == BIG else "<"
    dataset.add_new(0x7FE00010, "OW", (values % (1 << dataset.BitsStored)).astype(f"{order}u2").tobytes())
    dataset.save_as(path, enforce_file_format=True)
    return path
