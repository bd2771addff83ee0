"""Frames of clips and pictures of a study: which are shown, in what order, and what is said of the rest."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, RLELossless

from pipeline.accepts import Accepts, Kind
from pipeline.dicom_writer import EXPLICIT_LITTLE, radiograph_dataset
from pipeline.errors import FailStudy, SkipStudy
from pipeline.images.headers import Header, read_header, text
from pipeline.images.limits import ImageLimits
from pipeline.images.pictures import prepare_pictures
from pipeline.images.prepare import StudyHeaders
from pipeline.study import FetchedStudy, HeldInstance, ImageSet, InstanceRef
from tests.synthetic import radiograph_header

ROOT = "1.2.840.10008.5.1.4.1.1."
CLIPS = (Accepts(Kind.CINE, most=5), Accepts(Kind.OCT, most=5))
STILLS = (Accepts(Kind.ULTRASOUND, most=2), Accepts(Kind.OPHTHALMIC, most=2))


def prepared(paths: list[Path], accepts: tuple[Accepts, ...]) -> ImageSet:
    headers = [read_header(path, ImageLimits()) for path in paths]
    study = FetchedStudy(uid_of(headers[0]), (), (), (), paths[0].parent)
    return prepare_pictures(study, StudyHeaders(tuple(headers), ()), accepts)[1]


def uid_of(header: Header) -> str:
    return text(header.dataset, "StudyInstanceUID")


def clip(
    path: Path, suffix: str, frames: int, *, rle: bool = False, number: int = 1, name: str = "clip"
) -> Path:
    """Frame k has a bright column at k: what is shown tells its number."""
    header = radiograph_header("clip")
    dataset = radiograph_dataset(header, RLELossless if rle else EXPLICIT_LITTLE)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(f"{ROOT}{suffix}")
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(
        f"2.25.{abs(hash((name, number)))}"
    )
    dataset.Modality, dataset.InstanceNumber = "US", number
    pixels = np.tile(np.linspace(0, 200, 96, dtype=np.uint8)[:, None], (frames, 1, 128))
    pixels[np.arange(frames), :, np.arange(frames) % 128] = 255
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 96, 128, 1
    if frames > 1:
        dataset.NumberOfFrames = frames
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    if rle:
        from pydicom.pixels.encoders.base import get_encoder

        encoder = get_encoder(RLELossless)
        encoded = [
            encoder.encode(frame, rows=96, columns=128, samples_per_pixel=1, bits_allocated=8, bits_stored=8,
                           pixel_representation=0, photometric_interpretation="MONOCHROME2",
                           number_of_frames=1, encoding_plugin="pylibjpeg")
            for frame in pixels
        ]  # fmt: skip
        dataset.PixelData = encapsulate(encoded, has_bot=False)
    else:
        dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("rle", [False, True])
@pytest.mark.parametrize("suffix", ["3.1", "12.1", "77.1.5.4"])
def test_frames_of_a_clip_are_evenly_chosen(suffix: str, rle: bool, tmp_path: Path) -> None:
    shown = prepared([clip(tmp_path / "clip.dcm", suffix, 41, rle=rle)], CLIPS)
    assert [image.frame for image in shown.images] == [0, 10, 20, 30, 40]
    brightest = [int(image.pixels[10].argmax()) for image in shown.images]
    assert brightest == [0, 10, 20, 30, 40], "the frame that its number names"
    assert any("5 of 41 frames" in remark.message for remark in shown.remarks)
    assert not shown.chest


def test_frames_are_read_one_by_one(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.dcm", "3.1", 600)
    prepared([path], CLIPS)
    tracemalloc.start()
    prepared([path], CLIPS)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 600 * 96 * 128 / 2, "of a clip of seven megabytes"


def test_stills_come_as_numbered_and_no_more_than_are_read(tmp_path: Path) -> None:
    paths = [clip(tmp_path / f"{k}.dcm", "6.1", 1, number=k, name="still") for k in (3, 1, 2)]
    shown = prepared(paths, STILLS)
    numbers = {image.ref.sop_instance_uid for image in shown.images}
    by_number = {str(dcmread(path).SOPInstanceUID): int(dcmread(path).InstanceNumber) for path in paths}
    assert [by_number[image.ref.sop_instance_uid] for image in shown.images] == [1, 2]
    assert [(one.code, by_number[one.sop_instance_uid]) for one in shown.left_out] == [("over-limit", 3)]
    assert len(numbers) == 2


def test_a_clip_beside_stills_says_what_it_is(tmp_path: Path) -> None:
    shown = prepared(
        [clip(tmp_path / "a.dcm", "6.1", 1), clip(tmp_path / "b.dcm", "3.1", 9, number=2)], STILLS
    )
    assert [(one.code, "an ultrasound clip" in one.message) for one in shown.left_out] == [
        ("not-accepted", True)
    ]


def test_nothing_that_the_model_reads_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(SkipStudy, match="an ultrasound clip"):
        prepared([clip(tmp_path / "a.dcm", "3.1", 9)], STILLS)


def test_an_angiogram_is_not_shown_as_subtracted_in_silence(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.dcm", "12.1", 9)
    assert "not-subtracted" not in {one.code for one in prepared([path], CLIPS).remarks}
    dataset, mask = dcmread(path), Dataset()
    mask.MaskOperation, mask.MaskFrameNumbers = "AVG_SUB", 1
    dataset.MaskSubtractionSequence = [mask]
    dataset.save_as(path)
    assert [one.message for one in prepared([path], CLIPS).remarks if one.code == "not-subtracted"] == [
        "an angiogram is shown without the subtraction that its header asks for"
    ]


def test_one_bit_a_pixel_is_refused_in_words(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.dcm", "6.1", 1)
    dataset = dcmread(path)
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit, dataset.PixelData = 0, bytes(96 * 128 // 8)
    dataset.save_as(path)
    with pytest.raises(FailStudy, match="black and white"):
        prepared([path], STILLS)


def test_a_clip_cut_short_is_a_failed_study(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.dcm", "3.1", 9)
    path.write_bytes(path.read_bytes()[:-20000])
    with pytest.raises(FailStudy, match="shorter than the header declares"):
        prepared([path], CLIPS)


def test_colour_clips_of_others_are_read() -> None:
    """pydicom's own clip of thirty colour frames in JPEG: the frames are those that pydicom decodes."""
    found = get_testdata_file("examples_ybr_color.dcm", download=False)
    assert isinstance(found, str)
    shown = prepared([Path(found)], (Accepts(Kind.CINE, most=3), Accepts(Kind.ULTRASOUND, most=3)))
    assert [image.frame for image in shown.images] == [0, 14, 29]
    frames = dcmread(found).pixel_array
    for image in shown.images:
        assert image.pixels.shape == (240, 320, 3)
        assert np.abs(image.pixels * 255 - frames[image.frame].astype(np.float32)).max() <= 6


def test_what_is_odd_of_headers_and_files_is_remarked_as_of_films(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.dcm", "6.1", 1, name="odd")
    dataset = dcmread(path)
    dataset.PatientBirthDate = "00010101"
    dataset.save_as(path)
    header = read_header(path, ImageLimits())
    ref = InstanceRef(uid_of(header), "2.25.1", str(dataset.SOPInstanceUID))
    held = HeldInstance(ref, path, "", 0, "", "", lenience=("meta-length",))
    study = FetchedStudy(uid_of(header), (), (held,), (), tmp_path)
    told = {remark.code for remark in prepare_pictures(study, StudyHeaders((header,), ()), STILLS)[1].remarks}
    assert {"file-form", "header-value"} <= told


def timed(path: Path, **header: object) -> Path:
    dataset = dcmread(path)
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


@pytest.mark.parametrize(
    ("header", "rate", "frames"),
    [
        # VideoLLaMA3's own numbers of 41 frames: arange(step // 2, 41, step), the middle of each second
        ({"FrameTime": 100}, 1.0, [5, 15, 25, 35]),
        ({"CineRate": 10}, 1.0, [5, 15, 25, 35]),
        ({"RecommendedDisplayFrameRate": 20}, 1.0, [10, 30]),
        ({"FrameTime": 10}, 1.0, [20]),  # shorter than a second: the middle one
        ({"FrameTime": 1000}, 1.0, [0, 10, 20, 30, 40]),  # more than the model reads: evenly
        ({"FrameTimeVector": [0] + [500] * 8 + [1] * 32}, 1.0, [1, 3, 5, 7]),  # nearly all frames at the end
        ({"FrameTime": 0}, 1.0, [0, 10, 20, 30, 40]),
        ({"FrameTime": 100}, 0.0, [0, 10, 20, 30, 40]),
    ],
)
def test_frames_by_time_are_those_of_the_header(
    header: dict[str, object], rate: float, frames: list[int], tmp_path: Path
) -> None:
    path = timed(clip(tmp_path / "clip.dcm", "3.1", 41), **header)
    shown = prepared([path], (Accepts(Kind.CINE, most=5, rate=rate),))
    assert [image.frame for image in shown.images] == frames


@pytest.mark.parametrize(
    ("header", "step", "frames"),
    [
        (
            {"FrameTime": 100},
            0.1,
            [0, 6, 11, 17, 23, 29, 34, 40],
        ),  # 41 frames in 4.1 s: linspace(0, 40, 8), rounded
        ({"FrameTime": 10}, 0.01, [0, 13, 27, 40]),  # at least four
        ({"CineRate": 1}, 1.0, [0, 4, 9, 13, 18, 22, 27, 31, 36, 40]),  # at most ten
        ({}, None, [0, 13, 27, 40]),  # nothing tells when
    ],
)
def test_frames_at_a_rate_are_spread_and_have_their_times(
    header: dict[str, object], step: float | None, frames: list[int], tmp_path: Path
) -> None:
    """Of its first row ``Qwen3VLVideoProcessor.sample_frames`` (transformers 5.23) gives the same numbers."""
    path = timed(clip(tmp_path / "clip.dcm", "3.1", 41), **header)
    shown = prepared([path], (Accepts(Kind.CINE, least=4, most=10, rate=2),))
    assert [image.frame for image in shown.images] == frames
    told = [None if step is None else pytest.approx(frame * step) for frame in frames]
    assert [image.seconds for image in shown.images] == told


def test_clips_of_one_study_share_what_the_model_reads(tmp_path: Path) -> None:
    clips = [clip(tmp_path / f"{k}.dcm", "3.1", 9, number=k) for k in (1, 2, 3)]
    shown = prepared([*clips, clip(tmp_path / "4.dcm", "3.1", 1, number=4)], (Accepts(Kind.CINE, most=5),))
    assert len({image.ref for image in shown.images}) == 4
    assert len(shown.images) == 5
    few = prepared(clips, (Accepts(Kind.CINE, most=2),))
    assert [image.frame for image in few.images] == [4, 4]
    assert [one.code for one in few.left_out] == ["over-limit"]


def grouped(**said: object) -> Dataset:
    """A functional group: each name a sequence of one item with these attributes."""
    group = Dataset()
    for sequence, attributes in said.items():
        item = Dataset()
        for keyword, value in attributes.items():  # type: ignore[attr-defined]
            setattr(item, keyword, value)
        setattr(group, sequence, [item])
    return group


@pytest.mark.parametrize("suffix", ["12.1.1", "77.1.5.4", "13.1.3"])
def test_a_frame_is_shown_in_the_window_of_its_own_group(suffix: str, tmp_path: Path) -> None:
    """PS3.3 C.11.2.1.2.1: of width 101 around 50.5 the value 0 is black, 50 the middle and 100 white; the shared group
    shows twice that range, the header none.
    """
    path = clip(tmp_path / "a.dcm", suffix, 3)
    dataset = dcmread(path)
    dataset.SharedFunctionalGroupsSequence = [
        grouped(
            FrameVOILUTSequence={"WindowCenter": 100.5, "WindowWidth": 201},
            PixelMeasuresSequence={"PixelSpacing": [0.004, 0.012]},
        )
    ]
    own = grouped(FrameVOILUTSequence={"WindowCenter": 50.5, "WindowWidth": 101})
    dataset.PerFrameFunctionalGroupsSequence = [Dataset(), own, Dataset()]
    dataset.save_as(path)
    kinds = tuple(Accepts(kind, most=3) for kind in (Kind.CINE, Kind.OCT, Kind.TOMOSYNTHESIS))
    images = prepared([path], kinds).images
    stored = np.linspace(0, 200, 96, dtype=np.uint8)[::24]
    shown = [image.pixels[:: image.pixels.shape[0] // 4, -1][:4] for image in images]
    if suffix == "77.1.5.4":
        assert [image.pixels.shape for image in images] == [(96, 128)] * 3, (
            "a section of an eye as it is stored"
        )
        for pixels, top in zip(shown, (200, 100, 200), strict=True):
            assert np.abs(pixels - np.clip(stored / top, 0, 1)).max() < 0.01
    assert [image.spacing_mm for image in images] == [(0.004, 0.012)] * 3
    assert images[0].pixels.max() > 0.99
    assert images[1].pixels.mean() > 1.3 * images[0].pixels.mean()


def test_empty_frames_do_not_spoil_an_instance(tmp_path: Path) -> None:
    """The ends of a tomogram hold no counts, a clip begins black."""
    path = clip(tmp_path / "a.dcm", "3.1", 5)
    dataset = dcmread(path)
    pixels = dataset.pixel_array.copy()
    pixels[[0, 4]] = 0
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path)
    shown = prepared([path], CLIPS)
    assert [image.frame for image in shown.images] == [1, 2, 3]
    assert [one.message for one in shown.remarks if one.code == "frames-empty"] == [
        "2 frames of an ultrasound clip that were chosen show nothing"
    ]
    dataset.PixelData = bytes(pixels.size)
    dataset.save_as(path)
    with pytest.raises(FailStudy, match="same value"):
        prepared([path], CLIPS)
