"""One instance has one digest, however archives and senders write it; another instance has another one."""

import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from pipeline.archive import content_digest as digests
from pipeline.archive.content_digest import ContentDigest, WalkedDigest
from pipeline.archive.elements import ElementReader
from pipeline.archive.part10 import Part10Header, header_of
from pipeline.dicom_writer import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, RLE_LOSSLESS
from tests.servers import program
from tests.synthetic import chest_pixels, radiograph_header, write_chest

PLAIN = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED)
HEADER = radiograph_header("digest")


def content_digest(path: Path) -> str:
    """The digest of a file, for which the walk over its bytes in memory must give the same one, or none."""
    known, walked = digests.content_digest(path), WalkedDigest()
    header = header_of(path.read_bytes(), digest=walked)
    if isinstance(header, Part10Header) and not header.lenience:
        assert walked.hexdigest() in ("", known)
    return known


def film(path: Path, change: Callable[[Dataset], object] = lambda _: None) -> Path:
    """A film with nested sequences, private ones among them, numbers of every size and a VOI LUT."""
    write_chest(path, HEADER, pixels=chest_pixels(48, 40))
    dataset = pydicom.dcmread(path)
    deep, item, empty = Dataset(), Dataset(), Dataset()
    deep.CodeValue, deep.CodingSchemeDesignator = "T-D3000", "SRT"
    item.RequestedProcedureID = "R1"
    item.RequestedProcedureCodeSequence = Sequence([deep])
    dataset.RequestAttributesSequence = Sequence([item, empty])
    dataset.ReferencedPatientSequence = Sequence([])
    table = Dataset()
    table.LUTDescriptor, table.LUTExplanation = [4, 0, 16], "steps"
    table.add_new(0x00283006, "OW", np.array([0, 256, 4096, 65535], "<u2").tobytes())
    dataset.VOILUTSequence = Sequence([table])
    dataset.FrameTimeVector, dataset.AcquisitionDuration = [1.5], 2.25
    dataset.add_new(0x00186022, "SL", -70_000)
    dataset.add_new(0x00280009, "AT", [0x00181063])
    block = dataset.private_block(0x0009, "VENDOR", create=True)
    block.add_new(1, "LO", "hello ")
    block.add_new(2, "FL", 1.25)
    change(dataset)
    dataset.save_as(path)
    return path


def written(path: Path, syntax: str, *, undefined: bool = False) -> Path:
    """The same instance in another encoding, by pydicom; sequences with delimiters or lengths."""
    dataset = pydicom.dcmread(path)

    def each(level: Dataset) -> None:
        for element in level:
            if element.VR == "SQ":
                element.is_undefined_length = undefined
                for item in element.value:
                    item.is_undefined_length_sequence_item = undefined
                    each(item)

    each(dataset)
    target = path.with_name(f"{syntax}-{undefined}.dcm")
    words = np.frombuffer(dataset.PixelData, "<u2")
    table = dataset.VOILUTSequence[0][0x00283006] if "VOILUTSequence" in dataset else None
    if syntax == EXPLICIT_BIG:  # pydicom leaves the words of OW to its caller
        dataset["PixelData"].value = words.astype(">u2").tobytes()
        if table is not None:
            table.value = np.frombuffer(table.value, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    pydicom.dcmwrite(
        target, dataset, implicit_vr=syntax == IMPLICIT_LITTLE, little_endian=syntax != EXPLICIT_BIG
    )
    return target


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", PLAIN)
def test_one_instance_has_one_digest_in_every_encoding(
    tmp_path: Path, syntax: str, *, undefined: bool
) -> None:
    path = film(tmp_path / "film.dcm")
    other = written(path, syntax, undefined=undefined)
    assert content_digest(other) == content_digest(path)


@pytest.mark.parametrize("how", ["+ti", "+te", "+tb", "+e", "-e", "+g"])
def test_dcmtk_writes_it_anew_and_the_digest_stays(tmp_path: Path, how: str) -> None:
    """dcmconv: implicit, explicit, big endian; lengths explicit or not; group lengths."""
    path = film(tmp_path / "film.dcm")
    subprocess.run([program("dcmconv"), how, path, tmp_path / "other.dcm"], check=True, capture_output=True)
    assert content_digest(tmp_path / "other.dcm") == content_digest(path)


def _private(dataset: Dataset) -> None:
    inner = Dataset()
    inner.private_block(0x0011, "VENDOR", create=True).add_new(1, "SH", "within")
    dataset.private_block(0x0011, "VENDOR", create=True).add_new(5, "SQ", Sequence([inner]))


def test_a_private_sequence_is_one_also_where_nobody_says_so(tmp_path: Path) -> None:
    """Implicit VR names no sequence, and who writes explicit VR from it says UN (PS3.5 6.2.2)."""
    path = film(tmp_path / "film.dcm", _private)
    implicit = written(path, IMPLICIT_LITTLE)
    assert content_digest(implicit) == content_digest(path)
    subprocess.run(
        [program("dcmconv"), "+te", implicit, tmp_path / "un.dcm"], check=True, capture_output=True
    )
    assert content_digest(tmp_path / "un.dcm") == content_digest(path)


CHANGES: dict[str, Callable[[Dataset], object]] = {
    "a value": lambda d: setattr(d, "PatientID", "OTHER"),
    "a nested value": lambda d: setattr(d.RequestAttributesSequence[0], "RequestedProcedureID", "R2"),
    "an item more": lambda d: d.RequestAttributesSequence.append(Dataset()),
    "an element less": lambda d: d.pop("Modality"),
    "a nested element one level up": lambda d: setattr(
        d, "RequestedProcedureID", d.RequestAttributesSequence[0].RequestedProcedureID
    ),
    "a pixel": lambda d: setattr(d, "PixelData", d.PixelData[:-1] + bytes([d.PixelData[-1] ^ 1])),
    "something behind the pixels": lambda d: d.add_new(0x7FE10010, "LO", "X"),
    "a private value": lambda d: d.private_block(0x0009, "VENDOR").add_new(1, "LO", "hullo "),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("syntax", [IMPLICIT_LITTLE, EXPLICIT_LITTLE])
def test_another_instance_has_another_digest(tmp_path: Path, what: str, syntax: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    path, other = film(tmp_path / "a" / "film.dcm"), film(tmp_path / "b" / "film.dcm", CHANGES[what])
    assert content_digest(written(other, syntax)) != content_digest(path)


def test_compressed_pixels_are_digested_too(tmp_path: Path) -> None:
    first, second = tmp_path / "1.dcm", tmp_path / "2.dcm"
    for path, seed in ((first, 1), (second, 2)):
        write_chest(path, HEADER, pixels=chest_pixels(48, 40, seed=seed), transfer_syntax=RLE_LOSSLESS)
    assert content_digest(first) != content_digest(second)
    shutil.copy(first, second)
    assert content_digest(first) == content_digest(second)


@pytest.mark.parametrize("syntax", [IMPLICIT_LITTLE, EXPLICIT_LITTLE])
@given(sizes=st.lists(st.integers(1, 3000), max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_plain_films_are_digested_as_they_pass(tmp_path: Path, syntax: str, sizes: list[int]) -> None:
    path = tmp_path / "film.dcm"
    if not path.exists():
        film(path, lambda d: d.add_new(0x7FE10010, "LO", "behind"))
    content = written(path, syntax).read_bytes()
    digest, at = ContentDigest(), 0
    for size in [*sizes, len(content)]:
        digest.update(content[at : at + size])
        at += size
    assert digest.hexdigest() == content_digest(path)


def test_a_cut_film_is_no_film_with_the_digest_of_a_whole_one(tmp_path: Path) -> None:
    path = film(tmp_path / "film.dcm")
    whole = content_digest(path)
    content = path.read_bytes()
    for cut in (1, 40, 2000, len(content) - 200):
        path.write_bytes(content[:-cut])
        digest = ContentDigest()
        digest.update(content[:-cut])
        assert digest.hexdigest() == ""
        assert content_digest(path) != whole


def test_nested_items_without_end_cost_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty levels of what may be a sequence, in implicit VR: each level is read once."""
    value = b""
    for _ in range(60):
        value = (
            struct.pack("<HHI", 0xFFFE, 0xE000, len(value) + 8)
            + struct.pack("<HHI", 0x0009, 0x1001, len(value))
            + value
        )
    path = film(tmp_path / "film.dcm")
    implicit = written(path, IMPLICIT_LITTLE)
    content = implicit.read_bytes()
    at = content.index(struct.pack("<HH", 0x0009, 0x1001))
    reads = []
    header = ElementReader.header

    def counted(self: ElementReader, at: int) -> tuple[int, bytes, int, int]:
        reads.append(at)
        return header(self, at)

    implicit.write_bytes(
        content[:at] + struct.pack("<HHI", 0x0009, 0x1001, len(value)) + value + content[at + 14 :]
    )
    monkeypatch.setattr(ElementReader, "header", counted)
    assert content_digest(implicit) != content_digest(path)
    assert len(reads) < 5_000
