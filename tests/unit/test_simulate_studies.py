"""Simulated studies: repeatable, readable by our own images room, and true to what truth.jsonl says."""

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from flows.commands.simulate import (
    CT,
    NOT_CHEST,
    PHOTOGRAPH,
    PUBLIC,
    PUBLIC_FILM,
    SYNTAXES,
    SimulatedArchive,
    sample_archive,
    simulate,
)
from pipeline.errors import SkipStudy
from pipeline.images import prepare
from pipeline.study import FetchedStudy
from tests.synthetic import held


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> SimulatedArchive:
    return sample_archive(tmp_path_factory.mktemp("sample"))


def study(archive: SimulatedArchive, number: int) -> FetchedStudy:
    written = archive.studies[number]
    return FetchedStudy(
        written.study_instance_uid,
        (),
        tuple(held(path) for path in written.paths),
        (),
        written.paths[0].parent,
    )


def test_the_sample_archive_has_its_fifteen_studies(sample: SimulatedArchive) -> None:
    assert len({one.study_instance_uid for one in sample.studies}) == 15
    headers = [pydicom.dcmread(one.paths[0], stop_before_pixels=True) for one in sample.studies]
    assert (
        sum(
            head.file_meta.TransferSyntaxUID.name == "JPEG 2000 Image Compression (Lossless Only)"
            for head in headers
        )
        == 1
    )
    assert sum(head.PhotometricInterpretation == "MONOCHROME1" for head in headers) == 1
    assert [head.BodyPartExamined for head in headers].count("HAND") == 1
    assert [str(head.PatientName) for head in headers if not str(head.PatientName).isascii()] == [
        "Rei^Tarou=例^太郎=れい^たろう"
    ]
    assert {head.PatientID[:11] for head in headers} == {"FICTITIOUS-"}


def test_each_sample_study_comes_out_as_expected(sample: SimulatedArchive) -> None:
    left_out = []
    for number, written in enumerate(sample.studies):
        if written.expected == "skipped":
            with pytest.raises(SkipStudy) as caught:
                prepare(study(sample, number))
            reason = {NOT_CHEST: "not-chest", CT: "not-radiograph", PHOTOGRAPH: "not-radiograph"}[number]
            assert caught.value.code == reason
            continue
        _, images = prepare(study(sample, number))
        assert [image.ref.sop_instance_uid for image in images.images] == [written.sop_instance_uid]
        left_out += [one.code for one in images.left_out]
    assert left_out == ["pixel-data-short"]


def test_the_truth_is_written_beside_the_studies(sample: SimulatedArchive) -> None:
    lines = [json.loads(line) for line in sample.truth.read_text(encoding="utf-8").splitlines()]
    assert [line["study_instance_uid"] for line in lines] == [
        one.study_instance_uid for one in sample.studies
    ]
    for line, written in zip(lines, sample.studies, strict=True):
        assert [sample.truth.parent / path for path in line["paths"]] == list(written.paths)
        simulated = written.origin == "simulated"
        assert bool(line["findings_text"]) == (written.expected == "reported" and simulated)
        assert line["origin"] == written.origin
        for finding in line["findings"]:
            x1, y1, x2, y2 = finding["box"]
            assert 0 <= x1 < x2 <= 512
            assert 0 <= y1 < y2 <= 512


def test_the_last_study_is_the_public_film_pixel_for_pixel_and_says_whose_it_is(
    sample: SimulatedArchive,
) -> None:
    written = sample.studies[PUBLIC]
    assert [one.origin for one in sample.studies].index(written.origin) == PUBLIC == 12
    assert "NIH Clinical Center" in written.origin
    assert "Wang" in written.origin
    header = pydicom.dcmread(written.paths[0])
    with Image.open(PUBLIC_FILM) as picture:
        np.testing.assert_array_equal(header.pixel_array, np.asarray(picture.convert("L")))
    assert (header.InstitutionName, header.PatientName.family_name) == ("NIH Clinical Center", "Fictitious")
    assert "CVPR 2017" in PUBLIC_FILM.with_name("ATTRIBUTION.md").read_text(encoding="utf-8")


def test_simulate_repeats_itself_and_turns_through_the_syntaxes(tmp_path: Path) -> None:
    heard: list[int] = []
    first = simulate(2, tmp_path / "a", seed=5, progress=heard.append)
    again = simulate(2, tmp_path / "b", seed=5)
    other = simulate(1, tmp_path / "c", seed=6)
    assert heard == [1, 2]
    assert [p.read_bytes() for s in first.studies for p in s.paths] == [
        p.read_bytes() for s in again.studies for p in s.paths
    ]
    assert first.truth.read_text() == again.truth.read_text()
    assert other.studies[0].study_instance_uid != first.studies[0].study_instance_uid
    syntaxes = [
        pydicom.dcmread(s.paths[0], stop_before_pixels=True).file_meta.TransferSyntaxUID
        for s in first.studies
    ]
    assert syntaxes == list(SYNTAXES[:2])
