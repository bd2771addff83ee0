"""Headers decoded by our own reader say what pydicom says of the same bytes, or are left to pydicom."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.data.data_manager import DATA_ROOT
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset

from pipeline import dicom_writer as writer
from pipeline.errors import FailStudy
from pipeline.images import headers
from pipeline.images.headers import Elements, Header, items, numbers, read_header, text, texts
from pipeline.images.limits import ImageLimits
from pipeline.images.stored_elements import StoredElements, read_elements
from tests.contract.test_lenient_ways import FORMS, film, start_of
from tests.ct_series import stack, write_series
from tests.synthetic import chest_pixels, radiograph_header, write_chest

LIMITS = ImageLimits()
ASKED = [
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "Modality", "StudyDate", "StudyTime", "AccessionNumber",
    "PatientName", "PatientID", "PatientBirthDate", "ProcedureCodeSequence", "RequestAttributesSequence",
    "StudyDescription", "SeriesNumber", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "Rows", "BitsStored", "PixelPaddingValue", "RescaleSlope", "WindowCenter", "ICCProfile",
    "ModalityLUTSequence", "PatientComments", "AcquisitionDateTime", "FrameReferenceTime", "AdditionalPatientHistory",
    "SharedFunctionalGroupsSequence", "LossyImageCompressionRatio", "GantryAngle", "TableHeight", "DiffusionBValue",
]  # fmt: skip
"""What judges a plane, and some of each value representation."""


def told(dataset: Elements, keywords: list[str]) -> dict[str, Any]:
    """Everything that is asked of a data set, by every question."""
    found: dict[str, Any] = {}
    for keyword in keywords:
        nested = [told(item, ASKED) for item in items(dataset, keyword)]
        counted = () if dictionary_VR(keyword) == "PN" else numbers(dataset, keyword)  # nobody counts names
        found[keyword] = (texts(dataset, keyword) if not nested else (), counted, nested)
    return found


def by_pydicom(path: Path, monkeypatch: pytest.MonkeyPatch) -> Header:
    with monkeypatch.context() as patched:
        patched.setattr(headers, "read_elements", lambda _: None)
        return read_header(path, LIMITS)


def outcome(read: Callable[[], Header]) -> Header | tuple[str, str]:
    try:
        return read()
    except FailStudy as error:
        return error.code, error.message


def assert_alike(path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether it was ours to read."""
    ours, theirs = outcome(lambda: read_header(path, LIMITS)), outcome(lambda: by_pydicom(path, monkeypatch))
    if isinstance(ours, tuple) or isinstance(theirs, tuple):
        assert ours == theirs
        return False
    for name in ("transfer_syntax", "implicit", "little", "pixel_offset"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert isinstance(theirs.dataset, Dataset)
    keywords = [*ASKED, *(one for one in theirs.dataset.dir() if tag_for_keyword(one))]
    assert told(ours.dataset, keywords) == told(theirs.dataset, keywords)
    return isinstance(ours.dataset, StoredElements)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_forms_of_the_leniency_table(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "1.dcm", FORMS[form].syntax)
    content = path.read_bytes()
    start = start_of(content)
    path.write_bytes(FORMS[form].file(content[:start] + FORMS[form].dataset(content[start:])))
    ours = assert_alike(path, monkeypatch)
    if form in ("as the standard says", "implicit VR", "compressed", "cut in the pixels", "no SOP class"):
        assert ours
    if form in ("big endian", "no file meta group", "implicit under explicit", "unknown VR b'ZZ'"):
        assert not ours


def test_every_element_of_real_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """pydicom's own test files: character sets, private groups, enhanced objects, damaged ones."""
    paths = [*Path(DATA_ROOT, "test_files").glob("*.dcm")]
    read = [assert_alike(path, monkeypatch) for path in paths if path.stat().st_size < 4_000_000]
    assert len(read) > 60
    assert sum(read) > 40


TEXTS = st.binary(max_size=12) | st.from_regex(rb"[ -~]{0,12}", fullmatch=True)
NUMBERS = st.from_regex(rb"[0-9+\-.eE \\]{0,14}", fullmatch=True) | st.lists(
    st.floats(-1e6, 1e6).map(lambda value: f"{value:.5g}".encode()), min_size=1, max_size=3
).map(b"\\".join)
CHARACTER_SETS = st.sampled_from(
    [
        b"",
        b"ISO_IR 100",
        b"ISO_IR 192",
        b"ISO_IR 13",
        b"\\ISO 2022 IR 87",
        b"GB18030",
        b"ISO_IR 999",
        b"ISO_IR 6 ",
    ]
)
VALUES: list[tuple[int, bytes, st.SearchStrategy[bytes]]] = [
    (0x00080008, b"CS", TEXTS),
    (0x00080016, b"UI", TEXTS | st.from_regex(rb"[0-9.]{1,12}\0?", fullmatch=True)),
    (0x00080020, b"DA", TEXTS | st.just(b"20310506")),
    (0x00080060, b"CS", TEXTS),
    (0x00081030, b"LO", TEXTS | st.just("Thorax für Größe".encode("latin-1"))),
    (0x00100010, b"PN", TEXTS | st.just(b"A^B=C=") | st.just(b"\\A^B")),
    (0x00104000, b"LT", TEXTS | st.just(b"a\\b ")),
    (0x00180050, b"DS", NUMBERS | TEXTS),
    (0x00189087, b"FD", st.binary(max_size=17) | st.just(struct.pack("<d", 1.5))),
    (0x00200011, b"IS", NUMBERS | TEXTS),
    (0x00200013, b"IS", st.integers().map(lambda value: str(value).encode())),
    (0x00200032, b"DS", NUMBERS),
    (0x00280010, b"US", st.binary(max_size=5) | st.just(b"\0\2")),
    (0x00280103, b"US", st.sampled_from([b"\0\0", b"\1\0", b""])),
    (0x00280120, b"SS", st.binary(min_size=2, max_size=2)),
    (0x00281053, b"DS", NUMBERS),
    (0x00282000, b"OB", TEXTS),
]


def item(body: bytes, *, bounded: bool) -> bytes:
    length = len(body) if bounded else 0xFFFFFFFF
    return (
        b"\xfe\xff\x00\xe0"
        + struct.pack("<I", length)
        + body
        + (b"" if bounded else b"\xfe\xff\x0d\xe0" + bytes(4))
    )


def element(tag: int, vr: bytes, value: bytes, *, implicit: bool, undefined: bool = False) -> bytes:
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    length = 0xFFFFFFFF if undefined else len(value)
    end = b"\xfe\xff\xdd\xe0" + bytes(4) if undefined else b""
    if implicit:
        return head + struct.pack("<I", length) + value + end
    long = vr in (b"OB", b"SQ", b"UN", b"UT")
    return (
        head + vr + (b"\0\0" + struct.pack("<I", length) if long else struct.pack("<H", length)) + value + end
    )


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file of elements with values of any kind, a sequence among them, as its writers and its mutilators make it."""
    implicit = draw(st.booleans())
    body = element(0x00080005, b"CS", draw(CHARACTER_SETS), implicit=implicit)
    code = element(0x00080100, b"SH", draw(TEXTS), implicit=implicit)
    code += element(0x00080104, b"LO", draw(TEXTS), implicit=implicit)
    undefined = draw(st.booleans())
    inside = b"".join(item(code, bounded=draw(st.booleans())) for _ in range(draw(st.integers(0, 2))))
    sequence = element(0x00081032, b"SQ", inside, implicit=implicit, undefined=undefined)
    for tag, vr, values in VALUES:
        if tag > 0x00081032 and sequence:
            body, sequence = body + sequence, b""
        if draw(st.booleans()):
            body += element(tag, vr, draw(values), implicit=implicit)
    body += element(0x7FE00010, b"OB", bytes(16), implicit=implicit)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(body) - 1))
        body = body[:at] + draw(st.binary(min_size=1, max_size=3)) + body[at + draw(st.integers(0, 3)) :]
    syntax = b"1.2.840.10008.1.2\0" if implicit else b"1.2.840.10008.1.2.1\0"
    meta = element(0x00020010, b"UI", syntax, implicit=False)
    whole = (
        bytes(128)
        + b"DICM"
        + element(0x00020000, b"UL", struct.pack("<I", len(meta)), implicit=False)
        + meta
        + body
    )
    return whole[: draw(st.integers(0, len(whole)))] if draw(st.integers(0, 9)) == 0 else whole


@settings(max_examples=400)
@given(content=files())
@example(content=b"")
@example(content=bytes(128) + b"DICM")
def test_whatever_the_bytes(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "some.dcm"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patched:
        assert_alike(path, patched)


def test_a_plain_plane_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = write_series(tmp_path, stack(1))
    assert assert_alike(path, monkeypatch)
    header = read_header(path, LIMITS)
    assert isinstance(header.dataset, StoredElements)
    assert numbers(header.dataset, "ImagePositionPatient") == (-20.0, -30.0, -50.0)
    assert text(header.dataset, "PatientName") == "Planted^Sectional"
    assert header.dataset.whole().Modality == "CT"


def test_a_long_header_is_read_on_and_a_longer_one_is_left_to_pydicom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size, ours in ((1 << 12, True), (1 << 14, True), (1 << 18, True), (1 << 21, False)):
        dataset = pydicom.dcmread(write_series(tmp_path, stack(1))[0])
        dataset.add_new(0x00091001, "OB", bytes(size))
        path = tmp_path / "long.dcm"
        dataset.save_as(path)
        assert assert_alike(path, monkeypatch) is ours


def test_a_film_of_another_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = radiograph_header(patient_name="Rei^Tarou=例^太郎", character_set=("", "ISO 2022 IR 87"))
    path = write_chest(
        tmp_path / "1.dcm", header, pixels=chest_pixels(48, 40), transfer_syntax=writer.EXPLICIT_LITTLE
    )
    assert assert_alike(path, monkeypatch)
    assert text(read_header(path, LIMITS).dataset, "PatientName") == "Rei^Tarou=例^太郎"


def test_sequences_nested_without_end_are_not_followed() -> None:
    """Each item opens a sequence in itself: the walk stops, and pydicom is asked."""
    head = element(0x00081032, b"SQ", b"", implicit=False)[:8] + b"\xff" * 4
    body = (head + b"\xfe\xff\x00\xe0" + b"\xff" * 4) * 400
    meta = element(0x00020010, b"UI", b"1.2.840.10008.1.2.1\0", implicit=False)
    start = element(0x00020000, b"UL", struct.pack("<I", len(meta)), implicit=False)
    assert read_elements(io.BytesIO(bytes(128) + b"DICM" + start + meta + body)) is None


def test_a_data_set_answers_as_before() -> None:
    dataset = Dataset()
    dataset.Modality = "CT"
    assert text(dataset, "Modality") == "CT"
