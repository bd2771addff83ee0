"""Whose study it is: names in several scripts, placeholders, and a number of two hospitals."""

import itertools
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from pipeline.errors import FailStudy
from pipeline.images.headers import Header
from pipeline.images.identity import one_patient
from pipeline.patient_number import identifying


def header(number: str, name: str, birth: str = "19710314", issuer: str = "") -> Header:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    with disable_value_validation():
        dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate = number, name, birth
        dataset.IssuerOfPatientID = issuer
    return Header(Path("x"), dataset, "1.2.840.10008.1.2.1", implicit=False, little=True, pixel_offset=None)


FULL_WIDTH = {ord("0") + digit: 0xFF10 + digit for digit in range(10)}
"""As East Asian keyboards write digits."""
ONE = [
    (("100", "Wang^XiaoDong=王^小东"), ("100", "王^小东")),
    (("100", "Wang^XiaoDong"), ("100", "王^小东")),
    (("100", "Yamada^Tarou=山田^太郎=やまだ^たろう"), ("100", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎")),
    (("100", "Hong^Gildong=洪^吉洞=홍^길동"), ("100", "홍^길동")),
    (("100", "Ivanova^Anna"), ("100", "Иванова^Анна")),
    (("100", "Müller^Anna"), ("100", "MUELLER^ANNA")),
    (("100", "Müller^Anna^Maria"), ("100", "Muller^Anna")),
    (("100", "García López^José"), ("100", "GARCIA LOPEZ^JOSE")),
    (("100", "Nguyễn^Văn An"), ("100", "NGUYEN^VAN AN")),
    (("100", "O'BRIEN^MARY"), ("100", "OBRIEN^MARY")),
    (("100", "DUPONT^JEAN-PIERRE"), ("100", "DUPONT^JEANPIERRE")),
    (("100", "MC DONALD^ANN"), ("100", "MCDONALD^ANN")),
    (("100", "Sørensen^Åse"), ("100", "SOERENSEN^AASE")),
    (("100", "Wałęsa^Lech"), ("100", "WALESA^LECH")),
    (("100", "Þórsson^Þór"), ("100", "THORSSON^THOR")),
    (
        ("100", "I\N{LATIN SMALL LETTER S WITH CEDILLA}\N{LATIN SMALL LETTER DOTLESS I}k^Ayşe"),
        ("100", "ISIK^AYSE"),
    ),
    (("4711".translate(FULL_WIDTH), "山田^太郎"), ("4711", "山田^太郎")),
    (("1111111", "Alpha^Anna"), ("100", "Alpha^Anna")),
    (("NOT AVAILABLE", "Alpha^Anna"), ("100", "Alpha^Anna")),
    (("100", "Alpha^A", "19710314", "HOSPITAL"), ("100", "ALPHA^A", "19710314", "HOSPITAL&1.2.3&ISO")),
    (("100", "Müller^José"), ("100", "M\u00c3\u00bcller^Jos\u00c3\u00a9")),  # UTF-8 read as Latin-1
    (("100", "Müller^José"), ("100", "M?ller^Jos?")),
    (("100", "Müller^José"), ("100", "M\ufffdller^Jos\ufffd")),
    (("100", "王^小明"), ("100", "?^??")),
    (("100", "Đorđević^Ana"), ("100", "DJORDJEVIC^ANA")),
    (("100", "علي^فاطمة"), ("100", "علي^فاطمه")),
    (("100", "مصطفى^علي"), ("100", "مصطفي^على")),
    (("100", "محـمد^علي"), ("100", "محمد^علي")),
    (("100", "کریمی^علی"), ("100", "كريمي^علي")),
    (("100", "髙橋^花子"), ("100", "高橋^花子")),
    (("100", "張^偉"), ("100", "张^伟")),
    (("100", "Papadopoulos^Konstantinos"), ("100", "Papadopoulos^Kon")),  # a field of 16 letters
    (("100", "Alpha^Anna"), ("100", "Alpha^A")),
    (("100", "Alpha^Anna"), ("100", "ANONYMOUS")),
    (("100", "Alpha^Anna"), ("100", "4711")),  # a name without a letter
    (("不明", "Alpha^Anna"), ("100", "Alpha^Anna")),
]
TWO = [
    (("100", "王^小东"), ("100", "李^小东")),
    (("100", "Wang^XiaoDong=王^小东"), ("100", "Li^XiaoMing=李^小明")),
    (("100", "Ivanova^Anna"), ("100", "Petrova^Olga")),
    (("0", "Ivanova^Anna"), ("0", "Иванова^Анна")),
    (("UNKNOWN", "Alpha^A"), ("UNKNOWN", "Beta^B")),
    (("000000", "Alpha^A"), ("", "Beta^B")),
    (("100", "Alpha^A", "19710314"), ("100", "Alpha^A", "19720314")),
    (("100", "Alpha^A", "19710314", "HOSPITAL A"), ("100", "Alpha^A", "19710314", "HOSPITAL B")),
    (
        ("100", "Alpha^A", "19710314", "HOSPITAL&1.2.3&ISO"),
        ("100", "Alpha^A", "19710314", "HOSPITAL&1.2.4&ISO"),
    ),
    (("100", "Alpha^A"), ("200", "Alpha^A")),
    (("100", "SMYTH^JOHN"), ("100", "SMITH^JOHN")),
    (("100", "Alpha^Anna"), ("100", "Alpha^B")),
    (("100", "M?ller^Josef"), ("100", "Miller^Anna")),
    (("100", "M?^J?"), ("100", "Miller^Josephine")),  # hardly a letter is left
    (("", "Alpha^Anna"), ("", "Alpha^A")),  # without a number nothing says that it is she
    (("", "Papadopoulos^Konstantin"), ("", "Papadopoulos^Konstantina")),
    (("", "ANONYMOUS"), ("", "Alpha^Anna")),
    (("100", "Alpha^Baby Boy"), ("100", "Alpha^Baby Girl")),
    (("100", "Alpha^A", ""), ("", "Alpha^A", "")),
]


@pytest.mark.parametrize(("first", "second"), ONE)
def test_one_patient_written_in_two_ways(first: tuple[str, ...], second: tuple[str, ...]) -> None:
    for order in ((first, second), (second, first)):
        assert "patient-spelling" in {one.code for one in one_patient([header(*one) for one in order])}


def test_a_long_name_costs_time_by_its_length_only() -> None:
    long, lost = "a" * 100_000, "a?" * 50_000
    begun = time.process_time()
    for one, other in ((lost, long), (lost, f"{long}b"), (f"{lost}b", long)):
        with suppress(FailStudy):
            one_patient([header("100", one), header("100", other)])
    assert time.process_time() - begun < 10


@given(
    st.lists(
        st.tuples(st.text(max_size=12), st.text(max_size=20), st.text(max_size=9)), min_size=2, max_size=3
    )
)
@settings(deadline=None, max_examples=60)
def test_any_text_may_stand_where_a_name_should(told: list[tuple[str, str, str]]) -> None:
    with suppress(FailStudy):
        one_patient([header(*one) for one in told])


NOBODY = (
    "不明", "不详", "無", "미상", "НЕИЗВЕСТНО", "desconhecido", "sconosciuto", "onbekend", "okänd", "neznámý",
    "άγνωστος", "غير معروف", "S/N", "N.N.", "sin datos", "SEM NUMERO", "PatID", "NO MRN", "XX-XX", "??", "n.a.",
    "Nicht bekannt", "Unknown^Unknown", "NOT ENTERED", "(null)", "0000-0000", "00/00/0000",
)  # fmt: skip
SOMEBODY = (
    "100",
    "A-1",
    "NN1234",
    "TEST-7",
    "1.2.840.1",
    "ANON0001",
    "NONE-7",
    "X12",
    "12/34",
    "SN4711",
    "ID7",
)


@pytest.mark.parametrize("number", NOBODY)
def test_what_stands_where_there_is_no_number(number: str) -> None:
    assert identifying(number) == ""


@pytest.mark.parametrize("number", SOMEBODY)
def test_numbers_that_look_like_it(number: str) -> None:
    assert identifying(number) == number.casefold()


MIXED = [
    [("100", ""), ("100", "Alpha^Anna"), ("100", "Beta^Bert")],  # nothing contradicts the first
    [("100", "", "", "HOSPITAL A"), ("100", "Alpha^Anna"), ("100", "Beta^Bert")],
    [("100", "Alpha"), ("100", "Alpha^Anna"), ("100", "Alpha^Bert")],  # siblings
    [("100", "Alpha^Anna", ""), ("100", "Alpha^Anna", "19710314"), ("100", "Alpha^Anna", "19720314")],
    [("100", "王^小东"), ("100", "Ivanova^Anna"), ("100", "Petrova^Olga")],
    [("", "Alpha^Anna", "19710314"), ("100", "Alpha^Anna", "19710314"), ("200", "Alpha^Anna", "19710314")],
    [("0", "Smith^John", "19710314"), ("0", "Smith^John", "")],  # a number would be needed
    [("100", "Alpha^Anna"), ("", "Alpha^Anna", "")],
]


@pytest.mark.parametrize("headers", MIXED)
def test_each_header_is_compared_with_each(headers: list[tuple[str, ...]]) -> None:
    for order in itertools.permutations(headers):
        with pytest.raises(FailStudy, match="mixed-patients"):
            one_patient([header(*one) for one in order])


@pytest.mark.parametrize(("first", "second"), TWO)
def test_two_patients_are_never_one(first: tuple[str, ...], second: tuple[str, ...]) -> None:
    for order in ((first, second), (second, first)):
        with pytest.raises(FailStudy, match="mixed-patients"):
            one_patient([header(*one) for one in order])


@pytest.mark.parametrize(
    ("local", "universal", "same"),
    [
        ("HOSPITAL", "1.2.3", True),
        ("", "1.2.3", True),
        ("HOSPITAL", "1.2.4", False),
        ("OTHER", "1.2.3", False),
    ],
)
def test_an_issuer_has_a_name_and_a_universal_id(local: str, universal: str, *, same: bool) -> None:
    """PS3.3 C.7.1.1: (0010,0021) and (0010,0024), each compared with its like; one alone contradicts nothing."""
    headers = [header("100", "Alpha^Anna", issuer=one) for one in ("HOSPITAL", local)]
    for one, uid in zip(headers, ("1.2.3", universal), strict=True):
        qualifiers = Dataset()
        qualifiers.UniversalEntityID, qualifiers.UniversalEntityIDType = uid, "ISO"
        assert isinstance(one.dataset, Dataset)
        one.dataset.IssuerOfPatientIDQualifiersSequence = [qualifiers]
    if same:
        assert one_patient(headers) == ()
        return
    with pytest.raises(FailStudy, match="mixed-patients"):
        one_patient(headers)
