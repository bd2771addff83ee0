"""What we write is what pydicom, an independent reader, reads back."""

from datetime import date
from pathlib import Path

import numpy as np
import pydicom
import pytest

from pipeline import dicom_writer as writer
from tests.synthetic import chest_pixels, radiograph_header, write_chest

LOSSLESS = sorted(set(writer.WRITABLE) - set(writer.LOSSY_BITS))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_pixels_come_back(tmp_path: Path, syntax: str, photometric: str) -> None:
    pixels = chest_pixels(65, 51)
    path = write_chest(tmp_path / "a.dcm", pixels=pixels, transfer_syntax=syntax, photometric=photometric)
    again = pydicom.dcmread(path)
    wanted = 4095 - pixels if photometric == "MONOCHROME1" else pixels
    assert again.file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(again.pixel_array, wanted)


@pytest.mark.parametrize(("syntax", "bits"), sorted(writer.LOSSY_BITS.items()))
def test_lossy_pixels_come_back_nearly(tmp_path: Path, syntax: str, bits: int) -> None:
    pixels = chest_pixels(96, 80, bits=bits)
    stored = pixels.astype(np.uint8) if bits == 8 else pixels
    path = write_chest(tmp_path / "a.dcm", pixels=stored, transfer_syntax=syntax, bits_stored=bits)
    again = pydicom.dcmread(path)
    assert np.abs(again.pixel_array.astype(int) - pixels).max() < 1 << (bits - 5)
    assert again.LossyImageCompression == "01"


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        (("ISO_IR 192",), "Žižka^Jan=例^太郎"),
        (("", "ISO 2022 IR 87"), "Rei^Tarou=例^太郎=れい^たろう"),
        (("GB18030",), "Wang^XiaoDong=王^小东"),
    ],
)
def test_names_survive_their_character_set(tmp_path: Path, character_set: tuple[str, ...], name: str) -> None:
    header = radiograph_header(patient_name=name, character_set=character_set)
    again = pydicom.dcmread(write_chest(tmp_path / "a.dcm", header))
    assert str(again.PatientName) == name


def test_header_is_written(tmp_path: Path) -> None:
    header = radiograph_header("b", birth_date=date(1950, 2, 3), description="Chest PA", window=(100, 200))
    again = pydicom.dcmread(write_chest(tmp_path / "a.dcm", header))
    assert again.SOPInstanceUID == again.file_meta.MediaStorageSOPInstanceUID == header.sop_instance_uid
    assert (again.PatientBirthDate, again.BodyPartExamined, again.WindowCenter) == ("19500203", "CHEST", 100)
    assert again.ViewCodeSequence[0].CodeValue == "272479007"
    assert again.PresentationLUTShape == "IDENTITY"


def test_uids_are_valid_and_repeatable() -> None:
    uid = writer.uid_from("x", "1")
    assert uid == writer.uid_from("x", "1") != writer.uid_from("x1")
    assert pydicom.uid.UID(uid).is_valid
    assert uid.startswith("2.25.")


def test_a_lie_about_rows_is_only_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    writer.write_radiograph(
        path, chest_pixels(100, 90), radiograph_header(), bits_stored=12, declared_rows=200
    )
    again = pydicom.dcmread(path)
    assert (again.Rows, len(again.PixelData)) == (200, 100 * 90 * 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bits_stored": 8},
        {"photometric": "RGB"},
        {"transfer_syntax": "1.2.840.10008.1.2.4.100"},
        {"transfer_syntax": writer.JPEG_BASELINE},
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"fit|MONOCHROME|WRITABLE|bits"):
        write_chest(tmp_path / "a.dcm", **wrong)  # type: ignore[arg-type]
