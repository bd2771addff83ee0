"""Files that are not as PS3.10 section 7 and PS3.5 section 7 say, and whose film is whole: read, with a remark."""

import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipeline.archive.content_digest import content_digest
from pipeline.archive.dicomweb.dicomweb_archive import DicomwebStudies
from pipeline.archive.folder import FolderStudies
from pipeline.archive.guarded_file import GuardedFile
from pipeline.archive.instance_file import examine
from pipeline.archive.part10 import Fault, Lenience, read_part10_header
from pipeline.dicom_writer import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, RLE_LOSSLESS
from pipeline.images.prepare import LENIENT
from pipeline.setting_archives import DicomwebArchive, FolderArchive
from pipeline.study import HeldInstance, StudyQuery
from tests.faulty_dicomweb import Faults, faulty_dicomweb
from tests.synthetic import chest_pixels, radiograph_header, write_chest

HEADER = radiograph_header("lenient")

UNKNOWN_VRS = (b"ZZ", b"??", b"  ", b"RE", b"OX", b"\0\0", b"lo", b"--")


def film(path: Path, syntax: str = EXPLICIT_LITTLE, *, nested: bool = False) -> Path:
    """A film with a private element (0009,1001), which ``nested`` puts into a sequence of undefined length."""
    write_chest(path, HEADER, pixels=chest_pixels(48, 40), transfer_syntax=syntax)
    dataset = pydicom.dcmread(path)
    holder = Dataset() if nested else dataset
    holder.private_block(0x0009, "VENDOR", create=True).add_new(1, "LO", "hello ")
    if nested:
        dataset.RequestAttributesSequence = Sequence([holder])
        dataset["RequestAttributesSequence"].is_undefined_length = True
        holder.is_undefined_length_sequence_item = True
    dataset.save_as(path)
    return path


def dataset_start(content: bytes) -> int:
    return 144 + int(struct.unpack_from("<I", content, 140)[0])


def changed(path: Path, change: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


def kept(path: Path) -> HeldInstance:
    """The instance as it is kept after a fetch, which pydicom must be able to read whole."""
    found = examine(path, "")
    assert isinstance(found, HeldInstance), found
    assert found.ref.sop_instance_uid == HEADER.sop_instance_uid
    again = pydicom.dcmread(path)
    assert again.StudyInstanceUID == HEADER.study_instance_uid
    assert len(again.PixelData) == 48 * 40 * 2 or again.file_meta.TransferSyntaxUID == RLE_LOSSLESS
    assert examine(path, found.sha256) == found, (
        "an attempt that finds the file of the one before says so, too"
    )
    return found


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("long", [True, False])
@pytest.mark.parametrize("vr", UNKNOWN_VRS)
def test_an_unknown_value_representation_is_passed_over(
    tmp_path: Path, vr: bytes, *, long: bool, nested: bool
) -> None:
    """PS3.5 7.1.2 gives it 32 bits of length; some writers keep 16."""

    def rename(content: bytes) -> bytes:
        at = content.index(b"\x09\x00\x01\x10LO")
        length = content[at + 6 : at + 8]
        return content[: at + 4] + vr + (b"\0\0" + length + b"\0\0" if long else length) + content[at + 8 :]

    assert kept(changed(film(tmp_path / "1.dcm", nested=nested), rename)).lenience == ("unknown-vr",)


def test_each_leniency_has_a_sentence_on_the_report() -> None:
    assert set(LENIENT) == {one.value for one in Lenience}


ITEM, ITEM_END, SEQUENCE_END = (
    b"\xfe\xff" + rest for rest in (b"\x00\xe0" + b"\xff" * 4, b"\x0d\xe0" + bytes(4), b"\xdd\xe0" + bytes(4))
)
CODE = b"\x08\x00\x00\x01SH\x04\x00CODE"
ONE = ITEM + CODE + ITEM_END
WRONG_ENDS = {  # of one sequence in explicit VR; the second is how PS3.5 7.5 has the first
    "an item without its end": (ITEM + CODE + SEQUENCE_END, ONE + SEQUENCE_END),
    "the first item without its end": (ITEM + CODE + ONE + SEQUENCE_END, ONE + ONE + SEQUENCE_END),
    "an item's end for the sequence's": (ONE + ITEM_END, ONE + SEQUENCE_END),
    "neither": (ITEM + CODE + ITEM_END + ITEM_END, ONE + SEQUENCE_END),
    "nested": (
        ITEM + b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + ITEM + CODE + SEQUENCE_END + SEQUENCE_END,
        ITEM + b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + ONE + SEQUENCE_END + ITEM_END + SEQUENCE_END,
    ),
}


@pytest.mark.parametrize("vr", [b"SQ", b"UN"])
@pytest.mark.parametrize("wrong", WRONG_ENDS)
def test_delimiters_are_set_right_and_nothing_is_lost(tmp_path: Path, wrong: str, vr: bytes) -> None:
    """UN in explicit VR is how writers had a sequence of unknown kind before CP 246 (PS3.5 6.2.2 note 2)."""
    digests: list[str] = []
    for written, items in zip((vr, b"SQ"), WRONG_ENDS[wrong], strict=True):
        path = film(tmp_path / f"{len(digests)}.dcm")
        whole = path.read_bytes()
        at = whole.index(b"\x10\x00\x10\x00PN")
        sequence = b"\x09\x00\x30\x10" + written + b"\0\0\xff\xff\xff\xff" + items
        path.write_bytes(whole[:at] + sequence + whole[at:])
        found = kept(path)
        assert found.lenience == (() if digests else ("sequence-form",))
        assert pydicom.dcmread(path)[0x0009, 0x1030].value[0]
        digests.append(found.sha256)
    assert digests[0] == digests[1]


def test_reserved_bytes_that_are_not_zero_are_no_length_beside_an_undefined_one(tmp_path: Path) -> None:
    path = film(tmp_path / "1.dcm")
    whole = path.read_bytes()
    at = whole.index(b"\x10\x00\x10\x00PN")
    items = b"\xff\xff\xff\xff" + ONE + SEQUENCE_END
    path.write_bytes(whole[:at] + b"\x09\x00\x30\x10SQ" + struct.pack("<H", len(items)) + items + whole[at:])
    assert kept(path).lenience == ()
    assert pydicom.dcmread(path)[0x0009, 0x1030].value[0].CodeValue == "CODE"


@pytest.mark.parametrize("rest", [b"\r\n", bytes(70_000), bytes(range(1, 249)) * 4, b"\xff" * 9])
@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG, RLE_LOSSLESS])
def test_bytes_behind_the_data_set_are_nobodys(tmp_path: Path, syntax: str, rest: bytes) -> None:
    found = kept(changed(film(tmp_path / "1.dcm", syntax), lambda content: content + rest))
    assert found.lenience == (("bytes-after",) if rest.strip(b"\0") else ())


@pytest.mark.parametrize("wrong", [-18, 4, 1000, 1 << 20])
def test_the_meta_group_ends_where_another_group_begins(tmp_path: Path, wrong: int) -> None:
    """PS3.10 7.1: group 0002 and nothing else, whatever its length says."""
    path = film(tmp_path / "1.dcm")
    digest = content_digest(path)

    def lie(content: bytes) -> bytes:
        stated = int(struct.unpack_from("<I", content, 140)[0]) + wrong
        return content[:140] + struct.pack("<I", stated) + content[144:]

    found = kept(changed(path, lie))
    assert (found.lenience, found.sha256) == (("meta-length",), digest)


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG])
def test_a_bare_data_set_is_kept_with_a_meta_group(tmp_path: Path, syntax: str) -> None:
    path = film(tmp_path / "1.dcm", syntax)
    digest = content_digest(path)
    found = kept(changed(path, lambda content: content[dataset_start(content) :]))
    assert (found.lenience, found.sha256, found.transfer_syntax_uid) == (("no-file-meta",), digest, syntax)


def test_a_meta_group_without_preamble_is_read(tmp_path: Path) -> None:
    path = film(tmp_path / "1.dcm", RLE_LOSSLESS)
    digest = content_digest(path)
    found = kept(changed(path, lambda content: content[132:]))
    assert (found.lenience, found.sha256) == (("no-preamble",), digest)


def test_the_data_set_says_which_instance_it_is(tmp_path: Path) -> None:
    path = film(tmp_path / "1.dcm")
    uid = HEADER.sop_instance_uid.encode()
    found = kept(changed(path, lambda content: content.replace(uid, b"1.2.3" + uid[5:], 1)))
    assert found.lenience == ("meta-uid",)


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG, RLE_LOSSLESS])
@pytest.mark.parametrize("cut", [1, 9, 500])
def test_a_cut_film_is_refused_all_the_same(tmp_path: Path, syntax: str, cut: int) -> None:
    found = read_part10_header(changed(film(tmp_path / "1.dcm", syntax), lambda content: content[:-cut]))
    assert isinstance(found, Fault)
    assert found.code == "truncated"


def test_a_file_that_is_cut_while_it_is_read_is_an_error_and_no_bus_error(tmp_path: Path) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(bytes(1 << 20))
    with path.open("rb") as file:
        encoded = GuardedFile(file.fileno())
        assert encoded[:8] == bytes(8)
        os.truncate(path, 4096)
        assert len(encoded) == 1 << 20
        with pytest.raises(EOFError, match="cut while it was read"):
            encoded[1 << 19 : (1 << 19) + 8]


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "no-file-meta": lambda content: content[dataset_start(content) :],
    "no-preamble": lambda content: content[132:],
    "meta-length": lambda content: content[:140] + b"\1\0\0\0" + content[144:],
    "bytes-after": lambda content: content + b"\r\n",
    "unknown-vr": lambda content: content.replace(b"\x09\x00\x01\x10LO", b"\x09\x00\x01\x10??", 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_and_wado_rs_agree_on_every_form(tmp_path: Path, form: str) -> None:
    """Both ways bring the same instance with the same digest and the same remark."""
    path = film(tmp_path / "in" / "1.dcm")
    odd = FORMS[form](path.read_bytes())
    with faulty_dicomweb([path], Faults()) as server:
        server_files = server.stored
        server_files[:] = [replace(server_files[0], content=odd)]
        settings = DicomwebArchive(kind="dicomweb", url=server.url, min_free_gib=0.1)
        with DicomwebStudies("web", settings) as web:
            (over_http,) = web.fetch(HEADER.study_instance_uid, tmp_path / "web").held
    path.write_bytes(odd)
    with FolderStudies("disk", FolderArchive(kind="folder", path=path.parent, min_free_gib=0.1)) as disk:
        assert [one.study_instance_uid for one in disk.find(StudyQuery())] == [HEADER.study_instance_uid]
        (from_disk,) = disk.fetch(HEADER.study_instance_uid, tmp_path / "disk").held
    assert over_http.lenience == from_disk.lenience == (form,)
    assert over_http.sha256 == from_disk.sha256
