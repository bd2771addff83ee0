"""The Storage SCP under peers that hold, promise or leave: it goes on hearing. Real sockets, real limits."""

import errno
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pipeline.archive.dimse import pdu
from pipeline.archive.dimse.association import Association
from pipeline.archive.dimse.caller import LONGEST_REQUEST, Sender
from pipeline.archive.dimse.caller_places import CallerPlaces
from pipeline.archive.dimse.command import C_ECHO_RQ, C_FIND_RQ, C_STORE_RQ, Command
from pipeline.archive.dimse.negotiation import TRANSFER_SYNTAXES, VERIFICATION
from pipeline.archive.dimse.pdu import (
    COMMAND,
    LONGEST_PDU,
    Associate,
    PresentationContext,
    Rejection,
    data_pdus,
)
from pipeline.archive.dimse.receiving import SUCCESS
from pipeline.archive.dimse.store_server import StoreServer
from pipeline.archive.instance_file import DiskLimits, PartFile
from pipeline.archive.part10 import IMPLICIT_VR_LITTLE_ENDIAN
from pipeline.dicom_writer import DX_IMAGE_STORAGE, EXPLICIT_LITTLE
from pipeline.errors import RetryLater, StopRun
from pipeline.images.codecs import supported
from tests.servers import LOOPBACK, program
from tests.storage_scu import until

ROOT = Path(__file__).parents[2]
HEARD_WITHIN = 8.0
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
MPEG, PRIVATE = "1.2.840.10008.1.2.4.100", "1.2.840.113619.5.2"

LISTENER = """
import sys, threading
from pathlib import Path
from pipeline.archive.dimse.storage_scp import StorageScp
with StorageScp("127.0.0.1", 0, "LISTEN", Path(sys.argv[1]), lambda *_: None, 0.0) as scp:
    print(scp.port, flush=True)
    sys.stdin.readline()
"""


class Desk:
    """Takes everything, and may be held up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.go_on = threading.Event()
        self.go_on.set()

    def open(self, command: Command) -> PartFile:
        return PartFile(self.folder, DiskLimits(0.0, 1e-3))

    def close(self, part: PartFile, command: Command, sender: Sender) -> int:
        self.go_on.wait(20)
        return SUCCESS

    def refused(self, sender: Sender, code: str) -> None:
        """Nobody is told."""


@contextmanager
def server(
    folder: Path, places: CallerPlaces | None = None, stall_timeout: float = 60.0
) -> Iterator[StoreServer]:
    with StoreServer(LOOPBACK, 0, "LISTEN", Desk(folder), stall_timeout, places=places) as running:
        yield running


@contextmanager
def listener_process(folder: Path, limit: int, most: int) -> Iterator[int]:
    """A Storage SCP in a process of its own with a limit; gives its port."""
    command = [sys.executable, "-c", LISTENER, str(folder)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: resource.setrlimit(limit, (most, most)),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.communicate("\n", timeout=20)
        assert process.returncode == 0


def associate(port: int, calling: str = "TESTSCU") -> Association:
    contexts = (
        PresentationContext(1, VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,)),
        PresentationContext(3, DX_IMAGE_STORAGE, (EXPLICIT_LITTLE,)),
    )
    proposal = Associate("LISTEN", calling, contexts)
    return Association.request((LOOPBACK, port), proposal, connect_timeout=5, stall_timeout=5)


def echoes(association: Association) -> bool:
    association.send(association.accepted(VERIFICATION), Command(C_ECHO_RQ, 1, sop_class_uid=VERIFICATION))
    message = association.receive()
    return message is not None and message.command.status == 0


def echo_seconds(port: int, calling: str = "ECHOSCU") -> float:
    """How long dcmtk's echoscu waits for its answer."""
    begun = time.monotonic()
    command = [
        program("echoscu"),
        "-to",
        "10",
        "-ta",
        "10",
        "-aet",
        calling,
        "-aec",
        "LISTEN",
        LOOPBACK,
        str(port),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - begun


def resident_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024


def test_it_hears_through_more_connections_than_it_has_descriptors(tmp_path: Path) -> None:
    with listener_process(tmp_path, resource.RLIMIT_NOFILE, 100) as port, ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(socket.create_connection((LOOPBACK, port), timeout=2))
        assert echo_seconds(port) < HEARD_WITHIN
        stack.close()
        assert echo_seconds(port) < HEARD_WITHIN


@pytest.mark.parametrize(
    "number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ECONNABORTED, errno.EPROTO]
)
def test_a_failing_accept_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failing, accept = threading.Event(), socket.socket.accept

    def faulty(listener: socket.socket) -> tuple[socket.socket, object]:
        if failing.is_set():
            raise OSError(number, "as told")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", faulty)
    with server(tmp_path) as running:
        failing.set()
        if number != errno.ECONNABORTED:  # that one is over with the next connection
            with socket.create_connection((LOOPBACK, running.port)):
                until(lambda: running.hearing().deaf_since is not None)
        failing.clear()
        assert echo_seconds(running.port) < HEARD_WITHIN
        assert running.hearing().deaf_since is None


def test_without_a_further_thread_it_answers_with_those_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(tmp_path) as running, ExitStack() as stack:

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        for _ in range(20):
            assert echoes(stack.enter_context(associate(running.port)))
        assert echo_seconds(running.port) < HEARD_WITHIN


def test_idle_associations_make_place_for_who_has_something_to_say(tmp_path: Path) -> None:
    with server(tmp_path) as running:
        idle = [associate(running.port, f"IDLE{number % 2}") for number in range(64)]
        assert echo_seconds(running.port) < HEARD_WITHIN
        assert running.hearing().associations <= 64
        with pytest.raises(RetryLater, match=r"archive-(aborted|closed)"):
            idle[0].receive()
        for one in idle:
            one.abort()


def test_one_calling_title_leaves_places_for_others(tmp_path: Path) -> None:
    places = CallerPlaces(associations=8, patience_seconds=0.1, idle_seconds=30.0)
    with server(tmp_path, places) as running, ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(associate(running.port, "GREEDY"))
        with pytest.raises(RetryLater, match="archive-busy"):
            associate(running.port, "GREEDY")
        assert echo_seconds(running.port, "OTHER") < HEARD_WITHIN


def test_who_waits_for_our_answer_is_not_sent_away(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    places = CallerPlaces(associations=1, idle_seconds=0.0, patience_seconds=0.2)
    with StoreServer(LOOPBACK, 0, "LISTEN", desk, 60, places=places) as running:
        desk.go_on.clear()
        with associate(running.port) as waiting:
            request = Command(C_STORE_RQ, 1, 0, DX_IMAGE_STORAGE, "1.2.3", has_data_set=True)
            waiting.send(waiting.accepted(DX_IMAGE_STORAGE), request, bytes(100))
            time.sleep(0.3)
            with pytest.raises(RetryLater, match="archive-busy"):
                associate(running.port, "OTHER")
            desk.go_on.set()
            message = waiting.receive()
            assert message is not None
            assert message.command.status == SUCCESS


def test_silent_connections_end_soon_and_those_of_known_addresses_later(tmp_path: Path) -> None:
    places = CallerPlaces(request_seconds=0.5, known_seconds=30.0)
    with server(tmp_path, places) as running:
        with socket.create_connection((LOOPBACK, running.port), timeout=5) as silent:
            silent.sendall(b"\x01")
            assert silent.recv(1) == b""
        with associate(running.port) as association:
            assert echoes(association)
        with (
            socket.create_connection((LOOPBACK, running.port), timeout=1) as silent,
            pytest.raises(TimeoutError),
        ):
            silent.recv(1)


def test_a_message_that_trickles_gives_its_place_to_others(tmp_path: Path) -> None:
    with server(tmp_path, CallerPlaces(associations=1)) as running:
        slow = associate(running.port)
        context = slow.accepted(DX_IMAGE_STORAGE)
        request = Command(C_STORE_RQ, 1, 0, DX_IMAGE_STORAGE, "1.2.3", has_data_set=True)
        slow._send_all(data_pdus(context.context_id, request.encode(), COMMAND, LONGEST_PDU))
        stop = threading.Event()

        def trickle() -> None:
            piece = struct.pack(">IBB", 3, context.context_id, 0) + b"x"
            try:
                while not stop.wait(0.1):
                    slow._send_all(pdu.pdu(pdu.P_DATA_TF, piece))
            except RetryLater:
                pass  # sent away, as expected

        thread = threading.Thread(target=trickle)
        thread.start()
        time.sleep(2.5)
        try:
            assert echo_seconds(running.port, "OTHER") < HEARD_WITHIN
        finally:
            stop.set()
            thread.join()
            slow.abort()


def test_what_a_head_promises_is_not_allocated(tmp_path: Path) -> None:
    with server(tmp_path) as running, ExitStack() as stack:
        before = resident_mb()
        for length in (LONGEST_REQUEST, 1 << 24, 0xFFFFFFFF):
            for _ in range(20):
                peer = stack.enter_context(socket.create_connection((LOOPBACK, running.port), timeout=5))
                peer.sendall(struct.pack(">BxI", pdu.ASSOCIATE_RQ, length))
        associated = [stack.enter_context(associate(running.port)) for _ in range(20)]
        for one in associated:
            one._send_all(struct.pack(">BxI", pdu.P_DATA_TF, pdu.LONGEST_PDU))
        time.sleep(1)
        assert resident_mb() - before < 8
        with associate(running.port) as association:
            association._send_all(struct.pack(">BxI", pdu.P_DATA_TF, 1 << 20))
            with pytest.raises(RetryLater):
                association.receive()
        for one in associated:
            one.abort()


def test_an_identifier_of_another_service_is_read_and_dropped(tmp_path: Path) -> None:
    with server(tmp_path) as running, associate(running.port) as association:
        sent, resident = b"\1" * (16 << 20), []
        for number in range(5):
            find = Command(C_FIND_RQ, number, 0, FIND, has_data_set=True)
            association.send(association.accepted(DX_IMAGE_STORAGE), find, sent)
            message = association.receive()
            assert message is not None
            assert message.command.status == 0x0211
            resident.append(resident_mb())
        assert not list(tmp_path.iterdir())
        assert (
            resident[-1] - resident[0] < 40
        )  # four that were kept would take 64; the sender's copies are here, too


def test_the_largest_real_request_is_taken(tmp_path: Path) -> None:
    classes = [f"1.2.840.10008.5.1.4.1.1.{number}" for number in range(128)]
    contexts = tuple(
        PresentationContext(2 * number + 1, uid, (*TRANSFER_SYNTAXES, *TRANSFER_SYNTAXES))
        for number, uid in enumerate(classes)
    )
    with server(tmp_path) as running:
        proposal = Associate("LISTEN", "LARGE", contexts)
        with Association.request(
            (LOOPBACK, running.port), proposal, connect_timeout=5, stall_timeout=5
        ) as association:
            assert len(association.contexts) == 128


@pytest.mark.parametrize(
    ("proposed", "taken"),
    [
        ((PRIVATE, IMPLICIT_VR_LITTLE_ENDIAN), IMPLICIT_VR_LITTLE_ENDIAN),
        ((MPEG, EXPLICIT_LITTLE), EXPLICIT_LITTLE),
        (("1.2.840.10008.1.2.4.90", EXPLICIT_LITTLE), "1.2.840.10008.1.2.4.90"),
        ((MPEG,), MPEG),
    ],
)
def test_a_syntax_that_can_be_decoded_is_taken_where_one_is_offered(
    tmp_path: Path, proposed: tuple[str, ...], taken: str
) -> None:
    with server(tmp_path) as running:
        proposal = Associate("LISTEN", "SCU", (PresentationContext(1, DX_IMAGE_STORAGE, proposed),))
        with Association.request(
            (LOOPBACK, running.port), proposal, connect_timeout=5, stall_timeout=5
        ) as association:
            assert association.accepted(DX_IMAGE_STORAGE).transfer_syntaxes == (taken,)


def test_what_is_taken_for_readable_can_be_decoded() -> None:
    assert all(map(supported, TRANSFER_SYNTAXES))


def test_a_sender_that_is_not_listed_is_refused_and_told_of(tmp_path: Path) -> None:
    told: list[tuple[Sender, str]] = []
    with StoreServer(
        LOOPBACK, 0, "LISTEN", Desk(tmp_path), 60,
        allows=lambda sender: sender.calling == "CT1", refused=lambda sender, why: told.append((sender, why)),
    ) as running:  # fmt: skip
        assert echo_seconds(running.port, "CT1") < HEARD_WITHIN
        with pytest.raises(StopRun, match="calling-ae-refused"):
            associate(running.port, "EVIL")
        assert told == [(Sender("EVIL", LOOPBACK), "calling-ae")]
        assert running.hearing().refused == 1


def test_rejections_reach_their_peer(tmp_path: Path) -> None:
    request = Associate("OTHER", "SCU", (PresentationContext(1, VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,)),))
    with server(tmp_path) as running, socket.create_connection((LOOPBACK, running.port), timeout=5) as peer:
        peer.sendall(pdu.associate_rq(request))
        assert peer.recv(10, socket.MSG_WAITALL) == pdu.associate_rj(Rejection(1, 1, 7))
