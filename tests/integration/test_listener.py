"""``firstread listen`` as a process, under an archive that stalls, a database that is away, folders that are full."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from pipeline.archive.dimse.association import Association
from pipeline.archive.dimse.command import C_STORE_RQ, Command
from pipeline.archive.dimse.pdu import Associate, PresentationContext
from pipeline.archive.instance_file import lenience_of
from pipeline.dicom_writer import DX_IMAGE_STORAGE, EXPLICIT_LITTLE
from pipeline.store.connections import libpq_url
from pipeline.store.store import Store
from tests.contract import test_lenient_ways as ways
from tests.faulty_dicomweb import Faults, faulty_dicomweb
from tests.servers import LOOPBACK, Peer, free_port, program, store
from tests.sites import environment, firstread, rows, running, until, write_site
from tests.storage_scu import dataset_of
from tests.synthetic import chest_pixels, radiograph_header, write_chest

NOWHERE = {"api_url": "http://127.0.0.1:9/api"}
HEARD_WITHIN = 20.0
"""Seconds: less than senders wait (dcmtk 30 and more) and than what stands still here (60), more than a busy machine
needs to start a program."""


def films(folder: Path, count: int) -> list[Path]:
    return [
        write_chest(
            folder / f"{number}.dcm", radiograph_header(f"listener-{number}"), pixels=chest_pixels(64, 64)
        )
        for number in range(count)
    ]


@contextmanager
def listening(config: Path, port: int, **options: object) -> Iterator["subprocess.Popen[bytes]"]:
    folder = config.parent
    command = [str(Path(sys.executable).with_name("firstread")), "listen", "--config", str(config)]
    log = folder / "listen.log"
    with running(command, log, cwd=folder, env=environment(), **options) as process:
        until(lambda: "listening as" in log.read_text() or process.poll() is not None, "the listener's start")
        yield process


def echo_seconds(port: int) -> float:
    begun = time.monotonic()
    command = [program("echoscu"), "-to", "30", "-aec", "FIRSTREAD", LOOPBACK, str(port)]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    return time.monotonic() - begun


def send(port: int, film: Path, uid: str) -> int | None:
    """C-STORE one film; gives the status."""
    return send_data_set(port, dataset_of(film), uid, EXPLICIT_LITTLE)


def send_data_set(port: int, dataset: bytes, uid: str, syntax: str) -> int | None:
    proposal = Associate("FIRSTREAD", "SCU", (PresentationContext(1, DX_IMAGE_STORAGE, (syntax,)),))
    with Association.request((LOOPBACK, port), proposal, connect_timeout=5, stall_timeout=30) as association:
        request = Command(C_STORE_RQ, 1, 0, DX_IMAGE_STORAGE, uid, has_data_set=True)
        association.send(association.accepted(DX_IMAGE_STORAGE), request, dataset)
        message = association.receive()
        assert message is not None
        return message.command.status


def test_every_form_of_a_film_is_pushed(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of leniency on the listener: kept with the digest and the remark of a folder, or refused as there."""
    port = free_port()
    (tmp_path / "none").mkdir()
    config = write_site(
        tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path / "none")}},
        listen={"port": port, "quiet_seconds": 0.5, "min_free_gib": 0.0}, prefect=NOWHERE,
    )  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(listening(config, port))
        inbox = stack.enter_context(Store(database_url)).inbox
        for number, (name, form) in enumerate(ways.FORMS.items()):
            header = radiograph_header(f"pushed-form-{number}")
            monkeypatch.setattr(ways, "HEADER", header)
            path = ways.film(tmp_path / "films" / f"{number}.dcm", form.syntax)
            whole = path.read_bytes()
            changed = form.dataset(whole[ways.start_of(whole) :])
            named = form.named if form.named == ways.OTHER else header.sop_instance_uid
            status = send_data_set(port, changed, named, form.syntax)
            kept = inbox.instances("main", header.study_instance_uid)
            if not form.held:
                assert (status, kept) == (0xC000, ()), name
                continue
            assert status == 0, name
            ((one,), (known,)) = kept, ways.plainly(path, changed, tmp_path / "folder" / str(number))
            assert one.sha256 == known.sha256, name
            told = () if form.expected in ("", *ways.FILE_ALONE) else (form.expected,)
            assert lenience_of(one.path) == told, name


class Proxy:
    """A way to the database that can be cut: nothing passes, and nobody is told."""

    def __init__(self, url: str) -> None:
        found = psycopg.conninfo.conninfo_to_dict(libpq_url(url))
        self._address = (str(found["host"]), int(str(found["port"])))
        self._listener = socket.create_server((LOOPBACK, 0))
        port = self._listener.getsockname()[1]
        self.url = url.replace(f"{found['host']}:{found['port']}", f"{LOOPBACK}:{port}")
        assert str(port) in self.url
        self.passing = threading.Event()
        self.passing.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                inner = self._listener.accept()[0]
                outer = socket.create_connection(self._address)
                for one, other in ((inner, outer), (outer, inner)):
                    threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError), one, other:
            while data := one.recv(65536):
                self.passing.wait()
                other.sendall(data)

    def close(self) -> None:
        self.passing.set()
        self._listener.close()


def test_a_stalled_archive_keeps_neither_senders_nor_the_stop_waiting(
    database_url: str, tmp_path: Path
) -> None:
    port, sent = free_port(), films(tmp_path, 7)
    with faulty_dicomweb(sent, Faults(stalls=True)) as pacs:
        config = write_site(
            tmp_path, database_url, {"main": {"kind": "dicomweb", "url": pacs.url, "stall_timeout": 60.0}},
            listen={"port": port, "quiet_seconds": 0.5, "min_free_gib": 0.0}, prefect=NOWHERE,
        )  # fmt: skip
        with listening(config, port) as process:
            store(Peer("FIRSTREAD", port), *sent[:6])
            until(lambda: len(pacs.requests) >= 6, "questions about every study")
            assert echo_seconds(port) < HEARD_WITHIN
            begun = time.monotonic()
            store(Peer("FIRSTREAD", port), sent[6])
            assert time.monotonic() - begun < HEARD_WITHIN
            health = json.loads((tmp_path / "data" / "listener.json").read_text())
            assert health["hears"] is True
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            assert time.monotonic() - begun < HEARD_WITHIN
        assert not (tmp_path / "data" / "listener.json").exists()


def test_a_database_that_does_not_answer_is_said_before_a_sender_gives_up(
    database_url: str, tmp_path: Path
) -> None:
    port, (film, other) = free_port(), films(tmp_path, 2)
    (tmp_path / "archive").mkdir()
    proxy = Proxy(database_url)
    config = write_site(
        tmp_path, proxy.url, {"main": {"kind": "folder", "path": str(tmp_path / "archive")}},
        listen={"port": port, "quiet_seconds": 60.0, "min_free_gib": 0.0}, prefect=NOWHERE,
    )  # fmt: skip
    uid, other_uid = (radiograph_header(f"listener-{number}").sop_instance_uid for number in range(2))
    try:
        with listening(config, port) as process:
            assert send(port, film, uid) == 0
            proxy.passing.clear()
            for _ in range(2):
                begun = time.monotonic()
                assert send(port, other, other_uid) == 0xA700
                assert time.monotonic() - begun < HEARD_WITHIN
                assert echo_seconds(port) < HEARD_WITHIN
            proxy.passing.set()
            until(lambda: send(port, other, other_uid) == 0, "the database's return", 30)
            assert len(rows(database_url, "SELECT FROM firstread.instance")) == 2
            proxy.passing.clear()
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            assert time.monotonic() - begun < HEARD_WITHIN
    finally:
        proxy.close()


def test_the_listener_holds_no_model(database_url: str, tmp_path: Path) -> None:
    port, sent = free_port(), films(tmp_path, 1)
    (tmp_path / "archive").mkdir()
    config = write_site(
        tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path / "archive")}},
        listen={"port": port, "quiet_seconds": 0.2, "min_free_gib": 0.0}, prefect=NOWHERE,
    )  # fmt: skip
    with listening(config, port) as process:
        store(Peer("FIRSTREAD", port), *sent)
        until(lambda: bool(rows(database_url, "SELECT FROM firstread.ledger")), "the hand-over")
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert "libtorch" not in maps
        assert "onnxruntime" not in maps


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system at ``folder``."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("no mount is allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_an_inbox_that_cannot_be_written_is_told_to_sender_and_log(database_url: str, tmp_path: Path) -> None:
    port, (film,) = free_port(), films(tmp_path, 1)
    uid = radiograph_header("listener-0").sop_instance_uid
    (tmp_path / "archive").mkdir()
    config = write_site(
        tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path / "archive")}},
        listen={"port": port, "quiet_seconds": 60.0, "min_free_gib": 0.0}, prefect=NOWHERE,
    )  # fmt: skip
    inbox = tmp_path / "data" / "inbox"
    with mounted(inbox, "size=64k,mode=700"):
        with listening(config, port):
            (inbox / "fill").write_bytes(bytes(60 << 10))
            assert send(port, film, uid) == 0xA700
            assert echo_seconds(port) < HEARD_WITHIN
            (inbox / "fill").unlink()
            subprocess.run(["mount", "-o", "remount,ro", str(inbox)], check=True)
            assert send(port, film, uid) == 0xA700
            subprocess.run(["mount", "-o", "remount,rw", str(inbox)], check=True)
            assert not list(inbox.rglob("*.part"))
            assert send(port, film, uid) == 0
        subprocess.run(["mount", "-o", "remount,ro", str(inbox)], check=True)
        done = firstread("listen", "--config", str(config), cwd=tmp_path)
        assert done.returncode == 3
        assert "Traceback" not in done.stderr
        assert f"the inbox {inbox}" in done.stderr
        assert "read-only" in done.stderr
    log = (tmp_path / "listen.log").read_text()
    assert "No space left" in log
    assert f"the inbox {inbox} cannot be written: it is mounted read-only" in log
    assert uid not in log


def _traceable() -> bool:
    """Whether strace is here and may trace a process of ours."""
    try:
        return subprocess.run(["strace", "-e", "trace=none", "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not _traceable(), reason="strace is not here, or may not trace")
def test_a_quota_that_is_used_up_is_told_to_sender_and_log(database_url: str, tmp_path: Path) -> None:
    """EDQUOT, put by strace in the place of what the kernel answers to fsync, as file servers do it.

    By write, the log cannot be written either: tried by hand, the same but for that.
    """
    port, (film,) = free_port(), films(tmp_path, 1)
    (tmp_path / "archive").mkdir()
    config = write_site(
        tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path / "archive")}},
        listen={"port": port, "quiet_seconds": 60.0, "min_free_gib": 0.0}, prefect=NOWHERE,
    )  # fmt: skip
    uid = radiograph_header("listener-0").sop_instance_uid
    inbox, log, trace = tmp_path / "data" / "inbox", tmp_path / "listen.log", tmp_path / "trace"
    with listening(config, port) as process:
        quota = [
            "strace",
            "-f",
            "-p",
            str(process.pid),
            "-o",
            str(trace),
            "-e",
            "inject=fsync:error=EDQUOT",
        ]
        with running(quota, tmp_path / "strace.log"):
            until(lambda: "attach" in (tmp_path / "strace.log").read_text(), "the quota")
            assert send(port, film, uid) == 0xA700
            assert echo_seconds(port) < HEARD_WITHIN
        assert "EDQUOT" in trace.read_text()
        assert rows(database_url, "SELECT FROM firstread.instance") == []
        assert [path for path in inbox.rglob("*") if path.is_file()] == [], "nothing half-written"
        until(lambda: send(port, film, uid) == 0, "the end of the quota", 30)
    assert len(rows(database_url, "SELECT FROM firstread.instance")) == 1
    assert "Traceback" not in log.read_text()
    assert "the quota of this account is used up" in log.read_text()


@pytest.mark.parametrize("command", ["listen", "run"])
@pytest.mark.parametrize(("options", "said"), [("ro", "read-only"), ("size=4k,nr_inodes=1", "disk is full")])
def test_a_data_folder_that_cannot_be_written_is_one_line(
    database_url: str, tmp_path: Path, command: str, options: str, said: str
) -> None:
    (tmp_path / "archive").mkdir()
    config = write_site(
        tmp_path, database_url, {"main": {"kind": "folder", "path": str(tmp_path / "archive")}},
        listen={"port": free_port(), "min_free_gib": 0.0},
    )  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(mounted(tmp_path / "data", f"{options},mode=700"))
        done = firstread(command, "--config", str(config), cwd=tmp_path)
    assert done.returncode in (2, 3)
    (line,) = [one for one in done.stderr.splitlines() if "firstread:" in one]
    assert str(tmp_path / "data") in line
    assert said in line
    assert "Traceback" not in done.stderr
