"""One decoder per transfer syntax, pinned: what else happens to be installed changes nothing.

Why these: ``docs/decisions/0010-decoders.md``. libjpeg-turbo, CharLS and OpenJPEG come with imagecodecs and run in a
process of their own (``decoder_process``). RLE is pylibjpeg-rle's, in Rust, which can give up and not corrupt memory:
it runs here.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
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
}
"""Codestreams allowed per transfer syntax (PS3.5 A.4). The JPEG processes are often mislabelled among each
other and decode all the same; any other mismatch is refused."""
RLE = "1.2.840.10008.1.2.5"
NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")

DECODERS = {
    Codec.JPEG: "jpeg8",
    Codec.JPEG_LOSSLESS: "jpeg8",
    Codec.JPEG_LS: "jpegls",
    Codec.JPEG_2000: "jpeg2k",
    Codec.HTJ2K: "jpeg2k",
}
"""By their names in ``decoder_program``."""


def supported(transfer_syntax: str) -> bool:
    """Whether images in this transfer syntax can be decoded here."""
    return transfer_syntax in CODESTREAMS or transfer_syntax == RLE or transfer_syntax in NATIVE


def decode_frame(
    frame: bytes, transfer_syntax: str, rows: int, columns: int, samples: int, *, rgb: bool = False
) -> tuple[Stored, int]:
    """Decode one compressed frame that must have the declared size.

    ``rgb`` says that a JPEG of three components holds red, green and blue: Photometric Interpretation decides that, not
    the codec's guess from component numbers and markers (PS3.5 8.2.1).

    Returns the stored bits as unsigned [rows, columns] or [rows, columns, samples], and the codestream's own
    precision. Raises FailStudy("codestream-mismatch") where the frame is not what the header declares,
    "undecodable" where it is damaged, and as ``decoder_process.decode``.
    """
    with refusing("undecodable", "the compressed frame has no readable header"):
        seen = read_codestream(frame)
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
    decoder = "jpeg8-rgb" if rgb and samples == 3 and seen.codec is Codec.JPEG else DECODERS[seen.codec]
    decoded = decoder_process.decode(decoder, frame, rows * columns * samples * BYTES_A_VALUE)
    if decoded is None:
        raise FailStudy("undecodable", f"the {seen.codec} frame is damaged")
    return _as_stored(decoded, seen), seen.precision


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
