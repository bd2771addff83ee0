"""Planes of a series rewritten in another transfer syntax, bits as the forms below say, pixels the same."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

Pixels = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Form:
    """A transfer syntax, bits stored without a sign, the lowest of them, and what writes a frame."""

    syntax: str
    bits: int
    encode: Callable[[Pixels], Any]
    lowest: int = 0

    @property
    def native(self) -> bool:
        return self.syntax == ExplicitVRLittleEndian


def _beside_overlays(stored: Pixels) -> bytes:
    """Bits below and above the stored ones are set: they are another's (PS3.5 8.1.1)."""
    return ((stored << 3) | 0x8005).astype("<u2").tobytes()


def _jpeg_2000(stored: Pixels) -> Any:
    return imagecodecs.jpeg2k_encode(stored, level=0, codecformat="j2k", bitspersample=12, reversible=True)


def _lossless_jpeg(stored: Pixels) -> Any:
    return imagecodecs.jpeg8_encode(stored, lossless=True, bitspersample=12)


FORMS = {
    "raw": Form(ExplicitVRLittleEndian, 12, lambda stored: stored.tobytes()),
    "raw beside overlays": Form(ExplicitVRLittleEndian, 12, _beside_overlays, lowest=3),
    "JPEG-LS": Form(JPEGLSLossless, 12, imagecodecs.jpegls_encode),
    "JPEG-LS of 16 bits": Form(JPEGLSLossless, 16, imagecodecs.jpegls_encode),
    "JPEG 2000": Form(JPEG2000Lossless, 12, _jpeg_2000),
    "lossless JPEG": Form(JPEGLosslessSV1, 12, _lossless_jpeg),
}


def rewrite(paths: list[Path], form: Form, pixels: Callable[[int], Pixels] | None = None) -> None:
    """Write each file in ``form`` with its own pixels, or with what ``pixels`` gives for the file of an index."""
    for index, path in enumerate(paths):
        dataset = dcmread(path)
        stored = pixels(index) if pixels else dataset.pixel_array.astype(np.uint16)
        encoded = bytes(form.encode(stored))
        dataset.Rows, dataset.Columns = stored.shape
        dataset.BitsStored, dataset.HighBit = form.bits, form.lowest + form.bits - 1
        dataset.PixelRepresentation = 0
        dataset.PixelData = encoded if form.native else encapsulate([encoded])
        dataset["PixelData"].VR = "OW" if form.native else "OB"
        dataset.file_meta.TransferSyntaxUID = UID(form.syntax)
        dataset.save_as(path, enforce_file_format=True)
