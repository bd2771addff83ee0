"""One decoder per transfer syntax, pinned: what else happens to be installed changes nothing.

Why these: ``docs/decisions/0010-decoders.md``. libjpeg-turbo, CharLS and OpenJPEG come with imagecodecs and run in a
process of their own (``decoder_process``). RLE is pylibjpeg-rle's, in Rust, which can give up and not corrupt memory:
it runs here.
"""

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from pydicom.uid import UID
from rle.rle import decode_frame as decode_rle

from pipeline.errors import FailStudy
from pipeline.images import decoder_process
from pipeline.images.codestream import Codec, Codestream, read_codestream, whole_frame
from pipeline.images.headers import refusing

Stored = npt.NDArray[np.unsignedinteger]
"""Stored bits as they lie in the file: uint8, uint16 or uint32."""
MAX_TILES = 4096
BYTES_A_VALUE = 2
"""At most; a decoder that gives more is refused."""
_JPEG = frozenset({Codec.JPEG, Codec.JPEG_LOSSLESS})
_JPEG_LS = frozenset({Codec.JPEG_LS})
_JPEG_2000 = frozenset({Codec.JPEG_2000})
_HTJ2K = frozenset({Codec.HTJ2K})
_JPEG_XL = frozenset({Codec.JPEG_XL})

CODESTREAMS = {
    "1.2.840.10008.1.2.4.50": _JPEG,
    "1.2.840.10008.1.2.4.51": _JPEG,
    "1.2.840.10008.1.2.4.57": _JPEG,
    "1.2.840.10008.1.2.4.70": _JPEG,
    "1.2.840.10008.1.2.4.80": _JPEG_LS,
    "1.2.840.10008.1.2.4.81": _JPEG_LS,
    "1.2.840.10008.1.2.4.90": _JPEG_2000,
    "1.2.840.10008.1.2.4.91": _JPEG_2000,
    "1.2.840.10008.1.2.4.201": _HTJ2K,
    "1.2.840.10008.1.2.4.202": _HTJ2K,
    "1.2.840.10008.1.2.4.203": _HTJ2K,
    "1.2.840.10008.1.2.4.110": _JPEG_XL,
    "1.2.840.10008.1.2.4.111": _JPEG_XL,
    "1.2.840.10008.1.2.4.112": _JPEG_XL,
}
"""Codestreams allowed per transfer syntax (PS3.5 A.4). The JPEG processes are often mislabelled among each
other and decode all the same; any other mismatch is refused."""
RLE = "1.2.840.10008.1.2.5"
UNCOMPRESSED, DEFLATED_FRAME = "1.2.840.10008.1.2.1.98", "1.2.840.10008.1.2.8.1"
FRAMED = (UNCOMPRESSED, DEFLATED_FRAME)
"""Native frames in fragments, as they are (PS3.5 A.4.11) or deflated (PS3.5 A.4.13)."""
NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")

DECODERS = {
    Codec.JPEG: "jpeg8",
    Codec.JPEG_LOSSLESS: "jpeg8",
    Codec.JPEG_LS: "jpegls",
    Codec.JPEG_2000: "jpeg2k",
    Codec.HTJ2K: "jpeg2k",
    Codec.JPEG_XL: "jpegxl",
}
"""By their names in ``decoder_program``."""


def supported(transfer_syntax: str) -> bool:
    """Whether images in this transfer syntax can be decoded here."""
    return transfer_syntax in CODESTREAMS or transfer_syntax in (RLE, *FRAMED, *NATIVE)


def named(transfer_syntax: str) -> str:
    """A transfer syntax in words and by its UID; a private one by its UID."""
    if not re.fullmatch(r"[0-9.]{1,64}", transfer_syntax):
        return "of no valid UID"
    words = UID(transfer_syntax).name
    return transfer_syntax if words == transfer_syntax else f"{words} ({transfer_syntax})"


def native_frame(frame: bytes, transfer_syntax: str, frame_bytes: int) -> bytes:
    """The bytes of one native frame out of its fragments. Raises FailStudy("undecodable", "pixel-data-short")."""
    if transfer_syntax == DEFLATED_FRAME:
        with refusing("undecodable", "the deflated frame is damaged"):
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            frame = inflater.decompress(frame, frame_bytes + 1)
    if len(frame) < frame_bytes:
        raise FailStudy("pixel-data-short", "the pixel data is shorter than the header declares")
    return frame[:frame_bytes]


def decode_frame(
    frame: bytes,
    transfer_syntax: str,
    rows: int,
    columns: int,
    samples: int,
    *,
    rgb: bool = False,
    into: npt.NDArray[np.uint16] | None = None,
) -> tuple[Stored, int]:
    """Decode one compressed frame that must have the declared size, straight to ``into`` where it is of 16 bits.

    ``rgb`` says that a JPEG of three components holds red, green and blue: Photometric Interpretation decides that, not
    the codec's guess from component numbers and markers (PS3.5 8.2.1).

    Returns the stored bits as unsigned [rows, columns] or [rows, columns, samples], and the codestream's own
    precision. Raises FailStudy("codestream-mismatch") where the frame is not what the header declares,
    "undecodable" where it is damaged, and as ``decoder_process.decode``.
    """
    frame, seen = checked_frame(frame, transfer_syntax, rows, columns, samples)
    decoder = "jpeg8-rgb" if rgb and samples == 3 and seen.codec is Codec.JPEG else DECODERS[seen.codec]
    decoded = decoder_process.decode(decoder, frame, rows * columns * samples * BYTES_A_VALUE, into)
    if decoded is None:
        raise FailStudy("undecodable", f"the {seen.codec} frame is damaged")
    return _as_stored(decoded, seen), seen.precision


def checked_frame(
    frame: bytes, transfer_syntax: str, rows: int, columns: int, samples: int
) -> tuple[bytes, Codestream]:
    """A compressed frame without padding, and what it says of itself, which is what the header declares.

    Raises FailStudy("codestream-mismatch") where it is not, ("undecodable") where it is cut short.
    """
    with refusing("undecodable", "the compressed frame has no readable header"):
        seen = read_codestream(frame)
    if seen.codec is Codec.JPEG_XL:  # its decoder tells a cut, and what it holds
        seen = replace(seen, components=samples, precision=16)
    else:
        with refusing("undecodable", "the compressed frame is cut short"):
            frame = whole_frame(frame)
    if seen.codec not in CODESTREAMS[transfer_syntax]:
        raise FailStudy(
            "codestream-mismatch", f"the transfer syntax does not allow the {seen.codec} frame it holds"
        )
    if (seen.rows, seen.columns, seen.components) != (rows, columns, samples):
        raise FailStudy(
            "codestream-mismatch", "the compressed frame's size is not the size the header declares"
        )
    if seen.tiles > MAX_TILES or not 2 <= seen.precision <= 16:
        raise FailStudy("undecodable", f"a {seen.codec} frame of {seen.precision} bits in {seen.tiles} tiles")
    return frame, seen


def decode_rle_frame(frame: bytes, rows: int, columns: int, samples: int, bits_allocated: int) -> Stored:
    """Decode an RLE frame (PS3.5 Annex G) to unsigned [rows, columns] or [rows, columns, samples]."""
    if bits_allocated not in (8, 16):
        raise FailStudy("unsupported-bits", f"RLE with {bits_allocated} bits allocated")
    with refusing("undecodable", "the RLE frame is damaged"), _without_panic():
        plain = decode_rle(frame, rows * columns, bits_allocated, "<")
        planes = np.frombuffer(plain, f"<u{bits_allocated // 8}").reshape(samples, rows, columns)
    return planes[0] if samples == 1 else np.ascontiguousarray(np.moveaxis(planes, 0, -1))


@contextmanager
def _without_panic() -> Iterator[None]:
    """A Rust panic is no Exception and its class cannot be imported; in safe Rust nothing worse has happened."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise ValueError("the decoder gave up") from None
        raise


def _as_stored(decoded: npt.NDArray[np.generic], seen: Codestream) -> Stored:
    shape = (seen.rows, seen.columns) if seen.components == 1 else (seen.rows, seen.columns, seen.components)
    if decoded.shape != shape or decoded.dtype.kind not in "iu" or decoded.dtype.itemsize > 2:
        raise FailStudy(
            "undecodable", f"the {seen.codec} decoder gave another size or type than the frame declares"
        )
    return decoded.view(np.uint8 if decoded.dtype.itemsize == 1 else np.uint16)
