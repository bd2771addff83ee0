"""The file reader below the folder archive: hostile files, digests and the syntax of UIDs."""

import struct
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipeline.archive.content_digest import ContentDigest, content_digest
from pipeline.archive.file_meta import file_header
from pipeline.archive.instance_file import examine, moved
from pipeline.archive.part10 import (
    Fault,
    Part10Header,
    read_part10_header,
)
from pipeline.archive.uids import is_uid
from pipeline.dicom_writer import (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    RLE_LOSSLESS,
    WRITABLE,
)
from pipeline.study import HeldInstance
from tests.folder_films import HEADER_CLASS, STUDY, film, offset, patched


def test_private_nested_and_padded_elements_are_walked(tmp_path: Path) -> None:
    path = film(tmp_path / "1.dcm", IMPLICIT_LITTLE)
    dataset = pydicom.dcmread(path)
    inner = Dataset()
    inner.StudyInstanceUID = "9.9.9"
    inner.is_undefined_length_sequence_item = True
    dataset.ReferencedStudySequence = Sequence([inner])
    dataset["ReferencedStudySequence"].is_undefined_length = True
    block = dataset.private_block(0x0009, "FIRSTREAD TEST", create=True)
    block.add_new(1, "UN", b"\x00\xff" * 33)
    dataset.save_as(path)
    patched(path, lambda content: content + bytes(512))
    header = read_part10_header(path)
    assert isinstance(header, Part10Header)
    assert header.study_instance_uid == STUDY


def test_encapsulated_pixels_without_last_delimiter_pass_and_cut_ones_do_not(tmp_path: Path) -> None:
    path = film(tmp_path / "1.dcm", RLE_LOSSLESS)
    whole = path.read_bytes()
    assert whole.endswith(b"\xfe\xff\xdd\xe0" + bytes(4))
    path.write_bytes(whole[:-8])
    assert isinstance(read_part10_header(path), Part10Header)
    path.write_bytes(whole[:-20])
    found = read_part10_header(path)
    assert isinstance(found, Fault)
    assert found.code == "truncated"


def test_a_file_of_empty_elements_ends(tmp_path: Path) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(
        file_header(HEADER_CLASS, "1.2.3", IMPLICIT_LITTLE) + struct.pack("<HHI", 8, 8, 0) * 260_000
    )
    found = read_part10_header(path)
    assert isinstance(found, Fault)
    assert found.code == "malformed-dataset"


def test_deep_nesting_ends(tmp_path: Path) -> None:
    nest = struct.pack("<HHI", 8, 0x1140, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    path = tmp_path / "1.dcm"
    path.write_bytes(file_header(HEADER_CLASS, "1.2.3", IMPLICIT_LITTLE) + nest * 5000)
    found = read_part10_header(path)
    assert isinstance(found, Fault)
    assert found.code == "malformed-dataset"


@pytest.fixture(scope="module")
def specimens(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("specimens")
    return [film(folder / f"{n}.dcm", syntax).read_bytes() for n, syntax in enumerate(WRITABLE)]


@given(
    kind=st.integers(0, 100),
    where=st.floats(0, 1),
    noise=st.binary(min_size=1, max_size=12),
    cut=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_mutated_files_are_headers_or_faults(
    specimens: list[bytes], tmp_path: Path, kind: int, where: float, noise: bytes, cut: bool
) -> None:
    content = specimens[kind % len(specimens)]
    at = int(where * len(content))
    path = tmp_path / "mutated.dcm"
    path.write_bytes(content[:at] if cut else content[:at] + noise + content[at + len(noise) :])
    found = read_part10_header(path)
    if isinstance(found, Part10Header):
        assert is_uid(found.study_instance_uid)
        assert is_uid(found.sop_instance_uid)
    if (
        cut and content.find(b"\xe0\x7f\x10\x00") < at < len(content) - 16
    ):  # before it a cut may fall between elements
        assert isinstance(found, Fault) or found.transfer_syntax_uid not in (EXPLICIT_LITTLE, IMPLICIT_LITTLE)


@given(sizes=st.lists(st.integers(1, 400), max_size=60), kind=st.integers(0, 100))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_digest_does_not_depend_on_the_pieces(
    specimens: list[bytes], tmp_path: Path, sizes: list[int], kind: int
) -> None:
    content = specimens[kind % len(specimens)]
    path = tmp_path / "whole.dcm"
    path.write_bytes(content)
    digest, at = ContentDigest(), 0
    for size in [*sizes, len(content)]:
        digest.update(content[at : at + size])
        at += size
    assert digest.hexdigest() in (content_digest(path), "")
    beside = tmp_path / "beside.dcm"
    beside.write_bytes(content)
    held, read = examine(beside, content=content), examine(path)
    assert (moved(held, path) if isinstance(held, HeldInstance) else held) == read
    assert isinstance(held, Fault) or held.sha256 == content_digest(path)
    other = tmp_path / "other-meta.dcm"
    if b"1.2.840.10008.1.2.1.99" in content[:400]:
        return  # its meta group says that it is deflated, and no other may stand there
    other.write_bytes(file_header("1.2", "1.2.3", EXPLICIT_LITTLE) + content[offset(path) :])
    assert content_digest(other) == content_digest(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.2.840.10008.1.1", True),
        ("2.25.0", True),
        ("1" * 64, True),
        ("1" * 65, False),
        ("", False),
        ("1..2", False),
        (".1", False),
        ("1.", False),
        ("1.2/3", False),
        ("1.2\n", False),
        ("\u0661.\u0662", False),
    ],
)
def test_uid_syntax(text: str, expected: bool) -> None:
    assert is_uid(text) is expected
