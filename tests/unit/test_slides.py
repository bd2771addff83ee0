"""Whole slides: levels, small pictures and tiles against what was drawn and against wsidicom; never the label."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from pipeline.accepts import Accepts, Kind, StudyReader
from pipeline.errors import FailStudy, SkipStudy
from pipeline.images import prepare_for, preview, read_headers
from pipeline.images.headers import read_header
from pipeline.images.slides import Level, level_for, levels_of, thumbnail, tile_picture, tile_reading, tissue
from pipeline.images.slides.pyramid import TILE_LIMITS
from pipeline.images.slides.shown import nearest, tiles_with_tissue
from pipeline.study import FetchedStudy, ImageSet, StudyImage
from tests.slide_files import FORMS, drawn, write_level
from tests.synthetic import fetched

SLIDES = Accepts(Kind.SLIDE, most=5, microns=1.0)
SIDE = 600


def levels(*paths: Path) -> tuple[Level, ...]:
    return levels_of([read_header(path, TILE_LIMITS) for path in paths])[0]


def study_of(*paths: Path) -> FetchedStudy:
    uid = str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)
    return replace(fetched(paths[0].parent, list(paths), uid), study_instance_uid=uid)


def shown(*paths: Path, accepted: Accepts = SLIDES) -> ImageSet:
    study = study_of(*paths)
    return prepare_for(study, read_headers(study), StudyReader("a", accepts=(accepted,)))[1]


def as_bytes(image: StudyImage) -> np.ndarray[Any, Any]:
    return np.rint(image.pixels * 255).astype(int)


def difference(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())


@pytest.mark.parametrize("full", [True, False], ids=["full", "sparse"])
@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_level_reads_as_drawn_and_as_wsidicom_reads_it(form: str, full: bool, tmp_path: Path) -> None:
    wsidicom = pytest.importorskip("wsidicom")
    whole = drawn(500)
    (level,) = levels(write_level(tmp_path / "a.dcm", whole, form=form, full=full, turned=True))
    reduced = np.asarray(Image.fromarray(whole).resize((125, 125), Image.Resampling.BOX))
    assert difference(thumbnail(level, 125), reduced) < 0.2
    with wsidicom.WsiDicom.open(tmp_path) as slide:
        for number in (0, 9, 63):
            row, column = (int(one) for one in level.tiles[number, 2:])
            tile = tile_picture(level, number)
            theirs = np.asarray(slide.read_region((column, row), 0, tile.shape[1::-1]))
            assert difference(tile, theirs) < 1
            assert difference(tile, whole[row : row + 64, column : column + 64]) < (
                1 if form == "JPEG" else 1e-9
            )
    assert tile_picture(level, 63).shape == (500 - 448, 500 - 448, 3), "cut where the slide ends"


def test_any_size_and_any_reduction_lies_in_its_place(tmp_path: Path) -> None:
    """Cells of 3, 7 and 10 pixels do not end where tiles of 48 do."""
    whole = drawn(601)
    (level,) = levels(write_level(tmp_path / "a.dcm", whole, tile=48, form="native"))
    for factor in (3, 7, 10):
        small = thumbnail(level, -(-601 // factor))
        cells = [np.add.reduceat(whole.astype(int), np.arange(0, 601, factor), axis=0)]
        cells = [np.add.reduceat(cells[0], np.arange(0, 601, factor), axis=1)]
        sizes = np.diff([*range(0, 601, factor), 601])
        assert np.abs(small - cells[0] / np.outer(sizes, sizes)[..., None]).max() <= 0.5


def test_tiles_are_reduced_while_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (level,) = levels(write_level(tmp_path / "a.dcm", drawn(512)))
    assert tile_reading.reduction(level, 64) == (8, 8)
    assert tile_reading.reduction(level, 128) == (4, 4)
    assert tile_reading.reduction(level, 180) == (1, 3)
    quick = thumbnail(level, 64)
    monkeypatch.setattr(tile_reading, "_SCALES", ())
    assert difference(quick, thumbnail(level, 64)) < 1


def test_the_smallest_level_that_is_large_enough_is_shown(tmp_path: Path) -> None:
    paths = [
        write_level(tmp_path / f"{scale}.dcm", drawn(SIDE // scale, scale), microns=0.5 * scale)
        for scale in (4, 1, 2)
    ]
    found = levels(*paths)
    assert [level.microns for level in found] == pytest.approx([0.5, 1.0, 2.0])
    assert [level_for(found, side).columns for side in (100, 150, 151, 400, 9000)] == [
        150,
        150,
        300,
        600,
        600,
    ]
    assert [nearest(found, microns).columns for microns in (0.1, 0.69, 0.72, 1.5, 50)] == [
        600,
        600,
        300,
        150,
        150,
    ]


def test_a_model_sees_the_slide_small_and_tiles_with_tissue(tmp_path: Path) -> None:
    paths = [
        write_level(tmp_path / f"{scale}.dcm", drawn(4 * SIDE // scale, scale), microns=0.25 * scale)
        for scale in (2, 4)
    ]
    image_set = shown(*paths)
    small, *tiles = image_set.images
    assert (small.original_rows, small.original_columns, small.spacing_mm) == (0, 0, None)
    assert as_bytes(small).shape == (600, 600, 3)
    assert len(tiles) == 4
    assert all(tile.spacing_mm == (0.001, 0.001) for tile in tiles), "of the level of one micrometre"
    assert all(as_bytes(tile)[..., 1].mean() < 200 for tile in tiles), "tissue, and no glass"
    assert len({(one.ref, one.frame) for one in image_set.images}) == 5
    (told,) = [one.message for one in image_set.remarks if one.code == "slide-shown"]
    assert "4 of " in told
    assert "1.00 micrometres" in told
    assert not image_set.chest
    assert preview(small).original_rows == 600
    assert small.caption == "Pathology slide, as a whole"
    assert tiles[0].caption.endswith("1.00 micrometres a pixel")


@pytest.mark.parametrize("flavour", ["LABEL", "OVERVIEW", "THUMBNAIL", ""])
def test_no_label_and_no_overview_is_ever_shown(flavour: str, tmp_path: Path) -> None:
    level = write_level(tmp_path / "a.dcm", drawn(256))
    red = np.zeros((256, 256, 3), np.uint8)
    label = write_level(tmp_path / "b.dcm", red, flavour=flavour, microns=9.0)
    image_set = shown(level, label)
    assert {image.ref.sop_instance_uid for image in image_set.images} == {str(dcmread(level).SOPInstanceUID)}
    assert [(one.sop_instance_uid, one.code) for one in image_set.left_out] == [
        (str(dcmread(label).SOPInstanceUID), "slide-label")
    ]
    with pytest.raises(SkipStudy) as caught:
        shown(label)
    assert caught.value.code == "slide-label"


def test_a_level_that_shows_its_label_is_none(tmp_path: Path) -> None:
    with pytest.raises(SkipStudy) as caught:
        shown(write_level(tmp_path / "a.dcm", drawn(256), SpecimenLabelInImage="YES"))
    assert caught.value.code == "slide-label"


def test_what_a_sparse_slide_leaves_out_is_glass(tmp_path: Path) -> None:
    path = write_level(tmp_path / "a.dcm", drawn(512), full=False, leave_out=lambda row, _: row >= 256)
    (level,) = levels(path)
    small = thumbnail(level, 64)
    assert small[32:].min() == 255
    assert small[:32].min() < 200
    assert not tissue(small)[32:].any()
    found = tiles_with_tissue(level, tissue(small))
    assert found
    assert (level.tiles[found, 2] < 256).all()


def test_parts_of_one_level_are_joined(tmp_path: Path) -> None:
    """A concatenation: the second part's frames follow the first's (PS3.3 C.7.6.16.2.2.4)."""
    whole = drawn(256)
    path = write_level(tmp_path / "whole.dcm", whole, form="native")
    parts = []
    for number, (begin, end) in enumerate(((0, 6), (6, 16))):
        dataset = dcmread(path)
        size = 64 * 64 * 3
        dataset.PixelData = dataset.PixelData[begin * size : end * size]
        dataset.NumberOfFrames, dataset.ConcatenationUID = end - begin, "2.25.77"
        dataset.ConcatenationFrameOffsetNumber = begin
        dataset.SOPInstanceUID = f"2.25.77{number}"
        parts.append(tmp_path / f"{number}.dcm")
        dataset.save_as(parts[-1], enforce_file_format=True)
    (level,) = levels(*parts[::-1])
    assert np.array_equal(thumbnail(level, 256), whole)

    with pytest.raises(SkipStudy, match="parts of a level are missing"):
        shown(parts[1])  # its ten tiles would lie six places too early in a sparse one


def fluorescent(path: Path, shift: float, paths: int = 1, name: str = "1", **more: object) -> Path:
    """256 pixels of 16 bits in four times four tiles: dark, and a bright disc around (64, 64 + ``shift``)."""
    write_level(path, np.zeros((256, 256, 3), np.uint8), form="native", microns=1.0)
    dataset = dcmread(path)
    y, x = np.mgrid[:256, :256]
    disc = (np.hypot(y - 64, x - 64 - shift) < 50) * 3000 + 100 + x
    tiles = [disc[r : r + 64, c : c + 64] for r in range(0, 256, 64) for c in range(0, 256, 64)]
    dataset.PixelData = b"".join(np.stack(tiles).astype("<u2").tobytes() for _ in range(paths))
    dataset["PixelData"].VR = "OW"
    dataset.NumberOfFrames, dataset.NumberOfOpticalPaths = 16 * paths, paths
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    del dataset.PlanarConfiguration
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    first = dataset.OpticalPathSequence[0]
    first.OpticalPathIdentifier = name
    dataset.OpticalPathSequence = [first] * paths
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def test_a_fluorescent_slide_is_shown_in_its_own_range_on_black(tmp_path: Path) -> None:
    image_set = shown(fluorescent(tmp_path / "a.dcm", 0, paths=2))
    small, *tiles = image_set.images
    assert small.pixels[64, 64].min() > 0.9
    assert small.pixels[200, 200].max() < 0.15, "the ground is dark"
    assert [one.frame for one in tiles] == [1, 4, 5], "where the disc is, of the first optical path"
    told = {one.code: one.message for one in image_set.remarks}
    assert "in grey values" in told["slide-grey"]
    assert "one of 2 optical paths" in told["slide-path"]


def test_small_picture_and_tiles_are_of_one_optical_path(tmp_path: Path) -> None:
    """Scanners that write an instance for each fluorochrome: same series, same size, other light."""
    both = [
        fluorescent(tmp_path / f"{name}.dcm", 100 * (name == "b"), name=name, SOPInstanceUID=f"2.25.{number}")
        for number, name in enumerate("ba", 1)
    ]
    image_set = shown(*both)
    assert len({one.ref for one in image_set.images}) == 1
    assert [one.code for one in image_set.left_out] == ["other-series"]


def test_two_pyramids_of_one_series_are_two_slides(tmp_path: Path) -> None:
    """PS3.3 C.7.6.27: levels of one Pyramid UID belong together; a level of another is of another piece of glass."""
    paths = [
        write_level(
            tmp_path / f"{name}{scale}.dcm", drawn(512 // scale, scale), microns=scale,
            PyramidUID=f"2.25.{ord(name)}",
        )
        for name in "ab"
        for scale in (1, 4)
    ]  # fmt: skip
    first, second = ([uid_of(path) for path in paths[begin : begin + 2]] for begin in (0, 2))
    held = [image.ref.sop_instance_uid for image in shown(*paths).images]
    assert [sum(one in of for one in held) for of in (first, second)] == [3, 2]


def uid_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def test_of_several_focal_planes_the_middle_one_is_read(tmp_path: Path) -> None:
    path = write_level(tmp_path / "a.dcm", np.zeros((128, 128, 3), np.uint8), form="native")
    dataset = dcmread(path)
    dataset.PixelData = b"".join(bytes([shade]) * (4 * 64 * 64 * 3) for shade in (10, 20, 30))
    dataset.NumberOfFrames, dataset.TotalPixelMatrixFocalPlanes = 12, 3
    dataset.save_as(path)
    (level,) = levels(path)
    assert np.unique(thumbnail(level, 128)).tolist() == [20]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"NumberOfFrames": 15}, "slide-tiles"),
        ({"TotalPixelMatrixRows": None}, "slide-size"),
        ({"TotalPixelMatrixColumns": 4_000_000_000}, "slide-size"),
        ({"NumberOfFrames": 9_000_000, "TotalPixelMatrixRows": 3_000_000}, "too-large"),
    ],
)
def test_a_slide_that_cannot_be_is_named(changed: dict[str, object], code: str, tmp_path: Path) -> None:
    path = write_level(tmp_path / "a.dcm", drawn(256))
    dataset = dcmread(path)
    for keyword, value in changed.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    left_out = levels_of([read_header(path, TILE_LIMITS)])[1]
    assert [reason.code for _, reason in left_out] == [code]


def test_a_slide_cut_short_is_named(tmp_path: Path) -> None:
    path = write_level(tmp_path / "a.dcm", drawn(512))
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(FailStudy, match="ends before the last frame"):
        shown(path)


def test_a_slide_without_levels_takes_no_more_memory_than_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_level(tmp_path / "a.dcm", drawn(2048), tile=128)
    (level,) = levels(path)
    thumbnail(level, 128)
    tracemalloc.start()
    thumbnail(level, 128)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2048 * 2048 * 3 / 8
    monkeypatch.setattr(tile_reading, "MOST_REDUCED", 255)
    with pytest.raises(FailStudy) as caught:
        thumbnail(level, 128)
    assert caught.value.code == "too-large"


def test_slides_of_one_study_share_what_the_model_reads(tmp_path: Path) -> None:
    first = write_level(tmp_path / "a.dcm", drawn(512), microns=1.0)
    second = write_level(tmp_path / "b.dcm", drawn(512), microns=1.0, SeriesInstanceUID="2.25.99")
    image_set = shown(first, second)
    held = [image.ref.series_instance_uid for image in image_set.images]
    assert len(held) == 5
    assert [held.count(one) for one in dict.fromkeys(held)] == [3, 2]
