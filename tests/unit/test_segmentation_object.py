"""Segmentations as DICOM objects: read back by per-frame position, whatever the planes they lie on."""

import io
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from models.families.segmenting.structures import structure
from pipeline.errors import FailStudy
from pipeline.images.headers import read_header
from pipeline.images.segmentation import (
    MadeBy,
    SegmentationObject,
    SegmentationType,
    overlay,
    write_segmentation,
)
from pipeline.images.volumes import planes_of, stacks_of
from pipeline.images.volumes.slices import whole_volume
from pipeline.images.volumes.voxels import PLANE_LIMITS
from pipeline.report import OUTLINES, Language, Segment
from pipeline.study import StudyImage, StudyVolume, Turn
from tests.ct_series import ROOT, enhanced, stack, write_series

pytest.importorskip("highdicom")
MADE = MadeBy("nnunet", "v2", "abc123")
NAMES = ("liver", "spleen", "kidney_left")
SERIES = {
    "axial": stack(8, rows=21, columns=19),
    "descending": stack(8, step=(0, 0, -2.0), rows=21, columns=19),
    "sagittal": stack(8, step=(2.0, 0, 0), cosines=(0, 1, 0, 0, 0, -1), rows=21, columns=19),
    "tilted": stack(8, step=(0, 0.5, 2.0), rows=21, columns=19),
}


def volume_of(paths: Sequence[Path]) -> StudyVolume:
    read = [planes_of(read_header(path, PLANE_LIMITS)) for path in paths]
    (found,), _ = stacks_of(plane for planes in read if isinstance(planes, tuple) for plane in planes)
    return whole_volume(found)


def mask_of(volume: StudyVolume) -> tuple[npt.NDArray[np.uint8], list[Segment]]:
    """Label 1 in planes 1 to 4, label 3 in planes 3 to 6, none of label 2."""
    labels = np.zeros(volume.values.shape, np.uint8)
    labels[1:5, 3:9, 2:7] = 1
    labels[3:7, 12:19, 1:11] = 3
    segments = []
    for number, name in enumerate(NAMES, 1):
        known, voxels = structure(name), int((labels == number).sum())
        segments.append(
            Segment(
                number, known.words[Language.ENGLISH], voxels / 1000, voxels, name, known.code, known.side
            )
        )
    return labels, segments


def written(volume: StudyVolume, kind: SegmentationType) -> tuple[SegmentationObject, npt.NDArray[np.uint8]]:
    labels, segments = mask_of(volume)
    found = write_segmentation(volume, labels, segments, MADE, kind)
    assert found is not None
    return found, labels


def placed(dataset: Dataset, shape: tuple[int, ...], volume: StudyVolume) -> npt.NDArray[np.uint8]:
    """The mask by where each frame says that it lies, in numbers of segments (PS3.3 C.7.6.16.2.3)."""
    pixels = np.atleast_3d(dataset.pixel_array).reshape(-1, *shape[1:])
    back = np.linalg.inv(volume.affine)
    found = np.zeros(shape, np.uint8)
    for frame, group in zip(pixels, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        position = [float(one) for one in group.PlanePositionSequence[0].ImagePositionPatient]
        place, row, column, _ = np.rint(back @ np.array([*position, 1])).astype(int)
        assert (row, column) == (0, 0)
        if "SegmentIdentificationSequence" in group:
            found[place][frame > 0] = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        else:
            found[place] = frame
    return found


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("name", SERIES)
def test_every_frame_lies_where_its_labels_were(name: str, kind: SegmentationType, tmp_path: Path) -> None:
    volume = volume_of(write_series(tmp_path, SERIES[name]))
    made, labels = written(volume, kind)
    dataset = dcmread(io.BytesIO(made.content))
    wanted = np.where(labels == 3, 2, labels)
    assert (placed(dataset, labels.shape, volume) == wanted).all()
    assert [one.number for one in made.segments] == [1, 0, 2]
    sources = {
        str(source.ReferencedSOPInstanceUID)
        for group in dataset.PerFrameFunctionalGroupsSequence
        for derived in group.DerivationImageSequence
        for source in derived.SourceImageSequence
    }
    inside = {volume.planes[place][0].sop_instance_uid for place in range(8) if labels[place].any()}
    assert sources == inside
    assert made.ref.study_instance_uid == dataset.StudyInstanceUID
    assert written(volume, kind)[0].ref == made.ref, "the same mask has the same UID"
    labels, segments = mask_of(volume)
    again = write_segmentation(volume, labels, segments, replace(MADE, at="2031-05-06T07:08:09+00:00"), kind)
    assert again is not None
    assert again.ref.series_instance_uid == made.ref.series_instance_uid
    assert again.ref != made.ref, "another draft writes another file, which has another UID"


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_frames_of_an_enhanced_object_are_named_by_their_number(
    kind: SegmentationType, tmp_path: Path
) -> None:
    classic = write_series(tmp_path / "classic", SERIES["descending"])
    volume = volume_of([enhanced(classic, tmp_path / "enhanced.dcm")])
    made, _ = written(volume, kind)
    dataset = dcmread(io.BytesIO(made.content))
    back = np.linalg.inv(volume.affine)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        position = [float(one) for one in group.PlanePositionSequence[0].ImagePositionPatient]
        place = round(float((back @ np.array([*position, 1]))[0]))
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        ref, frame = volume.planes[place]
        assert (source.ReferencedSOPInstanceUID, source.ReferencedFrameNumber) == (
            ref.sop_instance_uid,
            frame + 1,
        )
        assert source.ReferencedSOPClassUID == f"{ROOT}2.1"
    (series,) = dataset.ReferencedSeriesSequence
    assert [one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence] == [
        volume.planes[0][0].sop_instance_uid
    ]


def test_codes_sides_and_names_of_people_are_kept(tmp_path: Path) -> None:
    slices = [
        one.with_extra(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎")
        for one in SERIES["axial"]
    ]
    made, _ = written(volume_of(write_series(tmp_path, slices)), "binary")
    dataset = dcmread(io.BytesIO(made.content))
    assert (dataset.SpecificCharacterSet, dataset.PatientName.ideographic) == ("ISO_IR 192", "山田^太郎")
    kidney = dataset.SegmentSequence[1]
    (kind,) = kidney.SegmentedPropertyTypeCodeSequence
    assert (kidney.SegmentLabel, kind.CodeValue) == ("left kidney", "64033007")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "7771000"
    assert (kidney.SegmentAlgorithmType, dataset.ContentLabel) == ("AUTOMATIC", "MACHINE_MADE")


def test_a_binary_object_is_valid(tmp_path: Path) -> None:
    checker = shutil.which("dciodvfy")
    if checker is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    made, _ = written(volume_of(write_series(tmp_path / "ct", SERIES["axial"])), "binary")
    path = tmp_path / "mask.dcm"
    path.write_bytes(made.content)
    told = subprocess.run([checker, str(path)], capture_output=True, text=True, check=False)
    assert [line for line in told.stderr.splitlines() if line.startswith(("Error", "Warning"))] == []


def test_nothing_found_is_no_object_and_no_frame_of_reference_is_said(tmp_path: Path) -> None:
    volume = volume_of(write_series(tmp_path / "whole", SERIES["axial"]))
    labels, segments = mask_of(volume)
    empty = [Segment(one.number, one.name, 0, 0, one.label) for one in segments]
    assert write_segmentation(volume, labels * 0, empty, MADE, "binary") is None
    slices = [one.with_extra(FrameOfReferenceUID="") for one in SERIES["axial"]]
    bare = volume_of(write_series(tmp_path / "bare", slices))
    with pytest.raises(FailStudy, match="Frame of Reference"):
        write_segmentation(bare, labels, segments, MADE, "binary")


def test_outlines_lie_on_the_picture_as_it_is_shown(tmp_path: Path) -> None:
    volume = volume_of(write_series(tmp_path, SERIES["axial"]))
    labels, segments = mask_of(volume)
    numbers = [one.number for one in segments if one.voxels]
    turn = Turn(mirrored=True, upside_down=True)
    shown = overlay(image_of(volume, 3, turn), volume, labels, numbers)
    picture = np.asarray(Image.open(io.BytesIO(shown)).convert("RGBA"))
    drawn = picture[..., 3] > 0
    wanted = turn.of(labels[3])
    assert picture.shape[:2] == wanted.shape
    assert drawn.any()
    assert (wanted[drawn] > 0).all(), "only inside"
    assert not drawn[wanted == 0].any()
    for label, colour in ((1, OUTLINES[0]), (3, OUTLINES[1])):
        at = drawn & (wanted == label)
        assert {f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue, _ in picture[at].tolist()} == {
            colour
        }
    assert overlay(image_of(volume, 0, Turn()), volume, labels, numbers) == b""


def image_of(volume: StudyVolume, place: int, turn: Turn) -> StudyImage:
    (ref, frame), (rows, columns) = volume.planes[place], volume.values.shape[1:]
    values: dict[str, Any] = {"modality": "CT", "body_part": "", "view": "", "photometric_interpretation": ""}
    return StudyImage(
        ref, frame, np.zeros((rows, columns), np.float32), rows, columns, None, turn=turn, **values
    )
