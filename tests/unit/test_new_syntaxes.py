"""Transfer syntaxes that few write yet: read exactly where a pinned codec can, else refused by name."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from PIL import Image

from pipeline.archive.file_meta import file_header
from pipeline.archive.instance_file import examine
from pipeline.dicom_writer import DX_IMAGE_STORAGE, EXPLICIT_LITTLE
from pipeline.errors import FailStudy
from pipeline.images import codecs
from pipeline.images.codestream import Codec, read_codestream
from pipeline.images.decode import declared_pixels, stored_values
from pipeline.images.headers import read_header
from pipeline.images.limits import ImageLimits
from pipeline.study import HeldInstance
from tests.synthetic import chest_pixels, radiograph_header, write_chest

HEADER = radiograph_header("syntaxes")
JPEG_XL, RECOMPRESSED, LOSSY_XL = (f"1.2.840.10008.1.2.4.{n}" for n in (110, 111, 112))
PIXELS = chest_pixels(160, 137)
LIMITS = ImageLimits()


def jpeg_xl(pixels: npt.NDArray[np.uint16], **options: Any) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(pixels, lossless=True, **options))


def deflated(plain: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)  # RFC 1951, as PS3.5 A.4.13 says
    return packer.compress(plain) + packer.flush()


def encapsulated(path: Path, syntax: str, *fragments: bytes, bits: int = 16) -> Path:
    """A film whose one frame is these fragments; pydicom writes no such file."""
    dataset = pydicom.dcmread(write_chest(path, HEADER, pixels=PIXELS))
    if bits == 8:
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.save_as(path)
    content = path.read_bytes()
    start = 144 + int(struct.unpack_from("<I", content, 140)[0])
    head = content[start : content.index(b"\xe0\x7f\x10\x00OW", start)]
    items = b"".join(
        struct.pack("<HHI", 0xFFFE, 0xE000, len(one) + len(one) % 2) + one + bytes(len(one) % 2)
        for one in (b"", *fragments)
    )
    pixels = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + items + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    path.write_bytes(file_header(DX_IMAGE_STORAGE, HEADER.sop_instance_uid, syntax) + head + pixels)
    return path


def values(path: Path) -> npt.NDArray[np.integer]:
    assert isinstance(examine(path), HeldInstance)
    header = read_header(path, LIMITS)
    return stored_values(header, declared_pixels(header, LIMITS), 0, LIMITS)


NATIVE = PIXELS.tobytes()
EXACT: dict[str, tuple[str, list[bytes]]] = {
    "uncompressed": (codecs.UNCOMPRESSED, [NATIVE]),
    "uncompressed, two fragments": (codecs.UNCOMPRESSED, [NATIVE[:1000], NATIVE[1000:]]),
    "deflated": (codecs.DEFLATED_FRAME, [deflated(NATIVE)]),
    "JPEG XL": (JPEG_XL, [jpeg_xl(PIXELS, bitspersample=12)]),
    "JPEG XL of 16 bits": (JPEG_XL, [jpeg_xl(PIXELS)]),
    "JPEG XL, lossless under .112": (LOSSY_XL, [jpeg_xl(PIXELS)]),
    "JPEG XL with padding": (JPEG_XL, [jpeg_xl(PIXELS) + bytes(64)]),
}


@pytest.mark.parametrize("name", EXACT)
def test_they_are_read_exactly(tmp_path: Path, name: str) -> None:
    syntax, fragments = EXACT[name]
    assert np.array_equal(values(encapsulated(tmp_path / "1.dcm", syntax, *fragments)), PIXELS)


def test_a_recompressed_jpeg_is_the_jpeg(tmp_path: Path) -> None:
    grey = (PIXELS >> 4).astype(np.uint8)
    jpeg = imagecodecs.jpeg8_encode(grey, level=95)
    path = encapsulated(tmp_path / "1.dcm", RECOMPRESSED, bytes(imagecodecs.jpegxl_encode_jpeg(jpeg)), bits=8)
    assert np.array_equal(values(path), imagecodecs.jpeg8_decode(jpeg))


def test_a_progressive_jpeg_that_is_called_baseline_is_read(tmp_path: Path) -> None:
    """What wraps pictures of the web writes so; dcmtk (dcmdjpeg 3.6.7) reads it."""
    held = io.BytesIO()
    Image.fromarray((PIXELS >> 4).astype(np.uint8)).save(held, "JPEG", quality=95, progressive=True)
    jpeg = held.getvalue()
    assert b"\xff\xc2" in jpeg
    path = encapsulated(tmp_path / "1.dcm", "1.2.840.10008.1.2.4.50", jpeg, bits=8)
    assert np.array_equal(values(path), np.asarray(Image.open(held)))


CUT: dict[str, tuple[str, bytes, str]] = {
    "uncompressed": (codecs.UNCOMPRESSED, NATIVE[:-2], "pixel-data-short"),
    "deflated": (codecs.DEFLATED_FRAME, deflated(NATIVE)[:-100], "pixel-data-short"),
    "not deflated": (codecs.DEFLATED_FRAME, b"\xff" * 100, "undecodable"),
    "JPEG XL": (JPEG_XL, jpeg_xl(PIXELS)[:-50], "undecodable"),
    "JPEG under JPEG XL": (
        JPEG_XL,
        bytes(imagecodecs.jpeg8_encode((PIXELS >> 4).astype(np.uint8))),
        "codestream-mismatch",
    ),
    "another size": (JPEG_XL, jpeg_xl(PIXELS[:80]), "codestream-mismatch"),
}


@pytest.mark.parametrize("name", CUT)
def test_what_is_cut_or_something_else_is_refused(tmp_path: Path, name: str) -> None:
    syntax, fragment, code = CUT[name]
    with pytest.raises(FailStudy) as refused:
        values(encapsulated(tmp_path / "1.dcm", syntax, fragment))
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(8, 8), (137, 160), (160, 137), (300, 400), (1, 2), (700, 700), (1024, 1280), (513, 9)],
)
@pytest.mark.parametrize("container", [False, True])
def test_the_size_of_a_jpeg_xl_frame_is_read_before_it_is_decoded(
    rows: int, columns: int, *, container: bool
) -> None:
    frame = jpeg_xl(np.zeros((rows, columns), np.uint16), usecontainer=container)
    seen = read_codestream(frame)
    assert (seen.codec, seen.rows, seen.columns) == (Codec.JPEG_XL, rows, columns)


@pytest.mark.parametrize(
    ("syntax", "said"),
    [
        ("1.2.840.10008.1.2.4.100", "MPEG2 Main Profile"),
        ("1.2.840.113619.5.2", "1.2.840.113619.5.2"),
        ("1.2.840.10008.1.2.4.205", "1.2.840.10008.1.2.4.205"),
    ],
)
def test_a_refusal_names_the_syntax_in_words_and_by_uid(tmp_path: Path, syntax: str, said: str) -> None:
    path = encapsulated(tmp_path / "1.dcm", syntax, b"\1\2")
    with pytest.raises(FailStudy) as refused:
        declared_pixels(read_header(path, LIMITS), LIMITS)
    assert refused.value.code == "unsupported-transfer-syntax"
    assert said in refused.value.message
    assert syntax in refused.value.message
    assert codecs.named(EXPLICIT_LITTLE).startswith("Explicit VR Little Endian (")
