"""Colour pictures as sRGB, whatever form they are stored in (PS3.3 C.7.6.3.1.2, C.7.9, C.11.15).

Photometric Interpretation says what is stored; only a codec that undoes a colour transform of its own gives RGB
already. Indices of a palette are never shown as they are.
"""

import numpy as np
import numpy.typing as npt
from pydicom.pixels.processing import apply_color_lut

from pipeline.errors import FailStudy
from pipeline.images import decoder_process, decoder_program
from pipeline.images.codecs import CODESTREAMS
from pipeline.images.decode import Declared, stored_bits
from pipeline.images.headers import Elements, Header, as_pydicom, items, numbers, refusing
from pipeline.images.limits import ImageLimits

PALETTE = "PALETTE COLOR"
_RGB_FROM_CODEC = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "XYB"})
_STORED = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422"})
_UNDOING = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 111, 112))
"""JPEG, and JPEG XL that is one or may have lost something (PS3.5 A.4.1, A.4.14)."""
MOST_PROFILE = 4 << 20
"""Bytes of an ICC profile; those of cameras and scanners have some kilobytes."""


def is_colour(declared: Declared) -> bool:
    """Whether the picture is stored in colours or as indices of a palette."""
    return declared.samples == 3 or declared.photometric == PALETTE


def srgb(header: Header, declared: Declared, frame: int, limits: ImageLimits) -> npt.NDArray[np.uint8]:
    """Frame ``frame`` (from 0) as uint8 [rows, columns, 3]. Raises as ``rgb``."""
    return in_srgb(header.dataset, rgb(header, declared, frame, limits))


def in_srgb(dataset: Elements, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """``picture`` through the ICC profile of its header; one that is missing or cannot be used is passed over.

    Raises as ``decoder_process.decode``.
    """
    profile = _profile(dataset)
    return _through(profile, picture) if profile else picture


def rgb(header: Header, declared: Declared, frame: int, limits: ImageLimits) -> npt.NDArray[np.uint8]:
    """Frame ``frame`` (from 0) in its own red, green and blue, uint8 [rows, columns, 3].

    Raises FailStudy: "unsupported-colour" for a Photometric Interpretation that is none of colours here, "palette" for
    tables that are not what they say, and as ``stored_values`` and ``decoder_process.decode``.
    """
    bits, precision = stored_bits(header, declared, frame, limits)
    if declared.photometric == PALETTE:
        return _looked_up(bits, header.dataset, little=header.little)
    if declared.samples != 3:
        raise FailStudy("unsupported-colour", "one sample a pixel and no palette: no colour picture")
    return _three_channels(bits, precision, header, declared)


def _three_channels(
    bits: npt.NDArray[np.unsignedinteger], precision: int, header: Header, declared: Declared
) -> npt.NDArray[np.uint8]:
    by_codec = header.transfer_syntax in CODESTREAMS
    if declared.photometric not in (_RGB_FROM_CODEC if by_codec else _STORED):
        raise FailStudy(
            "unsupported-colour", f"colours stored as {_plain(declared.photometric)} are not read"
        )
    eight = _to_eight(bits, min(precision, declared.bits_stored))
    if declared.photometric == "RGB" or (by_codec and _undone(header, declared)):
        return eight
    return from_ybr(eight)


def _undone(header: Header, declared: Declared) -> bool:
    """Whether the codec has given RGB: JPEG and JPEG XL from theirs, JPEG 2000 from its own; JPEG-LS and what is
    lossless as stored.
    """
    return header.transfer_syntax in _UNDOING or declared.photometric in ("YBR_ICT", "YBR_RCT", "XYB")


def from_ybr(ybr: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """RGB of full-range luminance and chrominance, uint8 [rows, columns, 3] (the inverse of PS3.3 C.7.6.3.1.2)."""
    y, cb, cr = (ybr[..., channel].astype(np.float32) for channel in range(3))
    cb -= 128
    cr -= 128
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    return np.asarray(np.clip(np.rint(rgb), 0, 255), np.uint8)


def _to_eight(values: npt.NDArray[np.unsignedinteger], stored: int) -> npt.NDArray[np.uint8]:
    """The upper eight bits of ``stored`` bits; fewer than eight are stretched."""
    held = values & values.dtype.type((1 << stored) - 1)
    if stored >= 8:
        return np.asarray(held >> values.dtype.type(stored - 8)).astype(np.uint8)
    return np.asarray(held.astype(np.uint16) * 255 // ((1 << stored) - 1)).astype(np.uint8)


def _looked_up(
    indices: npt.NDArray[np.unsignedinteger], dataset: Elements, *, little: bool
) -> npt.NDArray[np.uint8]:
    with refusing("palette", "the palette's tables are not what their descriptors say"):
        for colour in ("Red", "Green", "Blue", "Alpha"):
            _refuse_overlong(
                dataset.get(f"Segmented{colour}PaletteColorLookupTableData"), dataset, little=little
            )
        colours = apply_color_lut(indices, as_pydicom(dataset))
    if colours.shape != (*indices.shape, 3):
        raise FailStudy("palette", "the palette gives other colours than three")
    return _to_eight(colours, colours.dtype.itemsize * 8)


def _refuse_overlong(segments: object, dataset: Elements, *, little: bool) -> None:
    """Raise ValueError for segments (PS3.3 C.7.9.2) that say more entries than the table has: three words say 65,535.

    Indirect ones, which may say each other again and again, nobody is known to write.
    """
    if not isinstance(segments, bytes):
        return
    descriptor = numbers(dataset, "RedPaletteColorLookupTableDescriptor")
    kind = "u1" if descriptor[2:] == (8.0,) else "<u2" if little else ">u2"
    words = np.frombuffer(segments[: len(segments) // 2 * 2], kind)
    left, at = int(descriptor[0]) % 0x10000 or 0x10000, 0
    while at + 1 < len(words):
        opcode, length = int(words[at]), int(words[at + 1])
        left -= length
        at += 3 if opcode == 1 else 2 + length
        if opcode not in (0, 1) or left < 0:
            raise ValueError


def _profile(dataset: Elements) -> bytes:
    """The ICC profile of the picture or of its first optical path (PS3.3 C.11.15), b"" where there is none."""
    for holder in (dataset, *items(dataset, "OpticalPathSequence")):
        found = holder.get("ICCProfile")
        if isinstance(found, bytes) and 128 <= len(found) <= MOST_PROFILE:
            return found
    return b""


def _through(profile: bytes, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """``picture`` in sRGB, by a process of its own as frames are decoded; as it is where the profile is none of RGB."""
    head = decoder_program.PROFILED.pack(*picture.shape[:2], len(profile))
    shown = decoder_process.decode(decoder_program.SRGB, head + profile + picture.tobytes(), picture.nbytes)
    return picture if shown is None else shown.astype(np.uint8, copy=False)


def _plain(photometric: str) -> str:
    """The interpretation in letters that may stand in a message."""
    known = ("ARGB", "CMYK", "HSV", "MONOCHROME1", "MONOCHROME2", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "XYB")
    return photometric if photometric in known else "something else than RGB or YBR_FULL"
