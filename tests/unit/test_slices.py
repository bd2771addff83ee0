"""Planes as pictures: nothing is judged or decoded twice, and text in a plane is remarked."""

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from pipeline.accepts import Accepts, Kind, StudyReader
from pipeline.images import film_manifest, prepare_for, read_headers
from pipeline.images.volumes import slices, voxels
from pipeline.study import FetchedStudy
from tests.ct_series import enhanced, stack, write_series
from tests.synthetic import fetched

READER = StudyReader("a", accepts=(Accepts(Kind.SLICES, most=4),))


def study_of(folder: Path, modality: str, planes: int) -> FetchedStudy:
    paths = write_series(folder, stack(planes, rows=64, columns=64, intercept=0), modality=modality)
    uid = str(dcmread(paths[0]).StudyInstanceUID)
    return replace(fetched(folder, paths, uid), study_instance_uid=uid)


def test_planes_that_the_range_is_taken_from_are_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of(tmp_path, "MR", 9)
    whole = prepare_for(study, read_headers(study), READER)[1]
    decoded: list[int] = []
    original = voxels.plane_values

    def counted(plane: Any, limits: Any) -> Any:
        decoded.append(plane.number)
        return original(plane, limits)

    monkeypatch.setattr(slices, "plane_values", counted)
    again = prepare_for(study, read_headers(study), READER)[1]
    assert sorted(decoded) == list(range(1, 10))
    monkeypatch.setattr(slices, "MOST_KEPT", 0)
    bare = prepare_for(study, read_headers(study), READER)[1]
    assert len(decoded) == 9 + 9 + 4, "without room each shown plane is decoded for itself"
    for one, other, third in zip(whole.images, again.images, bare.images, strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert np.array_equal(one.pixels, third.pixels)


def test_headers_are_judged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest, the films and the planes of one study ask the same of the same headers."""
    preparing = importlib.import_module("pipeline.images.prepare")
    study = study_of(tmp_path, "CT", 5)
    asked: list[int] = []
    original = preparing.one_patient

    def counted(headers: Any) -> Any:
        asked.append(len(headers))
        return original(headers)

    monkeypatch.setattr(preparing, "one_patient", counted)
    read = read_headers(study)
    film_manifest(study, read, READER)
    prepare_for(study, read, READER)
    assert asked == [5]


def test_text_in_a_plane_is_remarked(tmp_path: Path) -> None:
    study = study_of(tmp_path, "CT", 3)
    assert "burned-in-text" not in {
        one.code for one in prepare_for(study, read_headers(study), READER)[1].remarks
    }
    for held in study.held:
        dataset = dcmread(held.path)
        dataset.BurnedInAnnotation = "YES"
        dataset.save_as(held.path)
    assert "burned-in-text" in {
        one.code for one in prepare_for(study, read_headers(study), READER)[1].remarks
    }


@pytest.mark.parametrize(
    ("shared", "width", "shown"),
    [
        (True, 1500, "-1350 to 150 HU"),
        (False, 1500, "-1350 to 150 HU"),
        (True, 65536, "-160 to 240 HU"),  # highdicom's conversion of a CT without a window
    ],
)
def test_the_window_of_an_enhanced_ct_is_that_of_its_frames(
    shared: bool, width: int, shown: str, tmp_path: Path
) -> None:
    paths = write_series(tmp_path / "classic", stack(3, rows=64, columns=64))
    whole = enhanced(paths, tmp_path / "whole.dcm")
    dataset, window, lung = dcmread(whole), Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = -600, width
    lung.FrameVOILUTSequence = [window]
    if shared:
        dataset.SharedFunctionalGroupsSequence = [lung]
    else:
        for group in dataset.PerFrameFunctionalGroupsSequence:
            group.FrameVOILUTSequence = [window]
    dataset.save_as(whole)
    uid = str(dataset.StudyInstanceUID)
    study = replace(fetched(tmp_path, [whole], uid), study_instance_uid=uid)
    images = prepare_for(study, read_headers(study), READER)[1].images
    assert {one.caption.partition(", window ")[2] for one in images} == {shown}
