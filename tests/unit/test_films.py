"""What decides whether a study is drafted anew: films, patient and order, and nothing else that is filed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from pipeline.accepts import StudyReader
from pipeline.errors import FailStudy
from pipeline.images import film_manifest, read_headers
from pipeline.study import AnnouncedInstance, FetchedStudy, InstanceRef
from tests.synthetic import fetched, radiograph_header, write_chest

PDF, SR, SEG, CAPTURE, KEY_OBJECT = (
    "1.2.840.10008.5.1.4.1.1.104.1",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.88.59",
)
TAKEN_OVER = (
    "StudyInstanceUID",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_chest(tmp_path / "film.dcm", radiograph_header(instance=1, description="Chest"))


def beside(film: Path, sop_class: str, modality: str, **more: object) -> Path:
    """Another object of the film's study, as others file it there."""
    head = pydicom.dcmread(film, stop_before_pixels=True)
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = UID(sop_class)
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = UID(
        f"0.1.{sop_class[-6:].replace('.', '')}"
    )
    made.SeriesInstanceUID, made.Modality, made.StudyDescription = "0.1", modality, "Filed beside"
    for keyword in TAKEN_OVER:
        setattr(made, keyword, head.get(keyword, ""))
    for keyword, value in more.items():
        setattr(made, keyword, value)
    path = film.with_name(f"{modality}-{sop_class[-4:]}.dcm")
    pydicom.dcmwrite(path, made, enforce_file_format=True)
    return path


def manifest(study: FetchedStudy, *, laterals: bool = False) -> tuple[int, str]:
    found = film_manifest(study, read_headers(study), StudyReader("a model", laterals))
    return found.films, found.digest


def of(*paths: Path) -> FetchedStudy:
    return fetched(paths[0].parent, paths)


@pytest.mark.parametrize(
    ("sop_class", "modality", "more"),
    [
        (PDF, "DOC", {}),
        (SR, "SR", {}),
        (SEG, "SEG", {}),
        (CAPTURE, "OT", {"ConversionType": "WSD"}),
        (KEY_OBJECT, "KO", {}),
    ],
)
def test_what_is_no_film_changes_nothing(
    film: Path, sop_class: str, modality: str, more: dict[str, object]
) -> None:
    alone = manifest(of(film))
    assert alone[0] == 1
    assert manifest(of(film, beside(film, sop_class, modality, **more))) == alone


def test_a_key_object_that_rejects_the_film_is_a_change(film: Path) -> None:
    concept = Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator = "113001", "DCM"
    concept.CodeMeaning = "Rejected for Quality Reasons"
    rejecting = beside(film, KEY_OBJECT, "KO", ConceptNameCodeSequence=[concept])
    assert manifest(of(film, rejecting)) != manifest(of(film))
    concept.CodeValue, concept.CodeMeaning = "113000", "Of Interest"
    noting = beside(film, KEY_OBJECT, "KO", ConceptNameCodeSequence=[concept])
    assert manifest(of(film, noting)) == manifest(of(film))


def test_a_lateral_film_counts_where_the_model_reads_it(film: Path) -> None:
    lateral = write_chest(
        film.with_name("lateral.dcm"), radiograph_header(instance=2, description="Chest", view_position="LL")
    )
    assert manifest(of(film, lateral)) == manifest(of(film))
    assert manifest(of(film, lateral), laterals=True) != manifest(of(film), laterals=True)


CHANGES: dict[str, Callable[[Dataset], None]] = {
    "pixels": lambda header: setattr(header, "PixelData", bytes(len(header.PixelData))),
    "patient": lambda header: setattr(header, "PatientID", "ANOTHER"),
    "name": lambda header: setattr(header, "PatientName", "Respelled^Name"),
    "order": lambda header: setattr(header, "AccessionNumber", "ANOTHER"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_film_patient_and_order_are_changes(film: Path, change: Callable[[Dataset], None]) -> None:
    before = manifest(of(film))
    header = pydicom.dcmread(film)
    change(header)
    header.save_as(film)
    assert manifest(of(film)) != before


def test_an_indication_that_another_object_brings_is_a_change(film: Path) -> None:
    """The model may be told it, wherever in the study it stands."""
    told = beside(film, SR, "SR", ReasonForTheRequestedProcedure="cough for three weeks")
    assert manifest(of(film, told)) != manifest(of(film))


def test_a_gap_is_a_change_since_the_report_states_it(film: Path) -> None:
    study = of(film)
    gone = AnnouncedInstance(InstanceRef(study.study_instance_uid, "0.2", "0.2.1"))
    assert manifest(replace(study, announced=(*study.announced, gone))) != manifest(study)


def test_an_unreadable_file_may_be_a_film(film: Path) -> None:
    study = of(film)
    broken = film.with_name("broken.dcm")
    broken.write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    unreadable = replace(
        study.held[0], ref=replace(study.held[0].ref, sop_instance_uid="9.9"), path=broken, sha256="f" * 64
    )
    assert manifest(replace(study, held=(*study.held, unreadable))) != manifest(study)


def test_two_patients_in_one_study_are_refused(film: Path) -> None:
    other = beside(film, PDF, "DOC", PatientID="ANOTHER")
    with pytest.raises(FailStudy, match="different patients"):
        manifest(of(film, other))
