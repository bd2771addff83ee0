"""The folder archive and the file reader below it, on hostile and sloppy files."""

import gzip
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import pydicom
import pytest

from pipeline.archive.content_digest import content_digest
from pipeline.archive.part10 import (
    Fault,
    read_part10_header,
)
from pipeline.dicom_writer import (
    DEFLATED,
    JPEG_2000_LOSSLESS,
    RLE_LOSSLESS,
    WRITABLE,
    uid_from,
)
from pipeline.errors import ConfigurationError, SkipStudy
from pipeline.study import StudyQuery
from tests.folder_films import HEADER, STUDY, archive, film, offset, patched, with_syntax, without

DAMAGE: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "zero-bytes": ("empty-file", lambda path: patched(path, lambda content: b"")),
    "text": (
        "not-dicom",
        lambda path: patched(path, lambda content: b"This is a letter, not an image.\n" * 40),
    ),
    "zeros": ("not-dicom", lambda path: patched(path, lambda content: bytes(100_000))),
    "bare-and-compressed": (
        "no-file-meta",
        lambda path: patched(film(path, RLE_LOSSLESS), lambda content: content[offset(path) :]),
    ),
    "cut-in-pixels": ("truncated", lambda path: patched(path, lambda content: content[:-1000])),
    "cut-by-one": ("truncated", lambda path: patched(path, lambda content: content[:-1])),
    "cut-in-header": ("truncated", lambda path: patched(path, lambda content: content[: offset(path) + 300])),
    "only-meta": ("no-dataset", lambda path: patched(path, lambda content: content[: offset(path)])),
    "cut-in-meta": ("malformed-meta", lambda path: patched(path, lambda content: content[:200])),
    "rle-says-deflated": (
        "transfer-syntax-mismatch",
        lambda path: with_syntax(film(path, RLE_LOSSLESS), DEFLATED),
    ),
    "says-jpeg-2000": ("transfer-syntax-mismatch", lambda path: with_syntax(path, JPEG_2000_LOSSLESS)),
    "rle-says-nothing": ("no-transfer-syntax", lambda path: with_syntax(film(path, RLE_LOSSLESS), "")),
    "rle-says-nonsense": (
        "no-transfer-syntax",
        lambda path: with_syntax(film(path, RLE_LOSSLESS), "../etc"),
    ),
    "no-study-uid": ("missing-uid", lambda path: without("StudyInstanceUID", path)),
    "no-sop-uid": ("missing-uid", lambda path: without("SOPInstanceUID", path)),
    "no-series-uid": ("missing-uid", lambda path: without("SeriesInstanceUID", path)),
    "no-class": ("missing-uid", lambda path: without("SOPClassUID", path)),
    "garbage-after-header": (
        "malformed-dataset",
        lambda path: patched(path, lambda content: content[: offset(path) + 60] + b"\xee" * 5000),
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_damage_has_its_code_and_stops_nothing(tmp_path: Path, damage: str) -> None:
    code, spoil = DAMAGE[damage]
    source = tmp_path / "source"
    spoil(film(source / "bad.dcm"))
    film(source / "good.dcm", instance=2)
    found = read_part10_header(source / "bad.dcm")
    assert isinstance(found, Fault)
    assert found.code == code
    with archive(source) as disk:
        (study,) = disk.find(StudyQuery())
        fetched = disk.fetch(STUDY, tmp_path / "out")
    assert study.study_instance_uid == STUDY
    assert [held.ref.sop_instance_uid for held in fetched.held] == [uid_from("tests", "folder", "1", "2")]
    if found.study_instance_uid:
        (damaged,) = fetched.damaged
        assert damaged.code == code
        assert fetched.missing == ((found.sop_instance_uid,) if found.sop_instance_uid else ())


def test_messages_hold_nothing_of_the_patient(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    texts = []
    for name, (_, spoil) in DAMAGE.items():
        spoil(film(tmp_path / f"{name}.dcm"))
    with archive(tmp_path) as disk:
        fetched = disk.fetch(STUDY, tmp_path / "out")
    texts += [f"{damaged.code} {damaged.message}" for damaged in fetched.damaged] + [caplog.text]
    for text in texts:
        for secret in (
            HEADER.patient_id,
            "Fictitious",
            HEADER.accession_number,
            STUDY,
            HEADER.sop_instance_uid,
        ):
            assert secret not in text


@pytest.mark.parametrize("syntax", WRITABLE)
def test_every_transfer_syntax_is_read_and_copied_as_stored(tmp_path: Path, syntax: str) -> None:
    source = film(tmp_path / "in" / "film.dcm", syntax)
    before = source.read_bytes(), source.stat().st_mtime_ns
    with archive(tmp_path / "in") as disk:
        fetched = disk.fetch(STUDY, tmp_path / "out")
    (held,) = fetched.held
    assert held.transfer_syntax_uid == syntax
    assert held.path.read_bytes() == before[0]
    assert held.sha256 == content_digest(source)
    assert (source.read_bytes(), source.stat().st_mtime_ns) == before
    held.path.write_bytes(b"changed")
    assert source.read_bytes() == before[0]


def test_duplicates_with_the_same_bytes_are_one_and_with_others_a_conflict(tmp_path: Path) -> None:
    first = film(tmp_path / "in" / "a.dcm")
    (tmp_path / "in" / "b.dcm").write_bytes(first.read_bytes())
    with archive(tmp_path / "in") as disk:
        same = disk.fetch(STUDY, tmp_path / "same")
    assert (len(same.held), same.damaged) == (1, ())
    patched(tmp_path / "in" / "b.dcm", lambda content: content[:-2] + b"\x01\x02")
    with archive(tmp_path / "in") as disk:
        other = disk.fetch(STUDY, tmp_path / "other")
    assert [damaged.code for damaged in other.damaged] == ["duplicate-conflict"]
    assert other.held[0].sha256 == content_digest(first)


def test_files_that_come_and_go_are_noticed(tmp_path: Path) -> None:
    root = tmp_path / "in"
    film(root / "deep" / "er" / "1.dcm")
    with archive(root) as disk:
        assert disk.fetch(STUDY, tmp_path / "a").complete
        film(root / "2.dcm", instance=2)
        assert len(list(disk.find(StudyQuery()))) == 1
        assert len(disk.fetch(STUDY, tmp_path / "b").held) == 2
        (root / "2.dcm").unlink()
        (root / "deep" / "er" / "1.dcm").unlink()
        with pytest.raises(SkipStudy, match="study-gone"):
            disk.fetch(STUDY, tmp_path / "c")
        assert not list(disk.find(StudyQuery()))


def test_odd_folder_entries_are_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "in"
    good = film(root / "films" / "1.dcm")
    (root / "loop").symlink_to(root)
    (root / "dangling").symlink_to(root / "nowhere")
    os.mkfifo(root / "pipe")
    (root / "DICOMDIR").write_bytes(good.read_bytes())
    (root / "<script>'; drop.dcm").write_bytes(b"<html>")
    with archive(root) as disk:
        assert disk.echo() == "2 files, 1 studies; passed over: 1 broken-link, 1 not-dicom"
        assert len(disk.fetch(STUDY, tmp_path / "out").held) == 1


def test_a_folder_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    with archive(tmp_path / "none") as disk, pytest.raises(ConfigurationError, match="/none on this"):
        list(disk.find(StudyQuery()))


@pytest.mark.parametrize("character_set", ["ISO_IR 192", "GB18030"])
def test_found_studies_are_described(tmp_path: Path, character_set: str) -> None:
    film(
        tmp_path / "1.dcm",
        started=datetime(2031, 5, 6, 7, 8),  # noqa: DTZ001 - DICOM times are local
        patient_name="Wang^XiaoDong=王^小东",
        accession_number="A-1",
        character_set=(character_set,),
    )
    with archive(tmp_path) as disk:
        (study,) = disk.find(StudyQuery(date(2031, 5, 6), date(2031, 5, 6), modalities=("DX",)))
        assert not list(disk.find(StudyQuery(since=date(2031, 5, 7))))
        assert not list(disk.find(StudyQuery(modalities=("CT",))))
    assert (study.study_date, study.modalities, study.accession_number) == (date(2031, 5, 6), ("DX",), "A-1")
    assert study.announced_instances == 1


@pytest.mark.parametrize("text", ["20311301", "2031.05.06", "yesterday", ""])
def test_dates_out_of_range_are_no_dates(tmp_path: Path, text: str) -> None:
    path = film(tmp_path / "1.dcm")
    dataset = pydicom.dcmread(path)
    for keyword in ("SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime"):
        if keyword in dataset:
            del dataset[keyword]
    with pydicom.config.disable_value_validation():
        dataset.StudyDate = text
        dataset.save_as(path)
    with archive(tmp_path) as disk:
        (study,) = disk.find(StudyQuery())
        dated = list(disk.find(StudyQuery(since=date(2031, 5, 1), until=date(2031, 5, 31))))
    assert study.study_date == (date(2031, 5, 6) if text.startswith("2031.") else None)
    assert dated == [study]  # a study that says no day is found by every search for days


@pytest.mark.parametrize(
    ("text", "day"),
    [("2031-05-06", 6), ("2031/05/07", 7), ("20310508101500", 8), (" 20310509 ", 9)],
)
def test_days_in_other_forms(tmp_path: Path, text: str, day: int) -> None:
    path = film(tmp_path / "1.dcm")
    dataset = pydicom.dcmread(path)
    with pydicom.config.disable_value_validation():
        dataset.StudyDate = text
        dataset.save_as(path)
    with archive(tmp_path) as disk:
        (study,) = disk.find(StudyQuery())
    assert study.study_date == date(2031, 5, day)


def test_the_acquisition_says_the_day_of_a_study_without_one(tmp_path: Path) -> None:
    path = film(tmp_path / "1.dcm")
    dataset = pydicom.dcmread(path)
    dataset.StudyDate, dataset.AcquisitionDate, dataset.SeriesDate = "", "20310506", ""
    dataset.save_as(path)
    with archive(tmp_path) as disk:
        (study,) = disk.find(StudyQuery())
    assert study.study_date == date(2031, 5, 6)


def test_a_study_held_only_by_a_damaged_file_is_found_by_its_day(tmp_path: Path) -> None:
    path = film(tmp_path / "in" / "1.dcm", started=datetime(2031, 5, 6, 7, 8))  # noqa: DTZ001 - DICOM times are local
    patched(path, lambda content: content[:-1000])
    with archive(tmp_path / "in") as disk:
        (study,) = disk.find(StudyQuery(date(2031, 5, 6), date(2031, 5, 6)))
        assert not list(disk.find(StudyQuery(since=date(2031, 5, 7))))
        fetched = disk.fetch(study.study_instance_uid, tmp_path / "out")
    assert [one.code for one in fetched.damaged] == ["truncated"]


def test_what_is_passed_over_is_counted_by_reason(tmp_path: Path) -> None:
    root = tmp_path / "in"
    without("StudyInstanceUID", film(root / "a.dcm", instance=2))
    patched(film(root / "b.dcm"), lambda content: b"")
    (root / "readme.txt").write_bytes(b"These are the films of May.")
    with archive(root) as disk:
        assert not list(disk.find(StudyQuery()))
        assert disk.passed_over.take() == {"empty-file": 1, "missing-uid": 1}
        assert disk.passed_over.take() == {}


def test_films_that_are_hidden_packed_or_ruined_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "in"
    whole = film(root / "1.dcm").read_bytes()
    (root / ".2.dcm").write_bytes(whole)
    (root / "3.dcm.gz").write_bytes(gzip.compress(whole))
    for left in ("._1.dcm", ".1.dcm.x7Qz", ".DS_Store", "letter.pdf", "papers.zip", "README", "Makefile"):
        (root / left).write_bytes(b"something else")
    for ruined in (
        "IM000001",
        "1.2.840.113.7",
    ):  # as a medium and an archive name them, overwritten with zeros
        (root / ruined).write_bytes(bytes(5000))
    with archive(root) as disk:
        assert len(list(disk.find(StudyQuery()))) == 1
        assert disk.passed_over.take() == {"hidden-file": 1, "not-dicom": 3}


def test_a_linked_folder_is_followed_once(tmp_path: Path) -> None:
    film(tmp_path / "elsewhere" / "1.dcm")
    root = tmp_path / "in"
    root.mkdir()
    (root / "2025").symlink_to(tmp_path / "elsewhere")
    (root / "again").symlink_to(tmp_path / "elsewhere")
    with archive(root) as disk:
        (study,) = disk.find(StudyQuery())
        assert disk.echo() == "1 files, 1 studies"
    assert study.study_instance_uid == STUDY


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_folder_that_may_not_be_read_costs_itself_alone() -> None:
    """Run as nobody, to whom pytest's own folders are shut: root may read everything."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        _read_as_nobody(Path(name) / "in")


def _read_as_nobody(root: Path) -> None:
    film(root / "1.dcm")
    film(root / "lost+found" / "2.dcm", instance=2)
    (root / "1.dcm").chmod(0o644)
    (root / "lost+found").chmod(0o700)
    root.chmod(0o755)
    code = (
        "import os, sys;"
        "from pathlib import Path; from pipeline.archive.folder import FolderStudies;"
        "from pipeline.setting_archives import FolderArchive; from pipeline.study import StudyQuery;"
        "os.setuid(65534);"
        "disk = FolderStudies('disk', FolderArchive(kind='folder', path=Path(sys.argv[1])));"
        "print(len(list(disk.find(StudyQuery()))), disk.passed_over.take())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 {'unreadable-folder': 1}"
