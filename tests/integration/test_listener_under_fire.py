"""``firstread listen`` while many send: killed in the middle, crowded by idle callers, given an object of 192 MiB."""

import os
import signal
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest

from pipeline.archive.content_digest import content_digest
from pipeline.archive.dimse.association import Association
from pipeline.archive.dimse.pdu import Associate, PresentationContext
from pipeline.dicom_writer import DX_IMAGE_STORAGE, EXPLICIT_LITTLE
from pipeline.errors import FirstreadError
from tests.chaos.programs import family
from tests.chaos.world import data_set_sha256
from tests.integration.test_listener import HEARD_WITHIN, echo_seconds, listening, send
from tests.servers import LOOPBACK, free_port
from tests.sites import rows, write_site
from tests.synthetic import chest_pixels, radiograph_header, write_chest

SENDERS, FILMS, KILLS = 6, 25, 4
IDLERS = 60
SIDE = 9600


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> tuple[Path, int]:
    """A configuration and the port of its listener; its archive has nothing, so what is received stays."""
    port = free_port()
    (tmp_path / "archive").mkdir()
    archives = {"main": {"kind": "folder", "path": str(tmp_path / "archive")}}
    listen = {"port": port, "quiet_seconds": 60.0, "min_free_gib": 0.0}
    return write_site(tmp_path, database_url, archives, listen=listen), port


def test_killed_again_and_again_while_many_send_it_keeps_all_that_it_acknowledged(
    site: tuple[Path, int], database_url: str, tmp_path: Path
) -> None:
    config, port = site
    acknowledged: list[tuple[str, str, str]] = []

    def send_on(number: int) -> None:
        for film in range(FILMS):
            header = radiograph_header(f"fire-{number}-{film // 5}", instance=film)
            path = write_chest(tmp_path / f"{number}-{film}.dcm", header, pixels=chest_pixels(64, 64))
            while True:
                try:
                    if send(port, path, header.sop_instance_uid) == 0:
                        break
                except (FirstreadError, OSError, AssertionError):
                    time.sleep(0.05)
            acknowledged.append((header.sop_instance_uid, content_digest(path), data_set_sha256(path)))

    senders = [threading.Thread(target=send_on, args=(number,)) for number in range(SENDERS)]
    killed_at = []
    for turn in range(KILLS + 1):
        with listening(config, port) as process:
            if not turn:
                for one in senders:
                    one.start()
            if turn == KILLS:
                for one in senders:
                    one.join(200)
                break
            target = len(acknowledged) + FILMS // 3
            while len(acknowledged) < target:
                time.sleep(0.002)
            killed_at.append(len(acknowledged))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    assert not any(one.is_alive() for one in senders)
    assert killed_at[-1] < SENDERS * FILMS, "it was killed while they sent"
    assert len(set(acknowledged)) == SENDERS * FILMS
    held = rows(database_url, "SELECT sop_instance_uid, sha256, path, conflict FROM firstread.instance")
    assert {(sop, digest, data_set_sha256(Path(path))) for sop, digest, path, _ in held} == set(acknowledged)
    assert len(held) == SENDERS * FILMS
    assert not any(conflict for *_, conflict in held)
    inbox = tmp_path / "data" / "inbox"
    assert len(list(inbox.rglob("*.dcm"))) == len(held)
    assert not list(inbox.rglob("*.part"))
    log = (tmp_path / "listen.log").read_text()
    assert "Traceback" not in log
    assert not [sop for sop, *_ in acknowledged if sop in log]


def test_sixty_idle_associations_at_once_keep_nobody_out(site: tuple[Path, int], tmp_path: Path) -> None:
    config, port = site
    film = write_chest(tmp_path / "film.dcm", radiograph_header("idle"), pixels=chest_pixels(64, 64))
    proposal = Associate(
        "FIRSTREAD", "IDLER", (PresentationContext(1, DX_IMAGE_STORAGE, (EXPLICIT_LITTLE,)),)
    )
    with listening(config, port) as process, ExitStack() as held:
        open_files = len(os.listdir(f"/proc/{process.pid}/fd"))
        for _ in range(IDLERS):
            with suppress(FirstreadError):  # refused, or another idle one has left for it: both are answers
                held.enter_context(
                    Association.request((LOOPBACK, port), proposal, connect_timeout=5, stall_timeout=10)
                )
        begun = time.monotonic()
        assert send(port, film, radiograph_header("idle").sop_instance_uid) == 0
        assert time.monotonic() - begun < HEARD_WITHIN
        assert echo_seconds(port) < HEARD_WITHIN
        held.close()
        deadline = time.monotonic() + 20
        while len(os.listdir(f"/proc/{process.pid}/fd")) > open_files + 8:
            assert time.monotonic() < deadline, "places of callers who are gone are not given back"
            time.sleep(0.1)


def test_a_large_object_goes_through_in_pieces(
    site: tuple[Path, int], database_url: str, tmp_path: Path
) -> None:
    config, port = site
    header = radiograph_header("large")
    film = write_chest(tmp_path / "large.dcm", header, pixels=np.zeros((SIDE, SIDE), np.uint16))
    size = film.stat().st_size
    with listening(config, port) as process:
        before = _peak(process.pid)
        assert send(port, film, header.sop_instance_uid) == 0
        grown = _peak(process.pid) - before
    assert size > 175 << 20
    assert grown < 32 << 20, f"{grown >> 20} MiB for an object of {size >> 20} MiB"
    ((path,),) = rows(database_url, "SELECT path FROM firstread.instance")
    assert data_set_sha256(Path(path)) == data_set_sha256(film)


def _peak(pid: int) -> int:
    """The most bytes that were resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) << 10


def test_killed_while_it_asks_for_the_recipe_it_leaves_no_process_and_says_nothing(
    site: tuple[Path, int], database_url: str, tmp_path: Path
) -> None:
    config, port = site
    config.write_text(config.read_text().replace("quiet_seconds = 60.0", "quiet_seconds = 0.1"))
    header = radiograph_header("recipe")
    film = write_chest(tmp_path / "film.dcm", header, pixels=chest_pixels(64, 64))
    for known in (tmp_path / "data").glob("*recipe*"):
        known.unlink()
    with listening(config, port) as process:
        assert send(port, film, header.sop_instance_uid) == 0
        deadline = time.monotonic() + 60
        while not (children := family(process.pid)[1:]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert echo_seconds(port) < HEARD_WITHIN, "whoever opens the model keeps no sender waiting"
        time.sleep(
            0.3
        )  # Python's own start of a child says so where its parent goes before it was told what to do
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 10
    while any(
        Path(f"/proc/{pid}/maps").exists() and Path(f"/proc/{pid}/maps").read_bytes() for pid in children
    ):
        assert time.monotonic() < deadline, "a child lives on"
        time.sleep(0.05)
    assert "Traceback" not in (tmp_path / "listen.log").read_text()
