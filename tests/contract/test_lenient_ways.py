"""One leniency table for every way in: a folder, WADO-RS (a study, a single instance), C-MOVE, C-GET and C-STORE.

Each form of a film, right or wrong, comes to the same by all of them: held with the same digest, or refused for the
same reason. What only a file can have (its meta group) does not exist where data sets are sent without one.
"""

import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydicom
import pydicom.uid
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipeline.archive.dicomweb.dicomweb_archive import DicomwebStudies
from pipeline.archive.dimse.association import Association
from pipeline.archive.dimse.command import C_STORE_RQ, Command
from pipeline.archive.dimse.dimse_archive import DimseStudies
from pipeline.archive.dimse.pdu import Associate, PresentationContext
from pipeline.archive.dimse.storage_scp import StorageScp
from pipeline.archive.folder import FolderStudies
from pipeline.dicom_writer import (
    DX_IMAGE_STORAGE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    JPEG_LOSSLESS,
    RLE_LOSSLESS,
    uid_from,
)
from pipeline.setting_archives import DicomwebArchive, DimseArchive, FolderArchive
from pipeline.study import FetchedStudy, HeldInstance
from tests import faulty_dicomweb as web
from tests.faulty_dimse import AE_TITLE, Faults, faulty_dimse
from tests.servers import CALLING, LOOPBACK, free_port
from tests.synthetic import chest_pixels, radiograph_header, write_chest

HEADER = radiograph_header("ways-in")
UID, STUDY = HEADER.sop_instance_uid, HEADER.study_instance_uid
OTHER = uid_from("tests", "some other instance")
DEFLATED = "1.2.840.10008.1.2.1.99"
Change = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Form:
    """How a film is written: ``file`` changes the whole file, ``dataset`` the data set alone.

    ``expected`` is the remark on it where it is held, "" for none, else the reason why it is not.
    """

    syntax: str = EXPLICIT_LITTLE
    dataset: Change = lambda content: content
    file: Change = lambda content: content
    held: bool = True
    expected: str = ""
    named: str = UID
    """What a C-STORE request names."""


def start_of(content: bytes) -> int:
    return 144 + int.from_bytes(content[140:144], "little")


def renamed(vr: bytes, *, long: bool) -> Change:
    """The private element (0009,1001) with a value representation that nobody knows."""

    def change(content: bytes) -> bytes:
        at = content.index(b"\x09\x00\x01\x10LO")
        length = content[at + 6 : at + 8]
        return content[: at + 4] + vr + (b"\0\0" + length + b"\0\0" if long else length) + content[at + 8 :]

    return change


def without(tag: bytes) -> Change:
    """Without a UI element of explicit VR little endian."""

    def change(content: bytes) -> bytes:
        at = content.index(tag + b"UI")
        return content[:at] + content[at + 8 + int.from_bytes(content[at + 6 : at + 8], "little") :]

    return change


def padded_fragment(content: bytes) -> bytes:
    """Zeros behind the end marker within the last fragment, whose length counts them."""
    end = content.rindex(b"\xfe\xff\xdd\xe0")
    start = content.rindex(b"\xfe\xff\x00\xe0", 0, end)
    length = int.from_bytes(content[start + 4 : start + 8], "little") + 64
    return (
        content[: start + 4]
        + length.to_bytes(4, "little")
        + content[start + 8 : end]
        + bytes(64)
        + content[end:]
    )


def before_name(element: bytes) -> Change:
    """With ``element`` in front of the patient's name, in explicit VR little endian."""

    def change(content: bytes) -> bytes:
        at = content.index(b"\x10\x00\x10\x00PN")
        return content[:at] + element + content[at:]

    return change


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def unnamed(content: bytes) -> bytes:
    """Without the transfer syntax in the file meta group, whose length is right."""
    start = start_of(content)
    meta = without(b"\x02\x00\x10\x00")(content[144:start])
    return content[:140] + len(meta).to_bytes(4, "little") + meta + content[start:]


def zlib_stream(content: bytes) -> bytes:
    """As RFC 1950 frames it: two bytes before the deflated data (RFC 1951, PS3.5 A.5), four behind."""
    return zlib.compress(content)


ITEM, ITEM_END, SEQUENCE_END = (
    b"\xfe\xff" + rest for rest in (b"\x00\xe0" + b"\xff" * 4, b"\x0d\xe0" + bytes(4), b"\xdd\xe0" + bytes(4))
)
CODE = b"\x08\x00\x00\x01SH\x04\x00CODE"
SEQUENCE = b"\x09\x00\x30\x10SQ\0\0\xff\xff\xff\xff"
UNKNOWN = SEQUENCE.replace(b"SQ", b"UN")

FORMS: dict[str, Form] = {
    "as the standard says": Form(),
    "implicit VR": Form(IMPLICIT_LITTLE),
    "big endian": Form(EXPLICIT_BIG),
    "compressed": Form(RLE_LOSSLESS),
    "no file meta group": Form(file=lambda c: c[start_of(c) :], expected="no-file-meta"),
    "no file meta group, implicit": Form(
        IMPLICIT_LITTLE, file=lambda c: c[start_of(c) :], expected="no-file-meta"
    ),
    "preamble and no file meta group": Form(
        file=lambda c: c[:132] + c[start_of(c) :], expected="no-file-meta"
    ),
    "no preamble": Form(file=lambda c: c[132:], expected="no-preamble"),
    "meta group length too short": Form(
        file=lambda c: c[:140] + b"\1\0\0\0" + c[144:], expected="meta-length"
    ),
    "meta group length too long": Form(
        file=lambda c: c[:140] + b"\xff\xff\0\0" + c[144:], expected="meta-length"
    ),
    "another instance is named": Form(
        file=lambda c: c.replace(UID.encode(), OTHER.encode().ljust(len(UID), b"\0")[: len(UID)], 1),
        expected="meta-uid",
        named=OTHER,
    ),
    **{
        f"unknown VR {vr!r}{' with a long length' if long else ''}": Form(
            dataset=renamed(vr, long=long), expected="unknown-vr"
        )
        for vr in (b"ZZ", b"??", b"\0\0")
        for long in (True, False)
    },
    "a line end behind the pixels": Form(dataset=lambda c: c + b"\r\n", expected="bytes-after"),
    "992 bytes of rest": Form(dataset=lambda c: c + bytes(range(1, 249)) * 4, expected="bytes-after"),
    "zeros to a block": Form(dataset=lambda c: c + bytes(70_000)),
    "compressed, a line end behind": Form(
        RLE_LOSSLESS, dataset=lambda c: c + b"\r\n", expected="bytes-after"
    ),
    "zeros in the last fragment": Form(JPEG_LOSSLESS, dataset=padded_fragment),
    "no delimiter behind the last fragment": Form(RLE_LOSSLESS, dataset=lambda c: c[:-8]),
    "cut in the pixels": Form(dataset=lambda c: c[:-100], held=False, expected="truncated"),
    "cut in a fragment": Form(RLE_LOSSLESS, dataset=lambda c: c[:-40], held=False, expected="truncated"),
    "implicit under explicit": Form(dataset=lambda _: implicit(), expected="encoding"),
    "explicit under implicit": Form(IMPLICIT_LITTLE, dataset=lambda _: native(), expected="encoding"),
    "native under compressed": Form(
        RLE_LOSSLESS, dataset=lambda _: native(), held=False, expected="transfer-syntax-mismatch"
    ),
    "no transfer syntax is named": Form(file=unnamed, expected="no-syntax"),
    "the prefix without the preamble": Form(file=lambda c: c[128:], expected="no-preamble"),
    "deflated": Form(DEFLATED, dataset=lambda _: deflated(native())),
    "deflated, framed by zlib": Form(DEFLATED, dataset=lambda _: zlib_stream(native()), expected="encoding"),
    "plain under deflated": Form(DEFLATED, dataset=lambda _: native(), expected="encoding"),
    "a sequence as UN, written explicitly": Form(
        dataset=before_name(UNKNOWN + ITEM + CODE + ITEM_END + SEQUENCE_END), expected="sequence-form"
    ),
    "an item without its end": Form(
        dataset=before_name(SEQUENCE + ITEM + CODE + ITEM + CODE + SEQUENCE_END), expected="sequence-form"
    ),
    "a sequence that ends as an item does": Form(
        dataset=before_name(SEQUENCE + ITEM + CODE + ITEM_END + ITEM_END), expected="sequence-form"
    ),
    "a delimiter where nothing is open": Form(
        dataset=before_name(SEQUENCE[:8] + b"\x14\0\0\0" + ITEM[:4] + b"\x0c\0\0\0" + CODE + SEQUENCE_END),
        expected="unknown-vr",
    ),
    "OB with a length of 16 bits": Form(
        dataset=before_name(b"\x09\x00\x20\x10OB\x04\x00ABCD"), expected="sequence-form"
    ),
    "an item that is longer than its elements": Form(
        dataset=before_name(SEQUENCE[:8] + b"\x16\0\0\0" + ITEM[:4] + b"\x0e\0\0\0" + CODE + b"\0\0")
    ),
    "padding behind the pixels that is cut": Form(
        dataset=lambda c: c + b"\xfc\xff\xfc\xffOB\0\0\0\x20\0\0" + bytes(64), expected="bytes-after"
    ),
    "no SOP class": Form(dataset=without(b"\x08\x00\x16\x00"), held=False, expected="missing-uid"),
}
FILE_ALONE = ("no-file-meta", "no-preamble", "meta-length", "no-syntax")
"""Remarks on what a data set that is sent without a file does not have."""


def film(path: Path, syntax: str) -> Path:
    """A film with a private element and a sequence that ends by a delimiter."""
    written = EXPLICIT_LITTLE if syntax == DEFLATED else syntax
    write_chest(path, HEADER, pixels=chest_pixels(48, 40), transfer_syntax=written)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    dataset.private_block(0x0009, "VENDOR", create=True).add_new(1, "LO", "hello ")
    item = Dataset()
    item.RequestedProcedureID = "R1"
    item.is_undefined_length_sequence_item = True
    dataset.RequestAttributesSequence = Sequence([item])
    dataset["RequestAttributesSequence"].is_undefined_length = True
    if syntax == EXPLICIT_BIG:
        return path  # pydicom would not turn its words about
    dataset.save_as(path)
    return path


def _dataset_in(syntax: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        content = film(Path(folder) / "1.dcm", syntax).read_bytes()
    return content[start_of(content) :]


def implicit() -> bytes:
    return _dataset_in(IMPLICIT_LITTLE)


def native() -> bytes:
    return _dataset_in(EXPLICIT_LITTLE)


@dataclass(frozen=True, slots=True)
class Specimen:
    """A sound film at ``path``, and as what it is sent: a file, or a data set."""

    form: Form
    path: Path
    content: bytes
    dataset: bytes


@dataclass(frozen=True, slots=True)
class Came:
    """What one way made of it: a digest and the remarks, or the reason why it is not held."""

    digest: str = ""
    remarks: tuple[str, ...] = ()
    refused: str = ""


def outcome(fetched: FetchedStudy) -> Came:
    assert len(fetched.held) + len(fetched.damaged) == 1
    for held in fetched.held:
        assert held.ref.sop_instance_uid == UID
        assert pydicom.dcmread(held.path, stop_before_pixels=True).SOPInstanceUID == UID
        return Came(held.sha256, held.lenience)
    (damaged,) = fetched.damaged
    assert fetched.missing == (UID,)
    return Came(refused=damaged.code)


def by_folder(specimen: Specimen, out: Path) -> Came:
    (out / "archive").mkdir()
    (out / "archive" / "1.dcm").write_bytes(specimen.content)
    with FolderStudies(
        "disk", FolderArchive(kind="folder", path=out / "archive", min_free_gib=0.1)
    ) as archive:
        return outcome(archive.fetch(STUDY, out / "study"))


def plainly(path: Path, dataset: bytes, out: Path) -> tuple[HeldInstance, ...]:
    """What is held of a study whose file holds ``dataset``, behind the meta group that ``path`` has."""
    whole = path.read_bytes()
    out.mkdir(parents=True)
    (out / "1.dcm").write_bytes(whole[: start_of(whole)] + dataset)
    with FolderStudies("disk", FolderArchive(kind="folder", path=out, min_free_gib=0.1)) as archive:
        return archive.fetch(HEADER.study_instance_uid, out / "study").held


def by_wado(specimen: Specimen, out: Path, **faults: Any) -> Came:
    with web.faulty_dicomweb([specimen.path], web.Faults(**faults)) as server:
        server.stored[:] = [replace(server.stored[0], content=specimen.content)]
        settings = DicomwebArchive(kind="dicomweb", url=server.url, min_free_gib=0.1)
        with DicomwebStudies("web", settings) as archive:
            return outcome(archive.fetch(STUDY, out / "study"))


def by_single_part(specimen: Specimen, out: Path) -> Came:
    return by_wado(specimen, out, single_part=True)


def by_dimse(specimen: Specimen, out: Path, retrieve: str) -> Came:
    port = free_port()
    faults = Faults(names=specimen.form.named)
    with faulty_dimse([specimen.path], faults, port, [specimen.dataset]) as server:
        settings = DimseArchive.model_validate(
            {
                "kind": "dimse",
                "host": LOOPBACK,
                "port": server.port,
                "ae_title": AE_TITLE,
                "calling_ae_title": CALLING,
                "retrieve": retrieve,
                "move_port": port,
                "min_free_gib": 0.1,
                "stall_timeout": 10.0,
            }
        )
        with DimseStudies("dimse", settings) as archive:
            return outcome(archive.fetch(STUDY, out / "study"))


def by_move(specimen: Specimen, out: Path) -> Came:
    return by_dimse(specimen, out, "move")


def by_get(specimen: Specimen, out: Path) -> Came:
    return by_dimse(specimen, out, "get")


def by_store(specimen: Specimen, out: Path) -> Came:
    came: list[HeldInstance] = []
    refused: list[str] = []
    with StorageScp(
        LOOPBACK, 0, "LISTEN", out / "inbox", lambda some: came.extend(one.instance for one in some), 0.1,
        refused=lambda _, code: refused.append(code),
    ) as scp:  # fmt: skip
        contexts = (PresentationContext(1, DX_IMAGE_STORAGE, (specimen.form.syntax,)),)
        with Association.request(
            (LOOPBACK, scp.port), Associate("LISTEN", "SCU", contexts), connect_timeout=5, stall_timeout=10
        ) as association:
            request = Command(C_STORE_RQ, 1, 0, DX_IMAGE_STORAGE, specimen.form.named, has_data_set=True)
            association.send(association.accepted(DX_IMAGE_STORAGE), request, specimen.dataset)
            answer = association.receive()
    assert answer is not None
    assert (answer.command.status == 0) == bool(came)
    return Came(came[0].sha256, came[0].lenience) if came else Came(refused=refused[0])


WAYS: dict[str, Callable[[Specimen, Path], Came]] = {
    "folder": by_folder,
    "WADO-RS": by_wado,
    "application/dicom": by_single_part,
    "C-MOVE": by_move,
    "C-GET": by_get,
    "C-STORE": by_store,
}
FILES = ("folder", "WADO-RS", "application/dicom")


@pytest.mark.parametrize("name", FORMS)
def test_every_way_makes_the_same_of_a_film(tmp_path: Path, name: str) -> None:
    form = FORMS[name]
    path = film(tmp_path / "in" / "1.dcm", form.syntax)
    whole = path.read_bytes()
    changed = form.dataset(whole[start_of(whole) :])
    specimen = Specimen(form, path, form.file(whole[: start_of(whole)] + changed), changed)
    came = {}
    for way, bring in WAYS.items():
        (tmp_path / way.replace("/", " ")).mkdir()
        came[way] = bring(specimen, tmp_path / way.replace("/", " "))
    if not form.held:
        assert set(came.values()) == {Came(refused=form.expected)}, came
        return
    assert len({one.digest for one in came.values()}) == 1, came
    for way, one in came.items():
        told = form.expected if way in FILES or form.expected not in FILE_ALONE else ""
        assert one.remarks == ((told,) if told else ()), (way, one)
