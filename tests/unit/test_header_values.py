"""Numbers, dates and times that FHIR or Python cannot hold: left out or cut, with a remark; the study is drafted."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest

from pipeline.archive.study_answers import CHARACTER_SET, PATIENT_NAME, decode_texts, parse_date
from pipeline.images import prepare
from pipeline.study import ImageSet
from pipeline.study_context import StudyContext
from tests.synthetic import chest_pixels, fetched, radiograph_header, write_chest


def prepared(tmp_path: Path, **values: Any) -> tuple[StudyContext, ImageSet]:
    path = write_chest(tmp_path / "1.dcm", radiograph_header("values"), pixels=chest_pixels(160, 144))
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        if keyword in ("SeriesNumber", "InstanceNumber"):
            dataset.add_new(keyword, "LO", value)  # pydicom refuses to write such an IS
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)
    return prepare(fetched(tmp_path, [path], "values"))


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"StudyDate": "00010101", "TimezoneOffsetFromUTC": "+1400"}, "study date"),
        ({"StudyDate": "00010101"}, "study date"),
        ({"StudyDate": "20260230"}, "study date"),
        ({"StudyTime": "240000"}, "study time"),
        ({"StudyTime": "24:00:00"}, "study time"),
        ({"StudyTime": "999999"}, "study time"),
        ({"PatientBirthDate": "00010101"}, "birth date"),
        ({"PatientBirthDate": "16000101"}, "birth date"),
        ({"SeriesNumber": "456115117112105110101"}, "series number"),
        ({"SeriesNumber": "-5"}, "series number"),
        ({"InstanceNumber": "2147483648"}, "instance number"),
        ({"InstanceNumber": "1e400"}, "instance number"),
    ],
)
def test_what_cannot_be_is_a_remark_and_costs_nothing(
    tmp_path: Path, values: dict[str, str], name: str
) -> None:
    context, images = prepared(tmp_path, **values)
    assert len(images.images) == 1
    assert [one.code for one in images.remarks] == ["header-value"]
    assert name in images.remarks[0].message
    assert not any(value in images.remarks[0].message for value in values.values())
    (instance,) = context.instances
    for number in (instance.series_number, instance.instance_number):
        assert number is None or 0 <= number < 1 << 31


def test_the_end_of_a_day_is_its_last_second(tmp_path: Path) -> None:
    context, _ = prepared(tmp_path, StudyDate="20260102", StudyTime="240000")
    assert context.started == datetime(2026, 1, 2, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize("said", ["", "9999", "25:00", "24"])
def test_a_study_without_a_time_is_told_as_its_day(tmp_path: Path, said: str) -> None:
    """With a zone it would be an instant at midnight, which a search since eight in the morning misses."""
    context, _ = prepared(tmp_path, StudyDate="20260102", StudyTime=said, TimezoneOffsetFromUTC="+0100")
    assert context.started == datetime(2026, 1, 2)  # noqa: DTZ001 - a day


def test_a_sound_header_has_no_remark(tmp_path: Path) -> None:
    assert prepared(tmp_path)[1].remarks == ()
    assert prepared(tmp_path, StudyTime="", PatientBirthDate="", StudyDate="2026.01.02")[1].remarks == ()


@pytest.mark.parametrize("text", ["00010101", "00000000", "17991231", "10101"])
def test_no_range_of_days_begins_in_the_year_1(text: str) -> None:
    assert parse_date(text) is None
    assert parse_date("18000101") == date(1800, 1, 1)


def _in_two_bytes(text: str, codec: str) -> bytes:
    """Each word behind the escape sequence of its set, as PS3.5 6.1.2.5 has it after a delimiter."""
    escape = {"gb2312": b"\x1b$)A", "iso8859_5": b"\x1b-L", "euc_kr": b"\x1b$)C"}[codec]
    return b"^".join(escape + word.encode(codec) for word in text.split("^"))


CHARACTER_SETS = [
    (
        "GB18030",
        "王^乗明".encode("gb18030"),
        "王^乗明",
    ),  # the second byte of the second letter is a backslash
    ("GBK", "王^乛明".encode("gbk"), "王^乛明"),  # a caret
    ("\\ISO 2022 IR 87", "山田^五俑".encode("iso2022_jp"), "山田^五俑"),  # a caret, a backslash
    ("\\ISO 2022 IR 58", _in_two_bytes("王^明", "gb2312"), "王^明"),
    ("\\ISO 2022 IR 149", _in_two_bytes("홍^길동", "euc_kr"), "홍^길동"),
    ("ISO 2022 IR 100\\ISO 2022 IR 144", _in_two_bytes("Иванов^Иван", "iso8859_5"), "Иванов^Иван"),
    ("ISO_IR 203", "Œuvrard^Zoë".encode("iso8859_15"), "Œuvrard^Zoë"),
    ("ISO-IR 100", "Müller^José".encode("latin-1"), "Müller^José"),
    ("UTF-8", "Müller^José".encode(), "Müller^José"),
    ("GB2312", "王^明".encode("gb2312"), "王^明"),
]


@pytest.mark.parametrize(("terms", "written", "name"), CHARACTER_SETS)
def test_a_name_in_any_character_set_is_one_in_file_and_listing(
    tmp_path: Path, terms: str, written: bytes, name: str
) -> None:
    """PS3.3 C.12.1.1.2, PS3.5 6.1.2: also where a byte of a letter looks like a delimiter."""
    path = write_chest(tmp_path / "1.dcm", radiograph_header("values"), pixels=chest_pixels(160, 144))
    padded = written + b" " * (len(written) % 2)
    dataset = pydicom.dcmread(path)
    with pydicom.config.disable_value_validation():
        dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 100", "P" * len(padded)
        dataset.save_as(path)
    content, set_name = path.read_bytes(), terms.encode() + b" " * (len(terms) % 2)
    sets = (b"CS\x0a\0ISO_IR 100", b"CS" + len(set_name).to_bytes(2, "little") + set_name)
    for mark, instead in (sets, (b"P" * len(padded), padded)):
        assert content.count(mark) == 1
        content = content.replace(mark, instead)
    path.write_bytes(content)
    context, _ = prepare(fetched(tmp_path, [path], "values"))
    assert context.patient.name_groups == (name,)
    assert decode_texts({CHARACTER_SET: terms.encode(), PATIENT_NAME: padded})[PATIENT_NAME] == name


@pytest.mark.parametrize(
    ("said", "minutes"),
    [
        ("+0530", 330),
        ("-0330", -210),
        ("+05:30", 330),
        ("Z", 0),
        ("-0000", 0),
        ("+1430", None),
        ("0530", None),
    ],
)
def test_a_zone_is_one_as_dicom_or_iso_8601_writes_it(tmp_path: Path, said: str, minutes: int | None) -> None:
    """PS3.3 C.12.1.1.8; what is no zone leaves the clock on the wall."""
    context, _ = prepared(tmp_path, TimezoneOffsetFromUTC=said)
    assert context.started is not None
    assert context.started.utcoffset() == (None if minutes is None else timedelta(minutes=minutes))


@pytest.mark.parametrize("said", ["2026/01/15", "2026.01.15", "2026-01-15", "20260115101500"])
def test_a_day_in_another_form_is_the_day(tmp_path: Path, said: str) -> None:
    context, images = prepared(tmp_path, StudyDate=said, PatientBirthDate=said)
    assert context.started is not None
    assert context.started.date() == context.patient.birth_date == parse_date(said) == date(2026, 1, 15)
    assert not images.remarks
