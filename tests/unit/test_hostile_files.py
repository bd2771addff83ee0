"""Files that are wrong in any way: only SkipStudy, FailStudy or LeftOut come out, none repeating the header."""

import functools
import logging
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from pipeline import dicom_writer as writer
from pipeline.errors import FailStudy, SkipStudy
from pipeline.images import ImageLimits, prepare
from pipeline.images.clock import read_time
from pipeline.images.headers import clean, read_date
from pipeline.study import DamagedInstance, FetchedStudy, HeldInstance, ImageSet, InstanceRef
from pipeline.study_context import StudyContext
from tests.synthetic import chest_pixels, fetched, radiograph_header, write_chest

STUDY = writer.uid_from("tests", "a")
SMALL = ImageLimits(max_frame_pixels=4_000_000)


@functools.cache
def original(syntax: str, folder: Path) -> bytes:
    bits = writer.LOSSY_BITS.get(syntax, 12)
    pixels = chest_pixels(140, 132, bits=bits)
    header = radiograph_header(patient_name="Rei^Tarou=例^太郎", character_set=("", "ISO 2022 IR 87"))
    stored = pixels.astype(np.uint8) if bits == 8 else pixels
    return write_chest(
        folder / syntax, header, pixels=stored, transfer_syntax=syntax, bits_stored=bits
    ).read_bytes()


def prepared(path: Path) -> tuple[StudyContext, ImageSet]:
    instance = HeldInstance(InstanceRef(STUDY, "1.2", "1.3"), path, "", path.stat().st_size, "", "")
    return prepare(FetchedStudy(STUDY, (), (instance,), (), path.parent), sides=(64,), limits=SMALL)


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Cut, or change a few bytes: anywhere, in the header, or around the start of the pixel data."""
    places = draw(st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4), st.integers(0, 6)), max_size=6))
    where = draw(st.sampled_from(["anywhere", "header", "pixels"]))
    cut = draw(st.none() | st.floats(0, 1))

    def damage(content: bytes) -> bytes:
        start = content.find(b"\xe0\x7f\x10\x00")
        low, high = {
            "anywhere": (0, len(content)),
            "header": (132, 2000),
            "pixels": (start, min(len(content), start + 200)),
        }[where]
        for place, instead, gone in places:
            at = low + int(place * (high - low))
            content = content[:at] + instead + content[at + gone :]
        return content if cut is None else content[: int(cut * len(content))]

    return damage


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(syntax=st.sampled_from(writer.WRITABLE), damage=damages())
@example(syntax=writer.RLE_LOSSLESS, damage=lambda content: content[:-3000] + b"\x81" * 3000)
@example(syntax=writer.JPEG_LS_LOSSLESS, damage=lambda content: content[:9000] + b"\xfe\xff\xdd\xe0\0\0\0\0")
@example(syntax=writer.EXPLICIT_LITTLE, damage=lambda content: b"")
def test_damaged_files_never_do_worse_than_fail(
    tmp_path: Path, syntax: str, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(damage(original(syntax, tmp_path)))
    try:
        context, images = prepared(path)
    except (SkipStudy, FailStudy) as error:
        said = str(error)
    else:
        said = " ".join(one.message for one in images.left_out)
        _check(context, images)
    assert STUDY not in said
    assert "Rei" not in said


def _check(context: StudyContext, images: ImageSet) -> None:
    film = images.images[0].pixels
    assert film.dtype == np.float32
    assert film.min() >= 0
    assert film.max() <= 1
    assert all(text.isprintable() for text in (*context.patient.name_groups, context.description))


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "unreadable"), (b"%PDF-1.7" * 100, "unreadable"), (b"\0" * 128 + b"DICM", "unreadable")],
)
def test_what_is_not_dicom_fails_the_study(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(FailStudy) as caught:
        prepared(path)
    assert caught.value.code == code


def test_a_damaged_instance_leaves_the_rest_of_the_study(tmp_path: Path) -> None:
    good = write_chest(tmp_path / "good", radiograph_header(instance=1))
    short = tmp_path / "short"
    writer.write_radiograph(
        short,
        chest_pixels(200, 288),
        radiograph_header(instance=2, acquired=writer.fictitious_moment(5)),
        bits_stored=12,
        declared_rows=400,
    )
    study = fetched(tmp_path, [good, short])
    broken = DamagedInstance("1.2.3", "zero-bytes", "the file is empty")
    _, images = prepare(
        FetchedStudy(study.study_instance_uid, study.announced, study.held, (broken,), tmp_path)
    )
    assert len(images.images) == 1
    assert sorted(one.code for one in images.left_out) == ["pixel-data-short", "zero-bytes"]


def test_the_other_rendering_is_used_when_the_better_one_is_damaged(tmp_path: Path) -> None:
    """Two renderings of one exposure: the larger is better, unless it cannot be decoded."""
    header = radiograph_header(instance=1)
    writer.write_radiograph(tmp_path / "1", chest_pixels(200, 288), header, bits_stored=12, declared_rows=320)
    whole = write_chest(tmp_path / "2", radiograph_header(instance=2))
    _, images = prepare(fetched(tmp_path, [tmp_path / "1", whole]))
    assert [image.ref.sop_instance_uid for image in images.images] == [
        radiograph_header(instance=2).sop_instance_uid
    ]


def test_all_films_damaged_fails_the_study(tmp_path: Path) -> None:
    writer.write_radiograph(
        tmp_path / "1", chest_pixels(200, 288), radiograph_header(), bits_stored=12, declared_rows=320
    )
    with pytest.raises(FailStudy, match="pixel-data-short") as caught:
        prepare(fetched(tmp_path, [tmp_path / "1"]))
    assert caught.value.code == "undecodable"


def test_two_patients_in_one_study_are_never_drafted(tmp_path: Path) -> None:
    paths = [
        write_chest(tmp_path / "1", radiograph_header(instance=1)),
        write_chest(tmp_path / "2", radiograph_header(instance=2, patient_id="SOMEONE-ELSE")),
    ]
    with pytest.raises(FailStudy) as caught:
        prepare(fetched(tmp_path, paths))
    assert caught.value.code == "mixed-patients"
    assert "SOMEONE" not in str(caught.value)


def test_instances_of_another_study_or_with_a_used_uid_are_left_out(tmp_path: Path) -> None:
    paths = [
        write_chest(tmp_path / "1", radiograph_header(instance=1)),
        write_chest(tmp_path / "2", radiograph_header("other", instance=1, patient_id="TEST-a")),
        write_chest(tmp_path / "3", radiograph_header(instance=1), pixels=chest_pixels(seed=9)),
    ]
    _, images = prepare(fetched(tmp_path, paths))
    assert len(images.images) == 1
    assert sorted(one.code for one in images.left_out) == ["duplicate-uid", "other-study"]


def test_missing_uids_are_left_out(tmp_path: Path) -> None:
    path = write_chest(tmp_path / "1")
    dataset = pydicom.dcmread(path)
    del dataset.SOPInstanceUID
    pydicom.dcmwrite(path, dataset)
    with pytest.raises(FailStudy, match="UIDs are missing"):
        prepared(path)


def test_an_empty_study_fails(tmp_path: Path) -> None:
    with pytest.raises(FailStudy) as caught:
        prepare(FetchedStudy(STUDY, (), (), (), tmp_path))
    assert caught.value.code == "no-instances"


@pytest.mark.parametrize(
    ("character_set", "name", "groups"),
    [
        (("ISO_IR 192",), "Žižka^Jan", ("Žižka^Jan",)),
        (("", "ISO 2022 IR 87"), "Rei^Tarou=例^太郎=れい^たろう", ("Rei^Tarou", "例^太郎", "れい^たろう")),
        (("GB18030",), "Wang^XiaoDong=王^小东", ("Wang^XiaoDong", "王^小东")),
        (("ISO_IR 192",), "O'Neil^<b>x</b>\"; DROP TABLE--", ("O'Neil^<b>x</b>\"; DROP TABLE--",)),
        (("ISO_IR 192",), "../../etc/passwd", ("../../etc/passwd",)),
    ],
)
def test_names_are_carried_as_text(
    tmp_path: Path, character_set: tuple[str, ...], name: str, groups: tuple[str, ...]
) -> None:
    path = write_chest(tmp_path / "1", radiograph_header(patient_name=name, character_set=character_set))
    assert prepare(fetched(tmp_path, [path]))[0].patient.name_groups == groups


def with_elements(path: Path, **elements: object) -> Path:
    """The file with elements set, also to values their VR does not allow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset: Dataset = pydicom.dcmread(path)
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        pydicom.dcmwrite(path, dataset)
    return path


def test_context_of_a_full_header(tmp_path: Path) -> None:
    path = write_chest(tmp_path / "1", radiograph_header(description="Chest 'PA' <script>"))
    code, issuer = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "36643-5", "LN", "XR Chest 2 Views"
    issuer.LocalNamespaceEntityID = "RIS"
    with_elements(
        path,
        ProcedureCodeSequence=[code],
        IssuerOfAccessionNumberSequence=[issuer],
        IssuerOfPatientID="HOSP",
        ReasonForTheRequestedProcedure="cough",
    )
    context = prepare(fetched(tmp_path, [path]))[0]
    assert context.started is not None
    assert context.started.isoformat() == "2021-01-01T09:37:00+00:00"
    assert (context.patient.birth_date, context.patient.sex, context.patient.issuer) == (
        date(1971, 3, 14),
        "O",
        "HOSP",
    )
    assert (context.accession_number, context.accession_issuer) == ("ACC-a", "RIS")
    assert [(one.scheme, one.value) for one in context.procedure_codes] == [("LN", "36643-5")]
    assert (context.description, context.indication) == ("Chest 'PA' <script>", "cough")
    assert context.instances[0].view_position == "PA"


def test_values_out_of_range_count_as_absent(tmp_path: Path) -> None:
    wrong = {"StudyDate": "20211399", "PatientBirthDate": "00000000", "StudyTime": "256199"}
    path = with_elements(write_chest(tmp_path / "1"), **wrong)
    context = prepare(fetched(tmp_path, [path]))[0]
    assert (context.started, context.patient.birth_date) == (None, None)


def test_header_values_reach_neither_log_nor_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = {"PatientBirthDate": "SECRET-1", "AccessionNumber": "SECRET" * 20, "StudyTime": "SECRET"}
    path = with_elements(write_chest(tmp_path / "1"), **wrong, SpecificCharacterSet="SECRET")
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    with warnings.catch_warnings(record=True) as seen:
        prepare(fetched(tmp_path, [path]))
    assert "SECRET" not in caplog.text + " ".join(str(one.message) for one in seen)


@given(st.text(max_size=20))
def test_text_is_cleaned_of_what_databases_refuse(text: str) -> None:
    cleaned = clean(text)
    assert "\0" not in cleaned
    cleaned.encode()
    assert cleaned.isprintable()


@given(st.text(max_size=12))
def test_any_text_may_stand_where_a_date_should(text: str) -> None:
    read_date(text)
    read_time(text)


def test_dates_and_times() -> None:
    assert read_date("20240229") == read_date("2024.02.29") == date(2024, 2, 29)
    assert read_date("20230229") is None
    moment = read_time("235960.5")
    assert moment is not None
    assert moment.isoformat() == "23:59:59"
    assert read_time("24") is None
