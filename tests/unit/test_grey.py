"""Stored values to display, against the formulas of PS3.3 C.11 written out; size and spacing."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipeline.errors import FailStudy
from pipeline.images import prepare, preview
from pipeline.images.grey import display
from pipeline.images.scale import pixel_aspect, resized, spacing_mm, working_size
from tests.synthetic import chest_pixels, fetched, radiograph_header, write_chest

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def header(**elements: object) -> Dataset:
    dataset = Dataset()
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelRepresentation = 0
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def lut(first: int, entries: npt.NDArray[np.integer], bits: int = 12) -> Sequence:
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65536, first, bits]
    item["LUTDescriptor"].VR = "US"
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return Sequence([item])


def linear(value: float, center: float, width: float) -> float:
    """PS3.3 C.11.2.1.2.1, as it is printed there, to 0..1."""
    if value <= center - 0.5 - (width - 1) / 2:
        return 0.0
    if value > center - 0.5 + (width - 1) / 2:
        return 1.0
    return (value - (center - 0.5)) / (width - 1) + 0.5


@pytest.mark.parametrize(("center", "width"), [(2048, 4096), (1000, 500), (2047.5, 2), (300, 4000)])
def test_linear_window(center: float, width: float) -> None:
    shown = display(RAMP, header(WindowCenter=center, WindowWidth=width)).reshape(-1)
    wanted = [linear(value, center, width) for value in range(4096)]
    np.testing.assert_allclose(shown, wanted, atol=2e-5)


def test_linear_exact_and_sigmoid_windows() -> None:
    exact = display(RAMP, header(WindowCenter=2000, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT")).reshape(
        -1
    )
    assert exact[2000] == pytest.approx(0.5, abs=1e-5)
    assert (exact[1500], exact[2500]) == pytest.approx((0, 1), abs=1e-5)
    sigmoid = display(RAMP, header(WindowCenter=2000, WindowWidth=1000, VOILUTFunction="SIGMOID")).reshape(-1)
    assert sigmoid[2500] == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-5)


def test_the_first_of_several_windows() -> None:
    several = display(RAMP, header(WindowCenter=[1000, 3000], WindowWidth=[2000, 10]))
    np.testing.assert_array_equal(several, display(RAMP, header(WindowCenter=1000, WindowWidth=2000)))


def test_rescale_comes_before_the_window() -> None:
    rescaled = display(RAMP, header(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=0, WindowWidth=1001))
    assert rescaled.reshape(-1)[500] == pytest.approx(linear(0, 0, 1001), abs=1e-5)


def test_monochrome1_is_turned_once_whatever_the_shape_says() -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    upright = display(RAMP, header(**window))
    for elements in (
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
        {"PresentationLUTShape": "INVERSE"},
    ):
        np.testing.assert_allclose(display(RAMP, header(**window, **elements)), 1 - upright, atol=1e-6)


def test_modality_and_voi_luts() -> None:
    squares = (np.arange(4096, dtype=np.int64) ** 2 // 4096).astype(np.uint16)
    by_modality = display(
        RAMP, header(ModalityLUTSequence=lut(0, squares), WindowCenter=2048, WindowWidth=4096)
    )
    assert by_modality.reshape(-1)[2048] == pytest.approx(linear(1024, 2048, 4096), abs=1e-5)
    by_voi = display(RAMP, header(VOILUTSequence=lut(0, squares), WindowCenter=1, WindowWidth=2)).reshape(-1)
    assert by_voi[2048] == pytest.approx(1024 / squares.max(), abs=1e-5)


def test_a_lut_ends_in_its_first_and_last_entries() -> None:
    table = lut(1000, np.arange(100, 1100))
    shown = display(RAMP, header(VOILUTSequence=table)).reshape(-1)
    assert shown[0] == shown[1000] == pytest.approx(100 / 1099)
    assert shown[1999] == shown[4095] == pytest.approx(1)


def test_a_signed_lut_starts_below_zero() -> None:
    signed = RAMP.astype(np.int16) - 2048
    table = lut(65536 - 2048, np.arange(4096))
    shown = display(signed, header(PixelRepresentation=1, VOILUTSequence=table)).reshape(-1)
    np.testing.assert_allclose(shown, np.arange(4096) / 4095, atol=1e-5)


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"WindowCenter": 90000, "WindowWidth": 10},
        {"WindowCenter": 2048, "WindowWidth": 0},
        {"WindowCenter": 2048},
        {"WindowCenter": "", "WindowWidth": ""},
        {"VOILUTSequence": Sequence([Dataset()])},
    ],
)
def test_without_a_usable_window_the_film_sets_the_range(elements: dict[str, object]) -> None:
    film = chest_pixels(200, 180)
    film[0, 0] = 65535
    shown = display(film, header(**elements))
    low, high = np.percentile(film, (0.5, 99.5))
    np.testing.assert_allclose(shown, np.clip((film - low) / (high - low), 0, 1), atol=0.01)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_count(photometric: str) -> None:
    film = chest_pixels(200, 180).astype(np.int32)
    film[:, :60] = 0xFFF0
    shown = display(film, header(PixelPaddingValue=0xFFF0, PhotometricInterpretation=photometric))
    assert shown[:, :60].max() == 0
    assert shown[:, 60:].std() > 0.1


def test_what_shows_nothing_is_refused() -> None:
    for film, code in (
        (np.full((64, 64), 7, np.uint16), "constant"),
        ((RAMP % 4).astype(np.uint16), "blank"),
        (np.where(RAMP == 0, np.uint32(70_000), RAMP), "unsupported-bits"),
    ):
        with pytest.raises(FailStudy) as caught:
            display(film, header())
        assert caught.value.code == code


def test_signed_values_over_the_whole_range() -> None:
    film = np.linspace(-32768, 32767, 4096).astype(np.int16).reshape(64, 64)
    shown = display(
        film, header(VOILUTFunction="SIGMOID", WindowCenter=0, WindowWidth=20000, PixelRepresentation=1)
    )
    assert (np.diff(shown.reshape(-1)) >= 0).all()


@pytest.mark.parametrize(
    ("rows", "columns", "aspect", "side", "size"),
    [
        (2048, 2048, 1.0, 1024, (1024, 1024)),
        (3000, 2000, 1.0, 1024, (1024, 683)),
        (400, 300, 1.0, 1024, (400, 300)),
        (400, 300, 2.0, 1024, (400, 150)),
        (400, 300, 0.5, 1024, (200, 300)),
        (1, 5000, 1.0, 100, (1, 100)),
    ],
)
def test_working_size(rows: int, columns: int, aspect: float, side: int, size: tuple[int, int]) -> None:
    assert working_size(rows, columns, aspect, side) == size


def test_resizing_averages_areas() -> None:
    film = np.random.default_rng(0).random((96, 64)).astype(np.float32)
    halved = resized(film, (48, 32))
    np.testing.assert_allclose(halved, film.reshape(48, 2, 32, 2).mean((1, 3)), atol=1e-6)
    assert resized(film, (33, 20)).mean() == pytest.approx(film.mean(), abs=0.01)


def test_spacing_and_aspect() -> None:
    assert spacing_mm(header(PixelSpacing=[0.2, 0.1], ImagerPixelSpacing=[9, 9])) == (0.2, 0.1)
    assert spacing_mm(header(ImagerPixelSpacing=[0.14, 0.14])) == (0.14, 0.14)
    assert spacing_mm(header(PixelSpacing=[0, 0])) is None
    assert pixel_aspect(header(PixelSpacing=[0.2, 0.1])) == 2
    assert pixel_aspect(header(PixelAspectRatio=[1, 2])) == 0.5
    assert pixel_aspect(header(PixelAspectRatio=[0, 2])) == 1
    assert pixel_aspect(header(PixelSpacing=[1, 0.001])) == 1


def test_a_film_of_oblong_pixels_comes_out_square(tmp_path: Path) -> None:
    path = write_chest(
        tmp_path / "a", radiograph_header(spacing_mm=(0.2, 0.4)), pixels=chest_pixels(400, 200)
    )
    image = prepare(fetched(tmp_path, [path]), sides=(200,))[1].images[0]
    assert image.pixels.shape == (200, 200)
    assert (image.original_rows, image.original_columns, image.spacing_mm) == (400, 200, (0.2, 0.4))


def test_preview_is_a_small_grey_jpeg(tmp_path: Path) -> None:
    path = write_chest(tmp_path / "a", pixels=chest_pixels(1000, 900))
    small = preview(prepare(fetched(tmp_path, [path]))[1].images[0])
    (tmp_path / "p.jpg").write_bytes(small.jpeg)
    with Image.open(tmp_path / "p.jpg") as picture:
        assert (picture.format, picture.mode, max(picture.size)) == ("JPEG", "L", 768)
    assert (small.original_rows, small.original_columns) == (1000, 900)
