"""Admission: what is read by kind, modality, body part and view, and a refusal that says what the study is."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipeline.accepts import FILMS_ALONE, Accepts, Kind, StudyReader
from pipeline.errors import SkipStudy
from pipeline.images import film_manifest, prepare_for, read_headers
from pipeline.images.admission import accepting
from pipeline.images.instance_identity import identify
from tests.ct_series import stack, write_series
from tests.synthetic import chest_pixels, fetched, radiograph_header, write_chest

ROOT = "1.2.840.10008.5.1.4.1.1."
MINI = StudyReader("firstread-mini", laterals=True)


def instance(suffix: str, modality: str, **said: object) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.Modality = f"{ROOT}{suffix}", modality
    for keyword, value in said.items():
        setattr(dataset, keyword, value)
    return dataset


def coded(value: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = value, "SCT"
    return Sequence([item])


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (instance("2", "CT", BodyPartExamined="HEAD"), "a CT of the head"),
        (instance("4", "MR"), "an MR"),
        (
            instance("1.1", "DX", BodyPartExamined="HAND", ImageLaterality="L"),
            "a radiograph of the left hand",
        ),
        (
            instance("1.1", "DX", BodyPartExamined="CHEST", ViewPosition="LL"),
            "a lateral radiograph of the chest",
        ),
        (instance("1.2", "MG", BodyPartExamined="BREAST", ImageLaterality="R"), "a mammogram (right)"),
        (instance("77.1.4", "XC", AnatomicRegionSequence=coded("39937001")), "a photograph of the skin"),
        (instance("77.1.5.1", "OP", ImageLaterality="L"), "an eye photograph (left)"),
        (instance("66.4", "SEG", BodyPartExamined="LIVER"), "a segmentation"),
    ],
)
def test_an_instance_is_called_as_a_radiographer_calls_it(dataset: Dataset, words: str) -> None:
    assert str(identify(dataset)) == words


def test_each_thing_that_is_known_names_its_attribute() -> None:
    found = identify(
        instance(
            "1.2",
            "MG",
            ViewCodeSequence=coded("399368009"),
            ImageLaterality="L",
            PatientOrientation=["A", "F"],
        )
    )
    assert (found.view, found.side.letter) == ("MLO", "L")
    assert dict(found.sources) == {
        "kind": "SOPClassUID", "modality": "Modality", "side": "ImageLaterality", "view": "ViewCodeSequence",
    }  # fmt: skip
    assert dict(identify(instance("7", "XC")).sources)["kind"] == "Modality"


CHEST_CT = Accepts(Kind.SLICES, ("CT",), body_parts=("CHEST",))
CC_VIEWS = Accepts(Kind.MAMMOGRAM, ("MG",), views=("CC",))


@pytest.mark.parametrize(
    ("dataset", "accepts", "taken"),
    [
        (instance("2", "CT", BodyPartExamined="CHEST"), CHEST_CT, True),
        (instance("2", "CT", BodyPartExamined="CHESTABDPELVIS"), CHEST_CT, True),
        (instance("2", "CT", BodyPartExamined="HEAD"), CHEST_CT, False),
        (instance("2", "CT"), CHEST_CT, False),
        (instance("2", "CT"), replace(CHEST_CT, unknown_body_part=True), True),
        (instance("4", "MR", BodyPartExamined="CHEST"), CHEST_CT, False),
        (instance("1.2", "MG", ViewPosition="CC"), CC_VIEWS, True),
        (instance("1.2", "MG", ViewPosition="MLO"), CC_VIEWS, False),
        (instance("1.2", "MG"), CC_VIEWS, False),
        (instance("1.2", "MG"), replace(CC_VIEWS, unknown_view=True), True),
    ],
)
def test_every_clause_of_a_declaration_counts(dataset: Dataset, accepts: Accepts, taken: bool) -> None:
    assert (accepting(dataset, (accepts,)) is accepts) is taken


def test_the_second_declaration_takes_what_the_first_does_not() -> None:
    head = Accepts(Kind.SLICES, ("CT",), body_parts=("HEAD",))
    assert accepting(instance("2", "CT", BodyPartExamined="HEAD"), (CHEST_CT, head)) is head


def refused(folder: Path, reader: StudyReader, **said: str) -> SkipStudy:
    """A CT series whose headers say more, refused."""
    paths = write_series(folder, stack(4))
    for path in paths:
        dataset = dcmread(path)
        for keyword, value in said.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)
    study = fetched(folder, paths, str(dcmread(paths[0]).StudyInstanceUID))
    study = replace(study, study_instance_uid=str(dcmread(paths[0]).StudyInstanceUID))
    with pytest.raises(SkipStudy) as found:
        prepare_for(study, read_headers(study), reader)
    return found.value


@pytest.mark.parametrize(
    ("accepts", "said", "code", "message"),
    [
        ((), {"BodyPartExamined": "HEAD"}, "not-radiograph", "a CT of the head; a-model reads frontal chest films"),
        (
            (replace(CHEST_CT, modalities=("MR",)),), {"BodyPartExamined": "HEAD"}, "not-accepted",
            "a CT of the head; a-model reads frontal chest films and MR of the chest",
        ),
        (
            (CHEST_CT,), {"BodyPartExamined": "HEAD"}, "not-accepted-body-part",
            "a CT of the head; a-model reads frontal chest films and CT of the chest",
        ),
        ((CHEST_CT,), {}, "body-part-unknown", "a CT; a-model reads frontal chest films and CT of the chest"),
        (
            (replace(CHEST_CT, body_parts=(), planes=("sagittal",)),), {}, "not-accepted-planes",
            "no series that this model can be shown: axial planes; this model is shown sagittal ones",
        ),
        (
            (CC_VIEWS,), {}, "not-radiograph", "a CT; a-model reads frontal chest films and mammograms",
        ),
    ],
)  # fmt: skip
def test_a_refusal_names_the_first_clause_that_fails(
    accepts: tuple[Accepts, ...], said: dict[str, str], code: str, message: str, tmp_path: Path
) -> None:
    error = refused(tmp_path, StudyReader("a-model", accepts=accepts), **said)
    assert (error.code, error.message) == (code, message)


def test_a_film_of_another_part_is_refused_in_words_by_its_own_code(tmp_path: Path) -> None:
    header = replace(radiograph_header("hand"), body_part="HAND", description="", laterality="L")
    study = fetched(
        tmp_path, [write_chest(tmp_path / "1.dcm", header, pixels=chest_pixels(140, 140))], "hand"
    )
    with pytest.raises(SkipStudy) as found:
        prepare_for(study, read_headers(study), MINI)
    assert found.value.code == "not-chest"
    assert found.value.message == "a radiograph of the left hand; firstread-mini reads frontal chest films"


def test_what_a_declaration_leaves_out_changes_no_manifest(tmp_path: Path) -> None:
    paths = write_series(tmp_path, stack(3))
    uid = str(dcmread(paths[0]).StudyInstanceUID)
    study = replace(fetched(tmp_path, paths, uid), study_instance_uid=uid)
    read = read_headers(study)
    alone = film_manifest(study, read, FILMS_ALONE)
    assert film_manifest(study, read, StudyReader("a", accepts=(CHEST_CT,))) == alone
    assert film_manifest(study, read, StudyReader("a", accepts=(replace(CHEST_CT, body_parts=()),))) != alone


def test_a_gap_is_refused_or_told(tmp_path: Path) -> None:
    planes = [one for number, one in enumerate(stack(6)) if number != 2]
    paths = write_series(tmp_path, planes)
    uid = str(dcmread(paths[0]).StudyInstanceUID)
    study = replace(fetched(tmp_path, paths, uid), study_instance_uid=uid)
    reader = StudyReader("a", accepts=(Accepts(Kind.SLICES, ("CT",)),))
    with pytest.raises(SkipStudy, match="1 plane inside the series is missing"):
        prepare_for(study, read_headers(study), reader)
    with_gaps = StudyReader("a", accepts=(Accepts(Kind.SLICES, ("CT",), gaps=True),))
    _, images = prepare_for(study, read_headers(study), with_gaps)
    assert len(images.images) == 5
    assert any(one.code == "planes-missing" for one in images.remarks)
