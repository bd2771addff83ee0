"""A study judged as a whole: one patient, films taken out of use, renderings of one exposure, how films are shown."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from flows.stored_pixels import in_stored_pixels
from pipeline.errors import FailStudy
from pipeline.images import prepare
from pipeline.report import Extent, Finding, Place, Region, TaskAnswer
from pipeline.study import AnnouncedInstance, DamagedInstance, FetchedStudy, ImageSet, InstanceRef
from pipeline.study_context import StudyContext
from tests.synthetic import chest_pixels, fetched, radiograph_header, write_chest
from tests.unit.fhir_samples import DRAFT

PIXELS = chest_pixels(160, 144)
PATIENT = {
    "PatientID": "1234", "IssuerOfPatientID": "", "PatientName": "Alpha^Anna", "PatientBirthDate": "19700101",
    "PatientSex": "F",
}  # fmt: skip


def film(path: Path, instance: int = 1, *, pixels: np.ndarray = PIXELS, **elements: object) -> Path:
    write_chest(path, radiograph_header(instance=instance), pixels=pixels)
    dataset = pydicom.dcmread(path)
    with pydicom.config.disable_value_validation():
        for keyword, value in elements.items():
            if value is None:
                if keyword in dataset:
                    delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        dataset.save_as(path)
    return path


def prepared(folder: Path, *paths: Path) -> tuple[StudyContext, ImageSet]:
    return prepare(fetched(folder, paths))


def two(folder: Path, first: dict[str, Any], second: dict[str, Any]) -> tuple[StudyContext, ImageSet]:
    a = film(folder / "1", 1, **{**PATIENT, **first}, AcquisitionTime="101500", AcquisitionDateTime=None)
    b = film(folder / "2", 2, **{**PATIENT, **second}, AcquisitionTime="111500", AcquisitionDateTime=None)
    return prepared(folder, a, b)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"IssuerOfPatientID": "HOSPITAL_A"}, {"IssuerOfPatientID": "HOSPITAL_B"}),
        ({}, {"PatientName": "Beta^Bert"}),
        ({}, {"PatientBirthDate": "19800202"}),
        ({"PatientID": "0"}, {"PatientID": "0", "PatientName": "Beta^Bert"}),
        ({"PatientID": ""}, {"PatientID": "", "PatientBirthDate": "19800202"}),
        ({"PatientID": "UNKNOWN"}, {"PatientID": "UNKNOWN", "PatientName": "", "PatientBirthDate": ""}),
        ({}, {"PatientID": "", "PatientName": "", "PatientBirthDate": ""}),
        ({}, {"PatientID": "000", "PatientName": "Beta^Bert"}),
        ({}, {"PatientID": "4321"}),
    ],
)
def test_two_people_are_never_one_patient(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    """PS3.3 C.7.1.1: a Patient ID identifies with its issuer; PS3.3 C.2.2."""
    with pytest.raises(FailStudy) as caught:
        two(tmp_path, first, second)
    assert caught.value.code == "mixed-patients"


@pytest.mark.parametrize(
    ("first", "second", "remarks"),
    [
        ({}, {}, set()),
        ({}, {"PatientName": "ALPHA^ANNA^^^"}, {"patient-spelling"}),
        ({"PatientName": "Müller^José"}, {"PatientName": "MUELLER^JOSE"}, {"patient-spelling"}),
        ({"PatientName": "Wang^Xiao=王^小"}, {"PatientName": "Wang^Xiao=王^晓"}, {"patient-spelling"}),
        ({"PatientName": "Alpha^Anna^Maria"}, {}, {"patient-spelling"}),
        ({}, {"PatientID": ""}, {"patient-spelling", "patient-number"}),
        ({"PatientID": "", "PatientName": "", "PatientBirthDate": ""},) * 2 + (set(),),
        ({"IssuerOfPatientID": "A"}, {}, set()),
        ({}, {"PatientSex": "M"}, {"patient-sex"}),
    ],
)
def test_one_patient_spelled_otherwise_is_drafted_with_a_remark(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], remarks: set[str]
) -> None:
    _, images = two(tmp_path, first, second)
    assert len(images.images) == 2
    assert {remark.code for remark in images.remarks} - {"repeated-view"} == remarks


def test_number_and_issuer_come_from_one_header(tmp_path: Path) -> None:
    context, _ = two(tmp_path, {"PatientID": ""}, {"IssuerOfPatientID": "HOSPITAL_A"})
    assert (context.patient.patient_id, context.patient.issuer) == ("1234", "HOSPITAL_A")


def note(path: Path, instance: int, rejects: Path, code: str) -> Path:
    """A Key Object Selection (PS3.16 TID 2010) about one instance."""
    target = pydicom.dcmread(rejects, stop_before_pixels=True)
    film(path, instance, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.59", Modality="KO", PixelData=None)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    title, item, image = Dataset(), Dataset(), Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = code, "DCM", "Rejected"
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = target.SOPClassUID, target.SOPInstanceUID
    item.RelationshipType, item.ValueType, item.ReferencedSOPSequence = "CONTAINS", "IMAGE", Sequence([image])
    dataset.ConceptNameCodeSequence, dataset.ContentSequence = Sequence([title]), Sequence([item])
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("code", ["113001", "113037", "113038", "113039"])
def test_a_rejected_film_is_not_used(tmp_path: Path, code: str) -> None:
    """IHE RAD-66, PS3.16 CID 7011."""
    first = film(tmp_path / "1", 1, AcquisitionTime="101500", AcquisitionDateTime=None)
    second = film(tmp_path / "2", 2, AcquisitionTime="111500", AcquisitionDateTime=None)
    _, images = prepared(tmp_path, first, second, note(tmp_path / "3", 3, first, code))
    assert [image.ref.sop_instance_uid for image in images.images] == [
        radiograph_header(instance=2).sop_instance_uid
    ]
    (left_out,) = (one for one in images.left_out if one.code == "rejected")
    assert left_out.sop_instance_uid == radiograph_header(instance=1).sop_instance_uid


def test_a_title_of_somebody_elses_scheme_rejects_nothing(tmp_path: Path) -> None:
    first = film(tmp_path / "1", 1)
    rejecting = note(tmp_path / "2", 2, first, "113001")
    dataset = pydicom.dcmread(rejecting)
    dataset.ConceptNameCodeSequence[0].CodingSchemeDesignator = "99VENDOR"
    dataset.save_as(rejecting)
    assert len(prepared(tmp_path, first, rejecting)[1].images) == 1


FIRST, LATER = {"AcquisitionTime": "101500"}, {"AcquisitionTime": "102200.5"}


@pytest.mark.parametrize(
    ("first", "second", "used", "said"),
    [
        (FIRST, LATER, [2, 1], True),
        (LATER, FIRST, [1, 2], True),
        (LATER, FIRST | {"AcquisitionDate": "20260104"}, [2, 1], True),
        (FIRST, LATER | {"pixels": PIXELS[:128, :130]}, [1, 2], True),
        (FIRST, LATER | {"pixels": PIXELS[:150]}, [2, 1], True),
        (FIRST, FIRST | {"pixels": PIXELS[::-1].copy()}, [1], False),
        (FIRST, {"AcquisitionTime": "101500.000", "pixels": PIXELS[::-1].copy()}, [1], False),
        (FIRST | {"AcquisitionDate": "20260103"},
         {"AcquisitionTime": None, "AcquisitionDateTime": "20260103101500+0100"}, [1], False),
        ({"AcquisitionTime": None}, {"AcquisitionTime": None}, [1], False),
        ({"AcquisitionTime": None}, {"AcquisitionTime": None, "pixels": PIXELS[::-1].copy()}, [1, 2], False),
    ],
)  # fmt: skip
def test_a_film_that_was_taken_again_without_a_rejection_note(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], used: list[int], *, said: bool
) -> None:
    """Both are used and the report says so, the later first unless it shows a detail; one exposure is used once."""
    films = [
        film(tmp_path / str(number), number, **{"AcquisitionDateTime": None, "AcquisitionDate": None, **one})
        for number, one in enumerate((first, second), start=1)
    ]
    _, images = prepared(tmp_path, *films)
    of = {radiograph_header(instance=number).sop_instance_uid: number for number in (1, 2)}
    assert [of[image.ref.sop_instance_uid] for image in images.images] == used
    assert ({one.code for one in images.remarks} == {"repeated-view"}) is said
    assert [one.code for one in images.left_out] == ["same-exposure"] * (2 - len(used))


def test_other_key_objects_and_withdrawn_notes_reject_nothing(tmp_path: Path) -> None:
    first = film(tmp_path / "1", 1)
    of_interest = note(tmp_path / "2", 2, first, "113000")
    rejecting = note(tmp_path / "3", 3, first, "113001")
    withdrawn = note(tmp_path / "4", 4, rejecting, "113001")
    _, images = prepared(tmp_path, first, of_interest, rejecting, withdrawn)
    assert len(images.images) == 1


@pytest.mark.parametrize(
    "field",
    ["SeriesDescription", "AcquisitionDeviceProcessingDescription", "DerivationDescription", "ImageComments"],
)
@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1)])
def test_the_ordinary_film_speaks_for_a_dual_energy_exposure(
    tmp_path: Path, field: str, order: tuple[int, ...]
) -> None:
    words = {order[0]: "CHEST PA BONE", order[1]: "CHEST PA SOFT TISSUE", order[2]: "CHEST PA STANDARD"}
    paths = [film(tmp_path / str(n), n, **cast(Any, {field: said})) for n, said in words.items()]
    _, images = prepared(tmp_path, *paths)
    assert [image.ref.sop_instance_uid for image in images.images] == [
        radiograph_header(instance=order[2]).sop_instance_uid
    ]
    assert [one.code for one in images.left_out] == ["processed-image", "processed-image"]


STORED = {  # PS3.3 C.7.6.1.1.1: direction of the rows, of the columns; and how an upright film is stored then
    ("L", "F"): lambda film: film,
    ("R", "F"): lambda film: film[:, ::-1],
    ("L", "H"): lambda film: film[::-1],
    ("R", "H"): lambda film: film[::-1, ::-1],
    ("F", "L"): lambda film: film.T,
    ("F", "R"): lambda film: film[:, ::-1].T,
    ("H", "L"): lambda film: film[::-1].T,
    ("H", "R"): lambda film: film[::-1, ::-1].T,
}


@pytest.mark.parametrize("orientation", STORED)
def test_a_film_is_shown_with_the_left_at_the_right_and_the_head_on_top(
    tmp_path: Path, orientation: tuple[str, str]
) -> None:
    plain = prepared(tmp_path, film(tmp_path / "plain", PatientOrientation=["L", "F"]))[1].images[0]
    stored = np.ascontiguousarray(STORED[orientation](PIXELS))
    path = film(tmp_path / "turned", pixels=stored, PatientOrientation=list(orientation))
    _, images = prepared(tmp_path, path)
    turned = images.images[0]
    np.testing.assert_array_equal(turned.pixels, plain.pixels)
    assert (turned.original_rows, turned.original_columns) == PIXELS.shape
    assert images.remarks == ()

    marked = np.zeros_like(PIXELS)
    marked[20:50, 100:110] = 1
    box = turned.turn.stored_box((100, 20, 110, 50), *PIXELS.shape)
    x0, y0, x1, y1 = (int(edge) for edge in box)
    held = np.ascontiguousarray(STORED[orientation](marked))
    assert held[y0:y1, x0:x1].all()
    assert held.sum() == (y1 - y0) * (x1 - x0)


def test_regions_leave_in_pixels_of_the_stored_film(tmp_path: Path) -> None:
    path = film(tmp_path / "1", pixels=PIXELS[:, ::-1].copy(), PatientOrientation=["R", "F"])
    _, images = prepared(tmp_path, path)
    ref = images.images[0].ref
    finding = Finding("nodule", present=True, region=Region(ref, 0, 100, 20, 110, 50))
    draft = in_stored_pixels(replace(DRAFT, findings=(finding,)), images)
    assert draft.findings[0].region == Region(ref, 0, 34, 20, 44, 50)


def test_an_extent_leaves_in_pixels_of_the_stored_planes(tmp_path: Path) -> None:
    path = film(tmp_path / "1", pixels=PIXELS[:, ::-1].copy(), PatientOrientation=["R", "F"])
    _, images = prepared(tmp_path, path)
    place = Place("mass", extent=Extent(((images.images[0].ref, 0),), 100, 20, 110, 50))
    answer = TaskAnswer("detect", DRAFT.language, "mass", "", places=(place,))
    draft = in_stored_pixels(replace(DRAFT, answers=(answer,)), images)
    assert draft.answers[0].places[0].extent == Extent(((images.images[0].ref, 0),), 34, 20, 44, 50)


@pytest.mark.parametrize(
    "elements",
    [
        {"PatientOrientation": ["A", "F"], "ViewPosition": "PA"},
        {"PatientOrientation": ["L", "F"], "ImageLaterality": "L"},
    ],
)
def test_a_contradiction_of_orientation_is_on_the_report(tmp_path: Path, elements: dict[str, Any]) -> None:
    _, images = prepared(tmp_path, film(tmp_path / "1", ViewCodeSequence=None, **elements))
    assert [remark.code for remark in images.remarks] == ["orientation"]


def state(path: Path, instance: int, about: Path, **elements: object) -> Path:
    """A greyscale presentation state (PS3.3 A.33.1) about one film."""
    target = pydicom.dcmread(about, stop_before_pixels=True)
    film(path, instance, SOPClassUID="1.2.840.10008.5.1.4.1.1.11.1", Modality="PR", PixelData=None)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    series, image = Dataset(), Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = target.SOPClassUID, target.SOPInstanceUID
    series.SeriesInstanceUID, series.ReferencedImageSequence = target.SeriesInstanceUID, Sequence([image])
    dataset.ReferencedSeriesSequence = Sequence([series])
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


@pytest.mark.parametrize(
    ("elements", "shown"),
    [
        ({"ImageRotation": 0, "ImageHorizontalFlip": "Y"}, lambda film: film[:, ::-1]),
        ({"ImageRotation": 90, "ImageHorizontalFlip": "N"}, lambda film: np.rot90(film, -1)),
        ({"ImageRotation": 180, "ImageHorizontalFlip": "N"}, lambda film: np.rot90(film, 2)),
        ({"ImageRotation": 270, "ImageHorizontalFlip": "Y"}, lambda film: np.rot90(film, 1)[:, ::-1]),
    ],
)
def test_a_presentation_state_turns_a_film_that_says_no_orientation(
    tmp_path: Path, elements: dict[str, object], shown: object
) -> None:
    """PS3.3 C.10.6: rotated clockwise, then flipped."""
    about = film(tmp_path / "1", PatientOrientation=None)
    plain = prepared(tmp_path, about)[1].images[0].pixels
    _, images = prepared(tmp_path, about, state(tmp_path / "2", 2, about, **elements))
    np.testing.assert_array_equal(images.images[0].pixels, shown(plain))  # type: ignore[operator]
    assert [remark.code for remark in images.remarks] == ["orientation"]


def test_outside_a_shutter_a_film_is_black(tmp_path: Path) -> None:
    """PS3.3 C.7.6.11: edges count rows and columns from 1."""
    about = film(tmp_path / "1")
    edges = {
        "ShutterShape": "RECTANGULAR", "ShutterUpperHorizontalEdge": 11, "ShutterLowerHorizontalEdge": 150,
        "ShutterLeftVerticalEdge": 21, "ShutterRightVerticalEdge": 140,
    }  # fmt: skip
    plain = prepared(tmp_path, about)[1].images[0].pixels
    film_with = prepared(tmp_path, about, state(tmp_path / "2", 2, about, **edges))[1].images[0].pixels
    inside = np.zeros_like(plain, bool)
    inside[10:150, 20:140] = True
    np.testing.assert_array_equal(film_with, np.where(inside, plain, 0))


@pytest.mark.parametrize("text", ["456115117112105110101", "-4", "2147483648", "1e400", "x"])
def test_a_number_that_fhir_cannot_hold_is_left_out(tmp_path: Path, text: str) -> None:
    """PS3.5 6.2 bounds IS, FHIR R4 2.24.0.1 unsignedInt."""
    path = film(tmp_path / "1")
    content = path.read_bytes()
    at = content.index(b"\x20\x00\x13\x00IS")
    value = text.encode() + b" " * (len(text) % 2)
    element = b"\x20\x00\x11\x00IS" + len(value).to_bytes(2, "little") + value
    start = content.index(b"\x20\x00\x11\x00IS")
    path.write_bytes(content[:start] + element + content[at:])
    context, _ = prepared(tmp_path, path)
    assert context.instances[0].series_number is None


def test_what_can_never_be_used_is_not_waited_for(tmp_path: Path) -> None:
    ref = InstanceRef("1.2", "1.2.1", "1.2.1.1")
    announced = (AnnouncedInstance(ref),)
    for code, awaited in (("malformed-dataset", ()), ("truncated", ("1.2.1.1",))):
        damaged = (DamagedInstance("1.2.1.1", code, "damaged"),)
        study = FetchedStudy("1.2", announced, (), damaged, tmp_path)
        assert (study.missing, study.awaited) == (("1.2.1.1",), awaited)
