"""What real archives were seen to do: Orthanc, dcmqrscp, and one that offers Patient Root alone."""

import subprocess
from datetime import date
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import AE

from flows.priors import finds_itself
from pipeline.archive.dicomweb.dicomweb_archive import DicomwebStudies
from pipeline.archive.dimse.dimse_archive import DimseStudies
from pipeline.archive.dimse.storage_scp import StorageScp
from pipeline.archive.folder import FolderStudies
from pipeline.dicom_writer import DX_IMAGE_STORAGE, EXPLICIT_LITTLE
from pipeline.setting_archives import DicomwebArchive, DimseArchive, FolderArchive
from pipeline.study import HeldInstance, StudyQuery
from tests.patient_root import patient_root
from tests.servers import (
    CALLING,
    LOOPBACK,
    Peer,
    dcmqrscp,
    free_port,
    orthanc,
    program,
    store,
    store_over_rest,
)
from tests.synthetic import chest_pixels, radiograph_header, write_chest

STUDY = radiograph_header("ways").study_instance_uid
LIMIT = 40_000 / (1 << 30)
"""GiB that a small film does not reach and a large one does."""


def dimse(peer: Peer, retrieve: str, **changes: object) -> DimseStudies:
    settings = {
        "kind": "dimse",
        "host": LOOPBACK,
        "port": peer.port,
        "ae_title": peer.ae_title,
        "calling_ae_title": CALLING,
        "retrieve": retrieve,
        "min_free_gib": 0.1,
        "stall_timeout": 20.0,
        **changes,
    }
    return DimseStudies("ways", DimseArchive.model_validate(settings))


def film(path: Path, instance: int = 1, *, side: int = 96) -> Path:
    header = radiograph_header("ways", instance=instance, series=1 + instance % 2)
    return write_chest(path, header, pixels=chest_pixels(side, side))


@pytest.mark.parametrize("retrieve", ["move", "get"])
def test_a_refused_instance_does_not_keep_back_the_others(tmp_path: Path, retrieve: str) -> None:
    """Orthanc ends a C-MOVE at the first C-STORE that is refused, with 0xC000 and no counts."""
    port = free_port()
    films = [film(tmp_path / f"{n}.dcm", n, side=96 if n % 2 else 300) for n in range(1, 7)]
    with orthanc(tmp_path / "peer", move_port=port) as peer:
        store_over_rest(peer, *films)
        with dimse(peer, retrieve, move_port=port, max_instance_gib=LIMIT) as archive:
            fetched = archive.fetch(STUDY, tmp_path / "study")
    assert len(fetched.held) == 3
    assert [one.code for one in fetched.damaged] == ["too-large"] * 3
    assert fetched.awaited == ()


def test_classes_that_are_not_told_are_retrieved_all_the_same(tmp_path: Path) -> None:
    """dcmqrscp names no SOP Class at image level, and sends what fits a context that was proposed."""
    port = free_port()
    files = [film(tmp_path / "1.dcm", 1), film(tmp_path / "2.dcm", 2)]
    for number, sop_class, modality in (
        (3, "1.2.840.10008.5.1.4.1.1.88.59", "KO"),
        (4, "1.2.840.10008.5.1.4.1.1.7", "OT"),
        (5, "1.2.840.10008.5.1.4.1.1.88.67", "SR"),
        (6, "1.2.840.10008.5.1.4.1.1.104.1", "DOC"),
    ):
        other = pydicom.dcmread(film(tmp_path / f"{number}.dcm", number))
        other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = pydicom.uid.UID(sop_class)
        other.Modality = modality
        other.save_as(tmp_path / f"{number}.dcm")
        files.append(tmp_path / f"{number}.dcm")
    with dcmqrscp(tmp_path / "peer", move_port=port) as peer:
        for path in files:
            command = [program("dcmsend"), "-aet", CALLING, "-aec", peer.ae_title, LOOPBACK, str(peer.port)]
            subprocess.run([*command, path], check=True, capture_output=True, timeout=60)
        with dimse(peer, "get") as archive:
            fetched = archive.fetch(STUDY, tmp_path / "study")
    assert fetched.complete
    assert len(fetched.held) == 6


@pytest.mark.parametrize("strict", [False, True])
def test_an_archive_with_patient_root_alone(tmp_path: Path, *, strict: bool) -> None:
    files = [film(tmp_path / "1.dcm", 1), film(tmp_path / "2.dcm", 2)]
    other = radiograph_header("ways-2", patient_id="TEST-other")
    files.append(write_chest(tmp_path / "3.dcm", other, pixels=chest_pixels(96, 96)))
    with patient_root(files, strict=strict) as peer:
        with dimse(peer, "get") as archive:
            found = {one.study_instance_uid for one in archive.find(StudyQuery())}
            mine = [one.study_instance_uid for one in archive.find(StudyQuery(patient_id="TEST-ways"))]
            assert archive.fetch(STUDY, tmp_path / "study").complete
        with dimse(peer, "get") as archive:  # who has not searched asks whose study it is
            assert len(archive.instances(STUDY)) == 2
            assert archive.fetch(other.study_instance_uid, tmp_path / "other").complete
    assert found == {STUDY, other.study_instance_uid}
    assert mine == [STUDY]


def with_delimiters(path: Path) -> Path:
    """A film whose sequences end by delimiters, as many devices write them."""
    dataset = pydicom.dcmread(film(path))
    item, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "R-10206", "SRT", "antero-posterior"
    item.RequestedProcedureID = "P1"
    item.RequestedProcedureCodeSequence = Sequence([code])
    dataset.RequestAttributesSequence = Sequence([item])
    for holder, keyword in ((dataset, "RequestAttributesSequence"), (item, "RequestedProcedureCodeSequence")):
        holder[keyword].is_undefined_length = True
        for one in holder[keyword].value:
            one.is_undefined_length_sequence_item = True
    dataset.save_as(path)
    return path


def test_one_film_by_every_way_has_one_digest(tmp_path: Path) -> None:
    """WADO-RS keeps the bytes, C-MOVE and C-GET of Orthanc and storescu write them anew."""
    port = free_port()
    path = with_delimiters(tmp_path / "in" / "1.dcm")
    digests: dict[str, str] = {}
    listed: dict[str, str] = {}
    with orthanc(tmp_path / "peer", move_port=port) as peer:
        store_over_rest(peer, path)
        web = DicomwebArchive(kind="dicomweb", url=peer.dicomweb, min_free_gib=0.1)
        disk = FolderArchive(kind="folder", path=path.parent, min_free_gib=0.1)
        for name, archive in (
            ("web", DicomwebStudies("ways", web)),
            ("move", dimse(peer, "move", move_port=port)),
            ("get", dimse(peer, "get")),
            ("folder", FolderStudies("ways", disk)),
        ):
            with archive:
                (found,) = archive.find(StudyQuery())
                listed[name] = found.demographics_digest
                digests[name] = archive.fetch(STUDY, tmp_path / name).manifest_digest
    assert len(set(digests.values())) == 1, digests
    assert len(set(listed.values())) == 1, listed


def test_listen_takes_the_second_encoding_as_a_duplicate(tmp_path: Path) -> None:
    path = with_delimiters(tmp_path / "1.dcm")
    came: list[HeldInstance] = []
    with StorageScp(
        LOOPBACK, 0, "LISTEN", tmp_path / "inbox", lambda some: came.extend(one.instance for one in some), 0.1
    ) as scp:
        for option in ("-xe", "-xi", "-xb"):
            command = [program("storescu"), option, "-aec", "LISTEN", LOOPBACK, str(scp.port), path]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
        sender = AE()
        sender.add_requested_context(DX_IMAGE_STORAGE, EXPLICIT_LITTLE)
        association = sender.associate(LOOPBACK, scp.port, ae_title="LISTEN")
        status = association.send_c_store(pydicom.dcmread(path))
        association.release()
        assert status.Status == 0
    assert len(came) == 4
    assert len({one.sha256 for one in came}) == 1
    assert len(list((tmp_path / "inbox").rglob("*.dcm"))) == 1


def test_what_orthanc_does_not_find_by_dates_and_numbers(tmp_path: Path) -> None:
    """Why a sweep of days asks without them now and then (PS3.4 C.2.2.2.5), and a search by number is proved."""
    dated, undated = film(tmp_path / "1.dcm"), tmp_path / "2.dcm"
    write_chest(undated, radiograph_header("undated"), pixels=chest_pixels(96, 96))
    dataset = pydicom.dcmread(undated)
    dataset.StudyDate, dataset.PatientID = "", "A 1"
    dataset.save_as(undated)
    slashed = pydicom.dcmread(
        write_chest(tmp_path / "3.dcm", radiograph_header("slash"), pixels=chest_pixels(96, 96))
    )
    slashed.PatientID = "A/1"
    slashed.save_as(tmp_path / "3.dcm")
    with orthanc(tmp_path / "peer") as peer:
        store(peer, dated, undated, tmp_path / "3.dcm")
        web = DicomwebArchive(kind="dicomweb", url=peer.dicomweb, min_free_gib=0.1)
        with DicomwebStudies("web", web) as archive:  # it compares the escape of a space as it is written
            assert not finds_itself(archive, "A 1", dataset.StudyInstanceUID)
            assert finds_itself(archive, "A/1", slashed.StudyInstanceUID)
        with dimse(peer, "get") as archive:
            assert finds_itself(archive, "A 1", dataset.StudyInstanceUID)
            assert not finds_itself(archive, "A 1", slashed.StudyInstanceUID)
            ranged = [one.study_date for one in archive.find(StudyQuery(since=date(1990, 1, 1)))]
            everything = [one.study_date for one in archive.find(StudyQuery())]
    assert None not in ranged
    assert None in everything
