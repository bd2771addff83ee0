"""Stored values: every transfer syntax, every bit layout, against arithmetic and independent decoders."""

import os
import shutil
import subprocess
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from pipeline import dicom_writer as writer
from pipeline.errors import FailStudy, StopRun
from pipeline.images import codecs, probe_decoders
from pipeline.images.codestream import Codec, read_codestream, whole_frame
from pipeline.images.decode import declared_pixels, stored_values
from pipeline.images.headers import read_header
from pipeline.images.limits import ImageLimits
from tests.synthetic import chest_pixels, radiograph_header, write_chest

LIMITS = ImageLimits(min_side=1)


def decoded(path: Path, frame: int = 0, limits: ImageLimits = LIMITS) -> npt.NDArray[np.integer]:
    header = read_header(path, limits)
    return stored_values(header, declared_pixels(header, limits), frame, limits)


def refusal(path: Path, limits: ImageLimits = LIMITS) -> str:
    with pytest.raises(FailStudy) as caught:
        decoded(path, limits=limits)
    return caught.value.code


def rewritten(path: Path, syntax: str | None = None, /, **changes: object) -> Path:
    """The file with elements replaced, and under another transfer syntax where one is given."""
    dataset = pydicom.dcmread(path)
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    if syntax is not None:
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
    if dataset.file_meta.TransferSyntaxUID.is_compressed and "PixelData" in changes:
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


@pytest.mark.parametrize("syntax", sorted(set(writer.WRITABLE) - set(writer.LOSSY_BITS)))
def test_lossless_syntaxes_are_exact(tmp_path: Path, syntax: str) -> None:
    pixels = chest_pixels(131, 97)
    np.testing.assert_array_equal(
        decoded(write_chest(tmp_path / "a", pixels=pixels, transfer_syntax=syntax)), pixels
    )


@pytest.mark.parametrize(("syntax", "bits"), sorted(writer.LOSSY_BITS.items()))
def test_lossy_syntaxes_are_near(tmp_path: Path, syntax: str, bits: int) -> None:
    pixels = chest_pixels(131, 97, bits=bits)
    stored = pixels.astype(np.uint8) if bits == 8 else pixels
    path = write_chest(tmp_path / "a", pixels=stored, transfer_syntax=syntax, bits_stored=bits)
    assert np.abs(decoded(path).astype(int) - pixels).max() < 1 << (bits - 5)


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_lossless_jpeg_of_any_predictor_and_depth(tmp_path: Path, predictor: int, bits: int) -> None:
    pixels = chest_pixels(70, 61, bits=bits)
    stored = pixels.astype(np.uint8) if bits == 8 else pixels
    frame = imagecodecs.jpeg8_encode(stored, lossless=True, predictor=predictor, bitspersample=bits)
    path = write_chest(tmp_path / "a", pixels=stored, bits_stored=bits)
    rewritten(path, "1.2.840.10008.1.2.4.57", PixelData=encapsulate([bytes(frame)]))
    np.testing.assert_array_equal(decoded(path), pixels)


@pytest.mark.parametrize("encoding", ["+e1", "+el +sv 7", "+eb", "+ee"])
def test_frames_of_an_independent_encoder(tmp_path: Path, encoding: str) -> None:
    if shutil.which("dcmcjpeg") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("dcmtk is missing: apt-get install dcmtk")
        pytest.skip("dcmtk is missing: apt-get install dcmtk")
    bits = 8 if encoding == "+eb" else 12
    pixels = chest_pixels(131, 97, bits=bits)
    stored = pixels.astype(np.uint8) if bits == 8 else pixels
    plain = write_chest(tmp_path / "plain", pixels=stored, bits_stored=bits)
    subprocess.run(["dcmcjpeg", *encoding.split(), plain, tmp_path / "jpeg"], check=True)
    subprocess.run(["dcmdjpeg", tmp_path / "jpeg", tmp_path / "again"], check=True)
    theirs = pydicom.dcmread(tmp_path / "again").pixel_array
    lossy = encoding in ("+eb", "+ee")
    assert np.abs(decoded(tmp_path / "jpeg").astype(int) - theirs).max() <= (1 if lossy else 0)
    if not lossy:
        np.testing.assert_array_equal(theirs, pixels)


BUNDLED = [
    "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm", "JPEG2000.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "JPGExtended.dcm",
    "JPEGLSNearLossless_08.dcm", "JPEGLSNearLossless_16.dcm", "CT_small.dcm", "image_dfl.dcm",
    "MR_small_expb.dcm", "examples_overlay.dcm",
]  # fmt: skip


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_files_as_pydicom_decodes_them(name: str) -> None:
    path = Path(str(get_testdata_file(name)))
    wanted = pydicom.dcmread(path).pixel_array
    frame = wanted[0] if wanted.ndim == 3 else wanted
    rounding = 1 if name == "JPGExtended.dcm" else 0
    assert np.abs(decoded(path).astype(int) - frame).max() <= rounding


@pytest.mark.parametrize(
    ("bits_stored", "high_bit", "signed"),
    [(10, 9, False), (12, 15, False), (12, 13, True), (15, 14, False), (16, 15, True), (11, 10, True)],
)
def test_bit_layouts(tmp_path: Path, bits_stored: int, high_bit: int, signed: bool) -> None:
    """Values anywhere in the word, with overlay bits set in the rest, as PS3.5 8.1.1 allows."""
    generator = np.random.default_rng(3)
    low, high = (-(1 << bits_stored - 1), 1 << bits_stored - 1) if signed else (0, 1 << bits_stored)
    values = generator.integers(low, high, (40, 30))
    shift = high_bit + 1 - bits_stored
    mask = ((1 << bits_stored) - 1) << shift
    words = ((values << shift) & mask) | (generator.integers(0, 1 << 16, values.shape) & ~mask & 0xFFFF)
    path = write_chest(tmp_path / "a", pixels=words.astype(np.uint16), bits_stored=16)
    rewritten(path, BitsStored=bits_stored, HighBit=high_bit, PixelRepresentation=int(signed))
    np.testing.assert_array_equal(decoded(path), values)


def test_eight_bits_in_big_endian_words(tmp_path: Path) -> None:
    pixels = chest_pixels(30, 40, bits=8).astype(np.uint8)
    path = write_chest(tmp_path / "a", pixels=pixels, bits_stored=8, transfer_syntax=writer.EXPLICIT_BIG)
    dataset = pydicom.dcmread(path)
    dataset.PixelData = pixels.reshape(-1, 2)[:, ::-1].tobytes()
    dataset["PixelData"].VR = "OW"
    pydicom.dcmwrite(path, dataset)
    np.testing.assert_array_equal(decoded(path), pixels)


def test_one_frame_of_several(tmp_path: Path) -> None:
    frames = np.stack([chest_pixels(40, 30, seed=seed) for seed in range(3)])
    path = rewritten(
        write_chest(tmp_path / "a", pixels=frames[0]), NumberOfFrames=3, PixelData=frames.tobytes()
    )
    np.testing.assert_array_equal(decoded(path, 2), frames[2])
    packed = [bytes(imagecodecs.jpegls_encode(frame)) for frame in frames]
    rewritten(path, writer.JPEG_LS_LOSSLESS, PixelData=encapsulate(packed))
    np.testing.assert_array_equal(decoded(path, 1), frames[1])


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_a_grey_film_in_three_channels(tmp_path: Path, photometric: str, planar: int) -> None:
    grey = chest_pixels(40, 30, bits=8).astype(np.uint8)
    rest = grey if photometric == "RGB" else np.full_like(grey, 128)
    stacked = np.stack([grey, rest, rest], axis=0 if planar else -1)
    path = write_chest(tmp_path / "a", pixels=grey, bits_stored=8)
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": photometric, "PlanarConfiguration": planar}
    rewritten(path, PixelData=stacked.tobytes(), **colour)
    np.testing.assert_array_equal(decoded(path), grey)
    stacked.reshape(-1)[1300:1600] = np.arange(300) % 251
    rewritten(path, PixelData=stacked.tobytes(), **colour)
    assert refusal(path) == "colour"


def test_colour_jpeg_is_refused() -> None:
    assert refusal(Path(str(get_testdata_file("SC_rgb_jpeg_dcmtk.dcm")))) == "colour"


class TestMismatch:
    """What the header says and what the frame is must agree before a decoder runs."""

    def test_another_size_in_the_frame(self, tmp_path: Path) -> None:
        path = write_chest(
            tmp_path / "a", pixels=chest_pixels(64, 64), transfer_syntax=writer.JPEG_2000_LOSSLESS
        )
        assert refusal(rewritten(path, Rows=65)) == "codestream-mismatch"

    def test_another_codec_in_the_frame(self, tmp_path: Path) -> None:
        path = write_chest(
            tmp_path / "a", pixels=chest_pixels(64, 64), transfer_syntax=writer.JPEG_LS_LOSSLESS
        )
        assert refusal(rewritten(path, writer.JPEG_2000_LOSSLESS)) == "codestream-mismatch"

    def test_compressed_under_native(self, tmp_path: Path) -> None:
        path = write_chest(
            tmp_path / "a", pixels=chest_pixels(64, 64), transfer_syntax=writer.JPEG_LS_LOSSLESS
        )
        content = path.read_bytes().replace(b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.1\0\0\0")
        path.write_bytes(content)
        assert refusal(path) == "codestream-mismatch"

    def test_native_under_compressed(self, tmp_path: Path) -> None:
        path = write_chest(tmp_path / "a", pixels=chest_pixels(64, 64))
        content = path.read_bytes()
        at = content.index(b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0")
        longer = b"\x02\x00\x10\x00UI\x16\x001.2.840.10008.1.2.4.90"
        group = int.from_bytes(content[140:144], "little") + 2
        content = content[:140] + group.to_bytes(4, "little") + content[144:at] + longer + content[at + 28 :]
        path.write_bytes(content)
        assert refusal(path) == "codestream-mismatch"

    def test_an_unknown_transfer_syntax(self, tmp_path: Path) -> None:
        path = write_chest(
            tmp_path / "a", pixels=chest_pixels(64, 64), transfer_syntax=writer.JPEG_LS_LOSSLESS
        )
        assert refusal(rewritten(path, "1.2.840.10008.1.2.4.100")) == "unsupported-transfer-syntax"

    @pytest.mark.parametrize("syntax", sorted(codecs.CODESTREAMS.keys() & set(writer.WRITABLE)))
    def test_a_frame_cut_short(self, tmp_path: Path, syntax: str) -> None:
        bits = writer.LOSSY_BITS.get(syntax, 12)
        pixels = chest_pixels(64, 64, bits=bits)
        stored = pixels.astype(np.uint8) if bits == 8 else pixels
        path = write_chest(tmp_path / "a", pixels=stored, transfer_syntax=syntax, bits_stored=bits)
        frame = next(pydicom.encaps.generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))
        assert refusal(rewritten(path, PixelData=encapsulate([frame[: len(frame) // 2]]))) == "undecodable"


def test_huge_headers_are_refused_before_allocation(tmp_path: Path) -> None:
    path = rewritten(write_chest(tmp_path / "a"), Rows=65535, Columns=65535)
    assert refusal(path, ImageLimits()) == "too-large"
    rewritten(path, Rows=4000, Columns=4000, NumberOfFrames=1000)
    assert refusal(path, ImageLimits()) == "too-large"


def test_a_deflated_bomb_is_refused(tmp_path: Path) -> None:
    path = write_chest(tmp_path / "a", transfer_syntax=writer.DEFLATED)
    with pytest.raises(FailStudy) as caught:
        read_header(path, ImageLimits(max_inflated_bytes=10_000))
    assert caught.value.code == "too-large"


def test_short_and_missing_pixels(tmp_path: Path) -> None:
    assert refusal(rewritten(write_chest(tmp_path / "a"), Rows=400)) == "pixel-data-short"
    dataset = pydicom.dcmread(write_chest(tmp_path / "b"))
    del dataset.PixelData
    pydicom.dcmwrite(tmp_path / "b", dataset)
    assert refusal(tmp_path / "b") == "no-pixels"


@pytest.mark.parametrize(
    "frame", [b"", b"\xff\xd8", b"\xff\xd8\xff\xda\0\x0c", b"GIF89a" * 9, b"\xff\x4f\xff\x51" + b"\0" * 60]
)
def test_what_is_no_codestream(frame: bytes) -> None:
    with pytest.raises((ValueError, LookupError, ArithmeticError)):
        read_codestream(frame + b"\0" * 4)


def test_the_codestream_says_what_it_is() -> None:
    pixels = chest_pixels(33, 44)
    seen = read_codestream(bytes(imagecodecs.htj2k_encode(pixels)))
    assert (seen.codec, seen.rows, seen.columns, seen.components, seen.tiles) == (Codec.HTJ2K, 33, 44, 1, 1)
    frame = bytes(imagecodecs.jpegls_encode(pixels))
    assert read_codestream(frame).codec is Codec.JPEG_LS
    assert whole_frame(frame + b"\0\0") == frame
    assert whole_frame(frame + b"\0" * 10_000) == frame  # zeros however many are padding
    for cut in (frame[:-2], frame + b"\0" * 100 + b"\1", frame[:-2] + b"\0" * 64):
        with pytest.raises(ValueError, match="end marker"):
            whole_frame(cut)


def test_the_probe_finds_a_decoder_that_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(probe_decoders()) <= {*codecs.CODESTREAMS, codecs.RLE}
    monkeypatch.setitem(codecs.DECODERS, Codec.JPEG_LS, "jpeg8")
    with pytest.raises(StopRun, match=r"4\.80"):
        probe_decoders()


def test_header_reading_leaves_the_film_at_rest(tmp_path: Path) -> None:
    path = write_chest(tmp_path / "a", radiograph_header())
    before = path.read_bytes()
    decoded(path)
    assert path.read_bytes() == before
