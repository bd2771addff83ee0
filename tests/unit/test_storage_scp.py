"""The Storage SCP of ``listen``, spoken to by dcmtk and, where bytes must go wrong, by our own association."""

import errno
import json
import os
import socket
import stat
import subprocess
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.archive.content_digest import content_digest
from pipeline.archive.dimse.command import C_FIND_RQ, C_STORE_RQ, Command
from pipeline.archive.dimse.committing import Arrival
from pipeline.archive.dimse.pdu import (
    COMMAND,
    DATA_SET,
    LONGEST_PDU,
    PresentationContext,
    data_pdus,
)
from pipeline.archive.dimse.storage_scp import StorageScp
from pipeline.archive.part10 import EXPLICIT_VR_LITTLE_ENDIAN
from pipeline.dicom_writer import (
    DX_IMAGE_STORAGE,
    EXPLICIT_LITTLE,
    JPEG_2000_LOSSLESS,
    JPEG_LS_LOSSLESS,
    RLE_LOSSLESS,
    uid_from,
)
from pipeline.errors import ConfigurationError, RetryLater, StopRun
from tests.servers import LOOPBACK, Peer, orthanc, program, store, store_over_rest
from tests.storage_scu import Ledger, associate, dataset_of, inbox_files, send, until
from tests.synthetic import chest_pixels, radiograph_header, write_chest

VERIFICATION = "1.2.840.10008.1.1"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def scp(tmp_path: Path, ledger: Ledger) -> Iterator[StorageScp]:
    with StorageScp(LOOPBACK, 0, "LISTEN", tmp_path / "inbox", ledger.record, 0.1, stall_timeout=5) as server:
        yield server


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_chest(tmp_path / "film.dcm", radiograph_header("scp"), pixels=chest_pixels(96, 80))


def peer(scp: StorageScp) -> Peer:
    return Peer("LISTEN", scp.port)


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, JPEG_2000_LOSSLESS, JPEG_LS_LOSSLESS, RLE_LOSSLESS])
def test_keeps_what_dcmtk_sends_bit_for_bit(
    scp: StorageScp, ledger: Ledger, tmp_path: Path, syntax: str
) -> None:
    header = radiograph_header("scp")
    film = write_chest(tmp_path / "film.dcm", header, pixels=chest_pixels(96, 80), transfer_syntax=syntax)
    store(peer(scp), film, calling="CARM7")
    (held, calling), *others = ledger.rows
    assert not others
    assert calling == "CARM7"
    assert held.ref.sop_instance_uid == header.sop_instance_uid
    assert held.ref.study_instance_uid == header.study_instance_uid
    assert held.transfer_syntax_uid == syntax
    assert held.path == tmp_path / "inbox" / header.study_instance_uid / f"{header.sop_instance_uid}.dcm"
    assert inbox_files(tmp_path) == [held.path]
    dump = subprocess.run([program("dcmftest"), str(held.path)], capture_output=True, timeout=30)
    assert dump.returncode == 0


def test_takes_what_orthanc_forwards(scp: StorageScp, ledger: Ledger, tmp_path: Path, film: Path) -> None:
    modalities = {"listen": {"AET": "LISTEN", "Host": LOOPBACK, "Port": scp.port}}
    with orthanc(tmp_path / "orthanc", DicomModalities=modalities) as sender:
        store_over_rest(sender, film)
        with urllib.request.urlopen(f"{sender.rest}/studies", timeout=10) as response:
            (study,) = json.load(response)
        request = urllib.request.Request(
            f"{sender.rest}/modalities/listen/store", data=study.encode("ascii"), method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            assert json.load(response)["FailedInstancesCount"] == 0
    ((held, calling),) = ledger.rows
    assert calling == "ORTHANC"
    assert held.sha256 == content_digest(film)


def test_the_same_instance_again_is_success_without_a_second_file(
    scp: StorageScp, ledger: Ledger, tmp_path: Path, film: Path
) -> None:
    uid = radiograph_header("scp").sop_instance_uid
    assert send(scp, dataset_of(film), uid) == 0
    assert send(scp, dataset_of(film), uid) == 0
    assert len(inbox_files(tmp_path)) == 1
    assert [held.path for held, _ in ledger.rows] == inbox_files(tmp_path) * 2


def test_other_bytes_under_a_held_uid_are_refused_and_the_first_kept(
    scp: StorageScp, ledger: Ledger, tmp_path: Path, film: Path
) -> None:
    uid = radiograph_header("scp").sop_instance_uid
    first = dataset_of(film)
    assert send(scp, first, uid) == 0
    assert send(scp, first[:-1] + bytes([first[-1] ^ 1]), uid) == 0x0111
    (path,) = inbox_files(tmp_path)
    assert dataset_of(path) == first
    assert len(ledger.rows) == 1


def test_a_name_that_cannot_be_forced_to_the_disk_is_no_success(
    scp: StorageScp, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, refuses = os.fsync, True

    def force(descriptor: int) -> None:
        if refuses and stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "planted")
        really(descriptor)

    monkeypatch.setattr(os, "fsync", force)
    uid = radiograph_header("scp").sop_instance_uid
    assert send(scp, dataset_of(film), uid) == 0xA700
    refuses = False
    assert send(scp, dataset_of(film), uid) == 0


def test_the_same_bytes_again_are_no_success_where_the_first_go_in_this_moment(
    tmp_path: Path, film: Path
) -> None:
    """A stored outcome named them, and whoever removes what it released comes between the look and the row."""
    came: list[Arrival] = []

    def record(arrivals: Sequence[Arrival]) -> None:
        came.extend(arrivals)
        if len(came) == 2:
            arrivals[0].instance.path.unlink()

    uid = radiograph_header("scp").sop_instance_uid
    with StorageScp(LOOPBACK, 0, "LISTEN", tmp_path / "inbox", record, 0.1, stall_timeout=5) as scp:
        assert [send(scp, dataset_of(film), uid) for _ in range(3)] == [0, 0xA700, 0]
    assert came[-1].instance.path.is_file()


@pytest.mark.parametrize("failure", [RetryLater("database", "away"), OSError("gone"), ValueError("bug")])
def test_no_success_without_the_ledger_row(
    scp: StorageScp, ledger: Ledger, tmp_path: Path, film: Path, failure: Exception
) -> None:
    uid = radiograph_header("scp").sop_instance_uid
    ledger.failure = failure
    assert send(scp, dataset_of(film), uid) == 0xA700
    ledger.failure = None
    assert send(scp, dataset_of(film), uid) == 0
    assert len(ledger.rows) == len(inbox_files(tmp_path)) == 1


@pytest.mark.parametrize("late", [1, 1500])
def test_messages_that_come_together_are_answered_one_by_one(
    scp: StorageScp, ledger: Ledger, tmp_path: Path, late: int
) -> None:
    """Three requests in one write, the last one in two: what was read ahead is neither lost nor waited for."""
    headers = [radiograph_header("together", instance=number) for number in range(1, 4)]
    written = b""
    with associate(scp.port) as association:
        context = association.accepted(DX_IMAGE_STORAGE)
        for number, header in enumerate(headers, 1):
            film = write_chest(tmp_path / f"{number}.dcm", header, pixels=chest_pixels(32, 32))
            request = Command(
                C_STORE_RQ, number, 0, DX_IMAGE_STORAGE, header.sop_instance_uid, has_data_set=True
            )
            written += data_pdus(context.context_id, request.encode(), COMMAND, LONGEST_PDU)
            written += data_pdus(context.context_id, dataset_of(film), DATA_SET, LONGEST_PDU)
        association._send_all(written[:-late])
        answers = [association.receive() for _ in headers[:2]]
        association._send_all(written[-late:])
        answers.append(association.receive())
        assert [(one.command.responded_to, one.command.status) for one in answers if one] == [
            (1, 0), (2, 0), (3, 0),
        ]  # fmt: skip
    assert sorted(held.ref.sop_instance_uid for held, _ in ledger.rows) == sorted(
        one.sop_instance_uid for one in headers
    )
    assert len(inbox_files(tmp_path)) == 3


def test_who_comes_while_a_group_is_recorded_does_not_wait_for_it(tmp_path: Path) -> None:
    """One record hangs in the database; the next sender's instance is recorded beside it."""
    first, hangs = threading.Event(), threading.Event()

    def record(arrivals: Sequence[Arrival]) -> None:
        if not first.is_set():
            first.set()
            assert hangs.wait(20)

    films = [
        write_chest(
            tmp_path / f"{n}.dcm", radiograph_header("beside", instance=n), pixels=chest_pixels(64, 64)
        )
        for n in (1, 2)
    ]
    with StorageScp(LOOPBACK, 0, "LISTEN", tmp_path / "inbox", record, 0.1, record_seconds=20) as scp:
        uids = [radiograph_header("beside", instance=n).sop_instance_uid for n in (1, 2)]
        slow = threading.Thread(target=send, args=(scp, dataset_of(films[0]), uids[0]))
        slow.start()
        assert first.wait(10)
        assert send(scp, dataset_of(films[1]), uids[1]) == 0
        assert slow.is_alive()
        hangs.set()
        slow.join(10)


def test_below_the_watermark_everything_is_refused(tmp_path: Path, ledger: Ledger, film: Path) -> None:
    with StorageScp(LOOPBACK, 0, "LISTEN", tmp_path / "inbox", ledger.record, 1e9) as scp:
        assert send(scp, dataset_of(film), radiograph_header("scp").sop_instance_uid) == 0xA700
    assert not ledger.rows
    assert not inbox_files(tmp_path)


def test_an_instance_beyond_the_limit_is_refused(tmp_path: Path, ledger: Ledger, film: Path) -> None:
    with StorageScp(
        LOOPBACK, 0, "LISTEN", tmp_path / "inbox", ledger.record, 0.1, max_instance_gib=1e-6
    ) as scp:
        assert send(scp, dataset_of(film), radiograph_header("scp").sop_instance_uid) == 0xA700
    assert not inbox_files(tmp_path)


def test_damage_is_refused_and_the_association_lives_on(
    scp: StorageScp, ledger: Ledger, tmp_path: Path, film: Path
) -> None:
    uid = radiograph_header("scp").sop_instance_uid
    whole = dataset_of(film)
    bad = [(b"", uid), (b"not a data set at all", uid), (whole[:-50], uid)]
    bad += [(whole, ""), (whole, "../../../etc/passwd"), (whole, "1" * 65)]
    with associate(scp.port) as association:
        context = association.accepted(DX_IMAGE_STORAGE)
        for dataset, named in [*bad, (whole, uid)]:
            request = Command(C_STORE_RQ, 1, 0, DX_IMAGE_STORAGE, named, has_data_set=True)
            association.send(context, request, dataset)
            message = association.receive()
            assert message is not None
            assert message.command.status == (0 if (dataset, named) == (whole, uid) else 0xC000)
    assert len(ledger.rows) == len(inbox_files(tmp_path)) == 1


def test_a_request_that_names_another_instance_is_taken_by_its_data_set(
    scp: StorageScp, ledger: Ledger, film: Path
) -> None:
    """Senders that name what the file meta group says (dcm4che) do so where an anonymiser changed one of them."""
    assert send(scp, dataset_of(film), uid_from("other")) == 0
    ((held, _),) = ledger.rows
    assert held.ref.sop_instance_uid == radiograph_header("scp").sop_instance_uid
    assert held.lenience == ("meta-uid",)


def test_an_aborted_association_keeps_what_was_acknowledged_and_nothing_else(
    scp: StorageScp, ledger: Ledger, tmp_path: Path, film: Path
) -> None:
    whole = dataset_of(film)
    association = associate(scp.port)
    context = association.accepted(DX_IMAGE_STORAGE)
    first = Command(
        C_STORE_RQ, 1, 0, DX_IMAGE_STORAGE, radiograph_header("scp").sop_instance_uid, has_data_set=True
    )
    association.send(context, first, whole)
    assert association.receive() is not None
    second = Command(C_STORE_RQ, 2, 0, DX_IMAGE_STORAGE, uid_from("never"), has_data_set=True)
    association._send_all(data_pdus(context.context_id, second.encode(), COMMAND, LONGEST_PDU))
    half = data_pdus(context.context_id, whole, DATA_SET, LONGEST_PDU)[: len(whole) // 2]
    association._send_all(half)
    association.abort()
    until(lambda: len(inbox_files(tmp_path)) == 1)
    assert [held.path for held, _ in ledger.rows] == inbox_files(tmp_path)


def test_left_overs_of_a_killed_predecessor_are_removed(tmp_path: Path, ledger: Ledger) -> None:
    arriving = tmp_path / "inbox" / "arriving"
    arriving.mkdir(parents=True)
    (arriving / "dead.part").write_bytes(b"half")
    with StorageScp(LOOPBACK, 0, "LISTEN", tmp_path / "inbox", ledger.record, 0.1):
        assert not inbox_files(tmp_path)


def test_echo_from_dcmtk(scp: StorageScp) -> None:
    command = [program("echoscu"), "-aec", "LISTEN", LOOPBACK, str(scp.port)]
    assert subprocess.run(command, capture_output=True, timeout=30).returncode == 0


def test_an_unknown_called_ae_is_rejected_for_good(scp: StorageScp) -> None:
    with pytest.raises(StopRun, match="wrong-called-ae"):
        associate(scp.port, called="OTHER")


def test_contexts_are_chosen_by_service_and_in_the_senders_order(scp: StorageScp) -> None:
    private, compressed = "1.2.826.0.1.3680043.2.1.1", "1.2.840.10008.1.2.4.90"
    proposed = (
        PresentationContext(1, private, (compressed, EXPLICIT_LITTLE)),
        PresentationContext(3, FIND, (EXPLICIT_LITTLE,)),
        PresentationContext(5, VERIFICATION, (compressed, EXPLICIT_LITTLE)),
        PresentationContext(7, VERIFICATION, (compressed,)),
    )
    with associate(scp.port, *proposed) as association:
        agreed = {number: context.transfer_syntaxes for number, context in association.contexts.items()}
    assert agreed == {1: (compressed,), 5: (EXPLICIT_VR_LITTLE_ENDIAN,)}


def test_other_requests_get_an_answer(scp: StorageScp) -> None:
    with associate(scp.port) as association:
        context = association.accepted(DX_IMAGE_STORAGE)
        association.send(context, Command(C_FIND_RQ, 3, 0, FIND))
        message = association.receive()
        assert message is not None
        assert message.command.status == 0x0211


def test_health_checks_noise_and_idlers_leave_nothing_behind(scp: StorageScp, film: Path) -> None:
    before = threading.active_count()
    for _ in range(80):
        with socket.create_connection((LOOPBACK, scp.port)):
            pass
    for noise in (
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(6),
        b"\x01\x00\xff\xff\xff\xff",
        b"\x01\x00\x00\x00\x00\x02ab",
    ):
        with socket.create_connection((LOOPBACK, scp.port)) as connection, suppress(ConnectionResetError):
            connection.sendall(noise)
            connection.settimeout(10)
            while connection.recv(4096):
                pass
    until(lambda: threading.active_count() <= before)
    assert send(scp, dataset_of(film), radiograph_header("scp").sop_instance_uid) == 0


def test_closing_ends_open_associations_and_frees_the_port(tmp_path: Path, ledger: Ledger) -> None:
    before = threading.active_count()
    with StorageScp(LOOPBACK, 0, "LISTEN", tmp_path / "inbox", ledger.record, 0.1) as scp:
        port, association = scp.port, associate(scp.port)
    assert threading.active_count() == before
    with pytest.raises(RetryLater):
        association.receive()
    association.abort()
    with StorageScp(LOOPBACK, port, "LISTEN", tmp_path / "inbox", ledger.record, 0.1):
        pass


def test_a_taken_port_is_a_configuration_error(tmp_path: Path, ledger: Ledger) -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        scp = StorageScp(LOOPBACK, other.getsockname()[1], "LISTEN", tmp_path / "inbox", ledger.record, 0.1)
        with pytest.raises(ConfigurationError, match="port-in-use"):
            scp.__enter__()


def test_many_senders_at_once(scp: StorageScp, ledger: Ledger, tmp_path: Path) -> None:
    program("storescu")  # a thread cannot skip the test
    films = [
        write_chest(
            tmp_path / f"{n}.dcm", radiograph_header(f"many-{n % 3}", instance=n), pixels=chest_pixels(64, 64)
        )
        for n in range(1, 13)
    ]
    threads = [threading.Thread(target=store, args=(peer(scp), *films[n::4])) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(held.sha256 for held, _ in ledger.rows) == sorted(map(content_digest, films))
    assert len(inbox_files(tmp_path)) == 12
