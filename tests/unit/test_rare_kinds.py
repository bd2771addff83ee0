"""What archives hold now and then: right by the standard, or refused in words (``tests.rare_kinds``)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread

from models.catalog import show
from pipeline.accepts import Accepts, Kind, StudyReader
from pipeline.errors import SkipStudy
from pipeline.images import prepare_for, read_headers
from pipeline.images.frame_sets import FrameSets, chosen_frames, frame_sets
from pipeline.images.kinds import in_words, modality_by_class
from pipeline.images.volumes.windows import in_range
from pipeline.study import ImageSet
from tests.ct_series import stack, write_series
from tests.rare_kinds import COLOURS, READ, REFUSED, SQUARE, nested, of, vectors
from tests.synthetic import fetched

READER = StudyReader("a", accepts=tuple(show("openai-endpoint").accepts))


def shown(paths: Sequence[Path], reader: StudyReader = READER) -> ImageSet:
    uid = str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)
    study = replace(fetched(paths[0].parent, list(paths), uid), study_instance_uid=uid)
    return prepare_for(study, read_headers(study), reader)[1]


@pytest.mark.parametrize("name", READ)
def test_what_is_rare_is_shown_as_what_it_is(name: str, tmp_path: Path) -> None:
    case = READ[name]
    found = shown(case.write(tmp_path, name))
    captions = [image.caption for image in found.images]
    assert len(captions) == len(case.captions), captions
    assert all(map(str.startswith, captions, case.captions)), captions
    told = [one.message for one in found.remarks]
    assert all(any(one.startswith(words) for one in told) for words in case.told), told
    means = [float(image.pixels.mean()) for image in found.images]
    assert not case.means or means == pytest.approx(case.means, abs=0.02)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_is_refused_in_words(name: str, tmp_path: Path) -> None:
    with pytest.raises(SkipStudy, match=r"no image|no series") as refused:
        shown(REFUSED[name].write(tmp_path, name))
    assert REFUSED[name].refused in refused.value.message


def test_counts_grow_from_frame_to_frame_of_a_dynamic_study(tmp_path: Path) -> None:
    """A renogram: what it shows is how much each frame counts; its first frames have next to nothing, not too little
    to be shown.
    """
    means = [image.pixels.mean() for image in shown(READ["dynamic"].write(tmp_path, "dynamic")).images]
    assert len(means) == 8
    assert all(np.diff(means) > 0)


@pytest.mark.parametrize("number", [201, 202, 203])
def test_jpeg_2000_of_high_throughput_gives_its_colours(number: int, tmp_path: Path) -> None:
    (image,) = shown(READ[f"JPEG 2000 of high throughput, {number}"].write(tmp_path, "skin")).images
    found = np.rint(image.pixels * 255).astype(int)
    if number < 203:
        assert np.array_equal(found, COLOURS)
    else:
        assert np.array_equal(
            found, imagecodecs.jpeg2k_decode(imagecodecs.htj2k_encode(COLOURS, reversible=False))
        )


def test_an_en_face_picture_is_as_wide_as_its_pixels_say(tmp_path: Path) -> None:
    """96 rows of 0.02 mm, 128 columns of 0.01 mm (Pixel Spacing, PS3.3 C.8.17.14); sections stay as they are stored."""
    (image,) = shown(READ["en face"].write(tmp_path, "en face")).images
    assert image.pixels.shape == (96, 64)


def test_a_cone_beam_ct_is_one_for_a_model_of_ct(tmp_path: Path) -> None:
    """Its Modality may be DX (PS3.3 A.54.3.1); its values are Hounsfield units only where it says so."""
    paths = READ["jaw"].write(tmp_path, "jaw")
    assert len(shown(paths, StudyReader("a", accepts=(Accepts(Kind.SLICES, ("CT",)),))).images) == 4
    assert modality_by_class("1.2.840.10008.5.1.4.1.1.13.1.2") == "CT"
    dataset = dcmread(paths[0])
    dataset.RescaleType = "HU"
    dataset.save_as(paths[0])
    assert shown(paths).images[0].caption.endswith("window -160 to 240 HU")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_ct_comes_before_what_was_computed_of_it(order: tuple[int, int], tmp_path: Path) -> None:
    plain = write_series(tmp_path / "1", stack(4, **SQUARE), study="both", series=str(order[0]))
    less = [
        one.with_extra(ImageType=["DERIVED", "PRIMARY", "AXIAL", "MAT_REMOVED"], SeriesNumber=order[1])
        for one in stack(4, **SQUARE)
    ]
    found = shown([*write_series(tmp_path / "2", less, study="both", series=str(order[1])), *plain])
    (series,) = {image.ref.series_instance_uid for image in found.images}
    assert series == str(dcmread(plain[0]).SeriesInstanceUID)
    assert "material-changed" not in {one.code for one in found.remarks}


def test_a_plane_with_a_table_of_values_is_not_shown_without_it(tmp_path: Path) -> None:
    paths = write_series(tmp_path, stack(4, **SQUARE))
    for path in paths:
        dataset = dcmread(path)
        del dataset.RescaleSlope, dataset.RescaleIntercept
        dataset.ModalityLUTSequence = [of(LUTDescriptor=[4, 0, 16], LUTData=bytes(8), ModalityLUTType="HU")]
        dataset.ModalityLUTSequence[0]["LUTData"].VR = "OW"
        dataset.save_as(path)
    with pytest.raises(SkipStudy, match="Modality LUT Sequence"):
        shown(paths)


def test_a_sigmoid_window_is_the_curve_of_the_standard(tmp_path: Path) -> None:
    """PS3.3 C.11.2.1.3.1: 1 / (1 + exp(-4 (x - c) / w))."""
    values = np.linspace(-300, 400, 50, dtype=np.float32)
    curve = 1 / (1 + np.exp(-4 * (values - 40) / 400))
    assert np.allclose(in_range(values, -160, 240, curved=True), curve, atol=1e-6)
    window = {"WindowCenter": 40, "WindowWidth": 400, "VOILUTFunction": "SIGMOID"}
    planes = [one.with_extra(**window) for one in stack(4, **SQUARE)]
    (first, *_) = shown(write_series(tmp_path, planes)).images
    expected = 1 / (1 + np.exp(-4 * (stack(4, **SQUARE)[0].pixels() - 40) / 400))
    assert np.allclose(first.pixels, expected, atol=1e-5)


def test_frames_are_as_many_as_there_is_room_for() -> None:
    """Whatever the vectors say: never more than the room, none twice, every set that is begun has its share."""
    for counts in [(1,), (3, 7), (2, 2, 5, 9), (40, 1), (1, 200), (50, 3)]:
        frames = int(np.prod(counts))
        sets = FrameSets(("a", "b", "c", "d")[: len(counts)], tuple(zip(*nested(*counts), strict=True)))
        for room in (1, 5, 8, 32):
            chosen, begun, of_all = chosen_frames(sets, frames, room)
            assert min(room, frames) / 2 < len(chosen) <= room
            assert list(chosen) == sorted(set(chosen))
            assert begun == len({sets.set_of(frame) for frame in chosen}) <= of_all


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"FrameIncrementPointer": [0x00540080]},
        vectors(3, SliceVector=[1, 2, 3]),
        vectors(4, SliceVector=[0, 1, 2, 3]),
        {"FrameIncrementPointer": 0x00181063},
    ],
    ids=["nothing", "no vector", "too short", "from 0", "time"],
)
def test_vectors_that_cannot_be_say_nothing(said: dict[str, object]) -> None:
    assert frame_sets(of(**said), 4) == FrameSets((), ())


@pytest.mark.parametrize(
    ("sop_class", "words"),
    [
        ("1.3.12.2.1107.5.9.1", "an object of a maker's own class"),
        ("1.2.840.113619.4.26", "an object of a maker's own class"),
        ("1.2.840.10008.10.1", "a transmission in real time"),
        ("1.2.840.10008.5.1.4.1.1.999", "an object of an unknown class"),
        ("", "an object of an unknown class"),
    ],
)
def test_a_class_that_is_not_read_has_a_name(sop_class: str, words: str) -> None:
    assert in_words(of(SOPClassUID=sop_class, Modality="")) == words
