"""From a file to the stored values of one frame (PS3.3 C.7.6.3, PS3.5 section 8)."""

import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from pipeline.errors import FailStudy
from pipeline.images import codecs
from pipeline.images.codecs import Stored
from pipeline.images.fragments import frame_table
from pipeline.images.headers import Header, inflated, integer, refusing, text
from pipeline.images.limits import ImageLimits

UNDEFINED_LENGTH = 0xFFFFFFFF
GREY_TOLERANCE = 3
"""Colour channels that differ by no more than this many levels of 255 are a grey film stored in colour."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What the header declares about its pixels, checked against the limits."""

    rows: int
    columns: int
    samples: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str
    planar: bool

    @property
    def halved(self) -> bool:
        """Whether two neighbours share their chrominance."""
        return self.photometric == "YBR_FULL_422" and self.samples == 3 and self.bits_allocated == 8

    @property
    def frame_bytes(self) -> int:
        """Bytes of one native frame; one of halved chrominance has two samples for a pixel (PS3.3 C.7.6.3.1.2)."""
        if self.halved:
            return self.rows * self.columns * 2
        return self.rows * self.columns * self.samples * self.bits_allocated // 8


def declared_pixels(header: Header, limits: ImageLimits) -> Declared:
    """Read and check the Image Pixel attributes; nothing is allocated.

    Raises FailStudy: "no-pixels", "too-large", "too-small", "unsupported-bits",
    "unsupported-transfer-syntax".
    """
    dataset = header.dataset
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    samples = integer(dataset, "SamplesPerPixel") or 1
    frames = integer(dataset, "NumberOfFrames") or 1
    allocated = integer(dataset, "BitsAllocated") or 0
    stored = integer(dataset, "BitsStored") or allocated
    high_bit = integer(dataset, "HighBit")
    declared = Declared(
        rows, columns, samples, frames, allocated, stored, stored - 1 if high_bit is None else high_bit,
        integer(dataset, "PixelRepresentation") == 1, text(dataset, "PhotometricInterpretation").upper(),
        integer(dataset, "PlanarConfiguration") == 1,
    )  # fmt: skip
    _check(declared, header, limits)
    return declared


def _check(declared: Declared, header: Header, limits: ImageLimits) -> None:
    if header.pixel_offset is None or min(declared.rows, declared.columns, declared.frames) <= 0:
        raise FailStudy("no-pixels", "the instance holds no picture: pixel data or its size is missing")
    frame_pixels = declared.rows * declared.columns * declared.samples
    if frame_pixels > limits.max_frame_pixels or frame_pixels * declared.frames > limits.max_pixels:
        raise FailStudy("too-large", "the header declares more pixels than a radiograph can have")
    if min(declared.rows, declared.columns) < limits.min_side:
        raise FailStudy("too-small", f"a side is shorter than {limits.min_side} pixels")
    if declared.samples not in (1, 3):
        raise FailStudy("unsupported-samples", f"{declared.samples} samples per pixel")
    low = declared.high_bit + 1 - declared.bits_stored
    fits = declared.bits_stored > 1 and low >= 0 and declared.high_bit < declared.bits_allocated
    if declared.bits_allocated == 1:
        raise FailStudy("unsupported-bits", "a picture in black and white of one bit a pixel is not read")
    if declared.bits_allocated not in (8, 16, 32) or not fits:
        raise FailStudy(
            "unsupported-bits",
            f"{declared.bits_stored} bits stored of {declared.bits_allocated}, high bit {declared.high_bit}",
        )
    if not codecs.supported(header.transfer_syntax):
        raise FailStudy(
            "unsupported-transfer-syntax",
            f"no decoder is pinned for transfer syntax {codecs.named(header.transfer_syntax)}: have the archive send "
            "another one",
        )


def stored_values(
    header: Header,
    declared: Declared,
    frame: int,
    limits: ImageLimits,
    into: npt.NDArray[np.int16] | None = None,
) -> npt.NDArray[np.integer]:
    """The stored values of frame ``frame`` (from 0): integer [rows, columns], sign extended.

    Where the frame is grey and of 16 bits they are left in ``into`` [rows, columns], C-contiguous, which is given back;
    values of 16 bits without a sign wrap around there. A grey film stored in three channels gives its one channel; real
    colour raises FailStudy("colour"). Also raises FailStudy: "pixel-data-short", "codestream-mismatch", "undecodable".
    """
    room = into.view(np.uint16) if into is not None and _is_grey_of_16(declared) else None
    bits, precision = stored_bits(header, declared, frame, limits, room)
    if declared.samples == 3:
        codec_gives_rgb = header.transfer_syntax in codecs.CODESTREAMS
        bits = _grey_channel(
            bits, declared, luminance=not codec_gives_rgb and declared.photometric.startswith("YBR_FULL")
        )
    values = _values(bits, declared, precision)
    return into if into is not None and np.may_share_memory(into, values) else values


def _is_grey_of_16(declared: Declared) -> bool:
    return (declared.samples, declared.bits_allocated) == (1, 16)


def stored_bits(
    header: Header,
    declared: Declared,
    frame: int,
    limits: ImageLimits,
    into: npt.NDArray[np.uint16] | None = None,
) -> tuple[Stored, int]:
    """Frame ``frame`` (from 0) as its codec gives it, [rows, columns] or [rows, columns, 3], and its precision in bits.

    A codec that holds colours in a form of its own gives RGB: JPEG 2000 always, JPEG where Photometric Interpretation
    names luminance and chrominance (PS3.5 8.2.1, 8.2.4). ``into`` is written and given back where the picture comes
    in 16 bits and needs no rearranging. Raises as ``stored_values``.
    """
    as_they_are = into is not None and header.transfer_syntax in codecs.NATIVE[:2] and header.little
    with (
        refusing("undecodable", "the pixel data cannot be read"),
        _opened(header, limits, buffered=not as_they_are) as stream,
    ):
        stream.seek(header.pixel_offset or 0)
        vr, length = _pixel_element(stream, header)
        if into is not None and as_they_are:
            _native_into(into, stream, declared, frame, length)
            return into, declared.bits_allocated
        if header.transfer_syntax in codecs.NATIVE:
            return _native(stream, header, declared, frame, vr, length), declared.bits_allocated
        return _compressed(stream, header, declared, frame, length, into)


def _native_into(
    target: npt.NDArray[np.uint16], stream: BinaryIO, declared: Declared, frame: int, length: int
) -> None:
    """Read a frame of little-endian values of 16 bits straight to its place."""
    _at_native(stream, declared, frame, length)
    content = target.data.cast("B")
    while content and (read := stream.readinto(content)):  # type: ignore[attr-defined]
        content = content[read:]
    if content:
        raise FailStudy("pixel-data-short", "the pixel data is shorter than the header declares")
    if sys.byteorder == "big":
        target.byteswap(inplace=True)


def first_item(header: Header) -> int:
    """Where in the file the first item of encapsulated pixel data begins. Raises what a damaged file does."""
    with header.path.open("rb") as stream:
        stream.seek(header.pixel_offset or 0)
        _pixel_element(stream, header)
        return stream.tell()


def compressed_frames(header: Header, declared: Declared, frames: Sequence[int]) -> list[bytes]:
    """The bytes of compressed frames (from 0), each as its transfer syntax and the header declare it.

    Raises as ``stored_values``.
    """
    size = declared.rows, declared.columns, declared.samples
    with refusing("undecodable", "the pixel data cannot be read"):
        table = frame_table(header.path, first_item(header), declared.frames)
        held = [table.read(header.path, frame, declared.frame_bytes) for frame in frames]
    return [codecs.checked_frame(one, header.transfer_syntax, *size)[0] for one in held]


def _opened(header: Header, limits: ImageLimits, *, buffered: bool) -> BinaryIO:
    if header.transfer_syntax == "1.2.840.10008.1.2.1.99":
        return inflated(header.path, limits)
    return header.path.open("rb") if buffered else header.path.open("rb", buffering=0)


def _pixel_element(stream: BinaryIO, header: Header) -> tuple[str, int]:
    """VR and length of the element the stream stands at, which is left at its value (PS3.5 7.1)."""
    order = "<" if header.little else ">"
    group, element = struct.unpack(f"{order}HH", stream.read(4))
    if (group, element) != (0x7FE0, 0x0010):
        raise FailStudy("unsupported-bits", "the pixels are floating point numbers")
    if header.implicit:
        return "OW", int(struct.unpack(f"{order}I", stream.read(4))[0])
    vr, rest = stream.read(2), stream.read(2)
    if not (
        vr.isalpha() and vr.isupper()
    ):  # implicit in an explicit syntax, as a whole data set or from a copy
        return "OW", int(struct.unpack(f"{order}I", vr + rest)[0])
    return vr.decode("ascii"), int(struct.unpack(f"{order}I", stream.read(4))[0])


def _native(stream: BinaryIO, header: Header, declared: Declared, frame: int, vr: str, length: int) -> Stored:
    size = declared.frame_bytes
    _at_native(stream, declared, frame, length)
    content = stream.read(size)
    if len(content) < size:
        raise FailStudy("pixel-data-short", "the pixel data is shorter than the header declares")
    order = "<" if header.little else ">"
    bits = np.frombuffer(content, f"{order}u{declared.bits_allocated // 8}")
    if declared.bits_allocated == 8 and not header.little and vr == "OW":
        bits = bits[: size - size % 2].reshape(-1, 2)[:, ::-1].reshape(-1)
    return _shaped(bits.astype(bits.dtype.newbyteorder("="), copy=False), declared)


def _at_native(stream: BinaryIO, declared: Declared, frame: int, length: int) -> None:
    """Leave ``stream``, which stands at the value of the pixel element, at a frame of it."""
    if length == UNDEFINED_LENGTH:
        raise FailStudy("codestream-mismatch", "compressed pixels under an uncompressed transfer syntax")
    if (frame + 1) * declared.frame_bytes > length + 1:
        raise FailStudy("pixel-data-short", "the pixel data is shorter than the header declares")
    stream.seek(frame * declared.frame_bytes, 1)


def _shaped(bits: Stored, declared: Declared) -> Stored:
    if declared.samples == 1:
        return bits.reshape(declared.rows, declared.columns)
    if declared.halved:
        luminance, chrominance = bits.reshape(-1, 4)[:, :2], bits.reshape(-1, 4)[:, None, 2:]
        joined = np.concatenate(
            [luminance[..., None], np.broadcast_to(chrominance, (len(luminance), 2, 2))], axis=-1
        )
        return joined.reshape(declared.rows, declared.columns, 3)
    if declared.planar:
        return np.moveaxis(bits.reshape(declared.samples, declared.rows, declared.columns), 0, -1)
    return bits.reshape(declared.rows, declared.columns, declared.samples)


def _compressed(
    stream: BinaryIO,
    header: Header,
    declared: Declared,
    frame: int,
    length: int,
    into: npt.NDArray[np.uint16] | None,
) -> tuple[Stored, int]:
    if length != UNDEFINED_LENGTH:
        raise FailStudy("codestream-mismatch", "uncompressed pixels under a compressed transfer syntax")
    table = frame_table(header.path, stream.tell(), declared.frames)
    content = table.read(header.path, frame, declared.frame_bytes)
    if header.transfer_syntax in codecs.FRAMED:
        plain = codecs.native_frame(content, header.transfer_syntax, declared.frame_bytes)
        values = np.frombuffer(plain, f"<u{declared.bits_allocated // 8}")
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        return _shaped(native, declared), declared.bits_allocated
    if header.transfer_syntax == codecs.RLE:
        decoded = codecs.decode_rle_frame(
            content, declared.rows, declared.columns, declared.samples, declared.bits_allocated
        )
        return decoded, declared.bits_allocated
    return codecs.decode_frame(
        content,
        header.transfer_syntax,
        declared.rows,
        declared.columns,
        declared.samples,
        rgb=declared.photometric == "RGB",
        into=into,
    )


def _grey_channel(bits: Stored, declared: Declared, *, luminance: bool) -> Stored:
    """The one channel of a grey film stored in three: luminance and no colour, or three alike."""
    tolerance = max(1, GREY_TOLERANCE << max(0, declared.bits_stored - 8))
    channels = bits.astype(np.int32)
    if luminance:
        away = np.abs(channels[..., 1:] - (1 << declared.bits_stored - 1)).max()
    else:
        away = (channels.max(axis=-1) - channels.min(axis=-1)).max()
    if away > tolerance:
        raise FailStudy("colour", "a colour picture, not a radiograph")
    return np.ascontiguousarray(bits[..., 0 if luminance else 1])


def _values(bits: Stored, declared: Declared, precision: int) -> npt.NDArray[np.integer]:
    """Shift, mask and sign-extend, in place where that can be written to: overlay bits beside the stored bits are
    cleared (PS3.5 8.1.1).
    """
    width = min(declared.bits_stored, precision)
    low = declared.high_bit + 1 - declared.bits_stored if precision > declared.bits_stored else 0
    held = bits.dtype.itemsize * 8
    place = bits if bits.flags.writeable else None
    if low:
        bits = np.right_shift(bits, bits.dtype.type(low), out=place)
    if width < held:
        bits = np.bitwise_and(bits, bits.dtype.type((1 << width) - 1), out=place)
    if not declared.signed:
        return bits
    shift = held - width
    signed = np.dtype(f"i{bits.dtype.itemsize}")
    extended: npt.NDArray[np.signedinteger] = np.left_shift(bits, bits.dtype.type(shift), out=place).view(
        signed
    )
    np.right_shift(extended, signed.type(shift), out=extended)
    return extended
