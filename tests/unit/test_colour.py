"""Colours: what one picture looks like does not depend on how it is stored.

The pictures are pydicom's: the same one written by several toolkits in several forms. The equations of the property
test are those of PS3.3 C.7.6.3.1.2, from RGB to what is stored.
"""

import io
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagecodecs import cms_profile
from PIL import Image, ImageCms
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import UID, ExplicitVRLittleEndian

from pipeline.errors import FailStudy
from pipeline.images import decoder_process
from pipeline.images.colour import srgb
from pipeline.images.decode import declared_pixels
from pipeline.images.headers import read_header
from pipeline.images.limits import ImageLimits

LIMITS = ImageLimits(min_side=2)
BARS = "SC_rgb_rle.dcm"
"""Colour bars, stored without loss."""
CARD = "SC_jpeg_no_color_transform.dcm"


def shown(path: Path) -> npt.NDArray[np.uint8]:
    header = read_header(path, LIMITS)
    return srgb(header, declared_pixels(header, LIMITS), 0, LIMITS)


def bundled(name: str) -> Path:
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str)
    return Path(found)


@pytest.mark.parametrize(
    ("name", "like", "within"),
    [
        ("SC_rgb_gdcm_KY.dcm", BARS, 0),
        ("SC_rgb_jls_lossy_line.dcm", BARS, 10),
        ("SC_rgb_dcmtk_+eb+cr.dcm", BARS, 3),
        ("SC_rgb_dcmtk_+eb+cy+np.dcm", BARS, 3),
        ("SC_rgb_dcmtk_+eb+cy+n1.dcm", BARS, 3),
        ("SC_rgb_dcmtk_+eb+cy+n2.dcm", BARS, 3),
        ("SC_rgb_dcmtk_+eb+cy+s2.dcm", BARS, 3),
        ("SC_rgb_dcmtk_+eb+cy+s4.dcm", BARS, 3),
        ("SC_ybr_full_422_uncompressed.dcm", BARS, 3),
        ("SC_jpeg_no_color_transform_2.dcm", CARD, 2),
        ("SC_rgb_jpeg.dcm", CARD, 0),  # implicit under an explicit syntax
    ],
)
def test_one_picture_in_every_form_looks_alike(name: str, like: str, within: int) -> None:
    away = np.abs(shown(bundled(name)).astype(int) - shown(bundled(like)).astype(int))
    assert np.median(away, axis=(0, 1)).max() <= within, "edges of chrominance blocks aside"


def test_a_palette_is_shown_by_its_colours() -> None:
    """Beside pydicom's own look-up, the upper eight of its sixteen bits."""
    path = bundled("examples_palette.dcm")
    dataset = dcmread(path)
    expected = (apply_color_lut(dataset.pixel_array, dataset) >> 8).astype(np.uint8)
    assert np.array_equal(shown(path), expected)
    assert len(np.unique(shown(path).reshape(-1, 3), axis=0)) > 16


@given(
    colours=st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=16, max_size=16), planar=st.booleans()
)
def test_luminance_and_chrominance_come_back(
    colours: list[tuple[int, int, int]], planar: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rgb = np.array(colours, np.float64).reshape(4, 4, 3)
    r, g, b = (rgb[..., channel] for channel in range(3))
    ybr = np.stack(
        [
            0.2990 * r + 0.5870 * g + 0.1140 * b,
            -0.1687 * r - 0.3313 * g + 0.5000 * b + 128,
            0.5000 * r - 0.4187 * g - 0.0813 * b + 128,
        ],
        axis=-1,
    )
    stored = np.clip(np.rint(ybr), 0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("ybr") / "one.dcm"
    write(path, np.moveaxis(stored, -1, 0) if planar else stored, "YBR_FULL", planar=planar)
    assert np.abs(shown(path).astype(int) - rgb).max() <= 2


def test_colours_of_twelve_bits_keep_their_upper_eight(tmp_path: Path) -> None:
    values = np.arange(4 * 4 * 3, dtype=np.uint16).reshape(4, 4, 3) * 80
    write(tmp_path / "one.dcm", values, "RGB", bits=12)
    assert np.array_equal(shown(tmp_path / "one.dcm"), values >> 4)


@pytest.mark.parametrize("profile", [b"\0" * 200, b"lies" * 64])
def test_a_profile_that_lies_changes_nothing(profile: bytes, tmp_path: Path) -> None:
    values = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
    write(tmp_path / "one.dcm", values, "RGB", ICCProfile=profile)
    assert np.array_equal(shown(tmp_path / "one.dcm"), values)


def test_a_profile_of_srgb_changes_next_to_nothing(tmp_path: Path) -> None:
    values = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    write(tmp_path / "one.dcm", values, "RGB", ICCProfile=profile)
    assert np.abs(shown(tmp_path / "one.dcm").astype(int) - values).max() <= 1


def test_a_profile_is_used_as_littlecms_does(tmp_path: Path) -> None:
    values = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
    profile = cms_profile("adobergb")
    write(tmp_path / "one.dcm", values, "RGB", ICCProfile=profile)
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    expected = ImageCms.profileToProfile(
        Image.fromarray(values), source, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert expected is not None
    assert np.array_equal(shown(tmp_path / "one.dcm"), np.asarray(expected))
    assert not np.array_equal(shown(tmp_path / "one.dcm"), values)


def test_a_profile_that_ends_its_reader_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deed = "import os, sys\nif any(one.endswith('decoder_program.py') for one in sys.orig_argv):\n"
    deed += (
        "    from PIL import ImageCms\n    ImageCms.ImageCmsProfile = lambda file: os.kill(os.getpid(), 11)\n"
    )
    (tmp_path / "sitecustomize.py").write_text(deed)
    write(tmp_path / "one.dcm", np.zeros((4, 4, 3), np.uint8), "RGB", ICCProfile=b"lies" * 64)
    decoder_process._POOL.close()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(FailStudy, match="SIGSEGV"):
        shown(tmp_path / "one.dcm")


@pytest.mark.parametrize(
    ("words", "bad"),
    [
        ([0, 1, 7, 1, 255, 65_000], False),
        ([0, 1, 7, 1, 65_535, 1, 1, 65_535, 2], True),
        ([0, 2, 1, 9, 2, 1, 0, 0] * 3, True),
        ([0, 60_000, 1], True),
    ],
    ids=["sound", "more than it has", "indirect", "longer than itself"],
)
def test_a_palette_in_segments_is_no_longer_than_it_says(words: list[int], bad: bool, tmp_path: Path) -> None:
    """PS3.3 C.7.9.2: three words may say 65,535 entries, and a mebibyte of them fills any memory."""
    tables: dict[str, Any] = {}
    for colour in ("Red", "Green", "Blue"):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tables[f"Segmented{colour}PaletteColorLookupTableData"] = np.array(words, "<u2").tobytes()
    indices = np.array([[0, 1, 255, 255]] * 4, np.uint8)
    write(tmp_path / "one.dcm", indices, "PALETTE COLOR", **tables)
    if bad:
        with pytest.raises(FailStudy, match="palette"):
            shown(tmp_path / "one.dcm")
    else:
        assert shown(tmp_path / "one.dcm")[0, :, 0].tolist() == [0, 1, 65_000 >> 8, 65_000 >> 8]


def test_a_palette_of_the_wrong_length_is_named(tmp_path: Path) -> None:
    tables: dict[str, Any] = {}
    for colour in ("Red", "Green", "Blue"):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tables[f"{colour}PaletteColorLookupTableData"] = b"\1\2" * 3
    write(tmp_path / "one.dcm", np.zeros((4, 4), np.uint8), "PALETTE COLOR", **tables)
    with pytest.raises(FailStudy, match="palette"):
        shown(tmp_path / "one.dcm")


@pytest.mark.parametrize("photometric", ["HSV", "CMYK", "YBR_PARTIAL_422", "Doe^Jane"])
def test_other_colours_are_refused_by_name(photometric: str, tmp_path: Path) -> None:
    write(tmp_path / "one.dcm", np.zeros((4, 4, 3), np.uint8), photometric)
    with pytest.raises(FailStudy) as refused:
        shown(tmp_path / "one.dcm")
    assert refused.value.code == "unsupported-colour"
    assert "Doe" not in refused.value.message


def fresh_colours() -> npt.NDArray[np.uint8]:
    y, x = np.mgrid[:64, :64].astype(np.uint8)
    return np.stack([x * 3, y * 3, np.full_like(x, 90)], axis=-1)


@pytest.mark.parametrize(
    ("number", "photometric"),
    [(111, "YBR_FULL_422"), (111, "YBR_FULL"), (112, "XYB"), (110, "RGB")],
)
def test_a_jpeg_xl_gives_red_green_and_blue(number: int, photometric: str, tmp_path: Path) -> None:
    """Its stream says how its colours are stored, whatever the header calls that (PS3.5 8.2.15)."""
    drawn = fresh_colours()
    if number == 111:
        jpeg = imagecodecs.jpeg8_encode(drawn, level=95)
        frame, expected = imagecodecs.jpegxl_encode_jpeg(jpeg), imagecodecs.jpeg8_decode(jpeg)
    else:
        frame = imagecodecs.jpegxl_encode(drawn, **({"lossless": True} if number == 110 else {"distance": 1}))
        expected = drawn if number == 110 else imagecodecs.jpegxl_decode(frame)
    write(tmp_path / "one.dcm", drawn, photometric)
    dataset = dcmread(tmp_path / "one.dcm")
    dataset.Rows = dataset.Columns = 64
    known = b"1.2.840.10008.1.2.4.201"  # as long as those that pydicom does not write
    dataset.file_meta.TransferSyntaxUID = UID(known.decode())
    dataset.PixelData = encapsulate([bytes(frame)])
    dataset["PixelData"].VR = "OB"
    dataset.save_as(tmp_path / "one.dcm")
    content = (tmp_path / "one.dcm").read_bytes().replace(known, known[:-3] + str(number).encode())
    (tmp_path / "one.dcm").write_bytes(content)
    assert np.abs(expected.astype(int) - drawn).max() < 40
    assert np.array_equal(shown(tmp_path / "one.dcm"), expected)


def write(
    path: Path,
    values: npt.NDArray[np.generic],
    photometric: str,
    *,
    planar: bool = False,
    bits: int = 0,
    **more: object,
) -> None:
    """A secondary capture of 4 x 4 as it stands in ``values``."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID("2.25.1")
    dataset.Rows = dataset.Columns = 4
    dataset.SamplesPerPixel = 3 if values.ndim == 3 else 1
    dataset.PhotometricInterpretation = photometric
    if values.ndim == 3:
        dataset.PlanarConfiguration = int(planar)
    dataset.BitsAllocated = values.dtype.itemsize * 8
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = values.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path, enforce_file_format=True)
