"""A decoder that dies, hangs or wants too much memory ends its own process; the next film is decoded all the same."""

import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread

from pipeline.errors import FailStudy
from pipeline.images import decoder_process, prepare
from pipeline.images.decode import declared_pixels, stored_values
from pipeline.images.headers import read_header
from pipeline.images.limits import ImageLimits
from pipeline.study import AnnouncedInstance, FetchedStudy
from tests.deadly_decoder import alive, deadly, frame_of, pixels, seen, told, write_study
from tests.sites import until
from tests.synthetic import held

ROOT = Path(__file__).resolve().parents[2]
LIMITS = ImageLimits()
KILL = "os.kill(os.getpid(), signal.{})"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    decoder_process._POOL.close()
    yield
    decoder_process._POOL.close()


def decoded(path: Path) -> npt.NDArray[np.integer]:
    header = read_header(path, LIMITS)
    return stored_values(header, declared_pixels(header, LIMITS), 0, LIMITS)


def poisoned(monkeypatch: pytest.MonkeyPatch, folder: Path, deed: str) -> Path:
    """A film whose decoding does ``deed``."""
    film = write_study(folder, 0)
    for name, value in deadly(folder / "hook", frame_of(film), deed).items():
        monkeypatch.setenv(name, value)
    return film


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGBUS", "SIGABRT", "SIGKILL"])
def test_a_decoder_that_dies_takes_one_film(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    film = poisoned(monkeypatch, tmp_path, KILL.format(name))
    with pytest.raises(FailStudy, match=name) as caught:
        decoded(film)
    assert caught.value.code == "decoder-died"
    assert len(seen(tmp_path / "hook")) == (2 if name == "SIGKILL" else 1), (
        "only what came from outside is tried again"
    )
    np.testing.assert_array_equal(decoded(write_study(tmp_path, 1)), pixels(51))
    assert not any(alive(one) for one in seen(tmp_path / "hook"))


def test_processes_are_used_again(tmp_path: Path) -> None:
    film = write_study(tmp_path, 1)
    decoded(film)
    (first,) = decoder_process._POOL._idle
    decoded(film)
    assert decoder_process._POOL._idle == [first]


@pytest.mark.parametrize("deed", ["time.sleep(60)", "while True: pass"])
def test_a_decoder_that_hangs_has_a_deadline(
    deed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    film = poisoned(monkeypatch, tmp_path, deed)
    monkeypatch.setattr(decoder_process, "DECODE_SECONDS", 2.0)
    with pytest.raises(FailStudy) as caught:
        decoded(film)
    assert caught.value.code == "decoder-slow"
    assert not any(alive(one) for one in seen(tmp_path / "hook"))
    monkeypatch.setattr(decoder_process, "DECODE_SECONDS", 60.0)
    decoded(write_study(tmp_path, 1))


def test_a_decoder_is_not_given_all_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    film = poisoned(monkeypatch, tmp_path, "import numpy; numpy.zeros(1 << 33, 'u1')")
    with pytest.raises(FailStudy) as caught:
        decoded(film)
    assert caught.value.code == "undecodable"
    (process,) = seen(tmp_path / "hook")
    assert alive(process), "it was told that there is none, and goes on"


def test_signals_to_the_group_are_not_the_decoders(tmp_path: Path) -> None:
    film = write_study(tmp_path, 1)
    decoded(film)
    (one,) = decoder_process._POOL._idle
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(one._process.pid, number)
    decoded(film)
    assert decoder_process._POOL._idle == [one]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_decoder_outlives_its_parent(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    film = poisoned(monkeypatch, tmp_path, "while True: pass")
    program = (
        "import pathlib, sys, tests.unit.test_decoder_process as t; t.decoded(pathlib.Path(sys.argv[1]))"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(film)], cwd=ROOT, stderr=subprocess.DEVNULL)
    with parent:
        until(lambda: bool(seen(tmp_path / "hook")), "the decoder at work", 60.0)
        parent.send_signal(number)
    (process,) = seen(tmp_path / "hook")
    until(lambda: not alive(process), "the end of the decoder", 30.0)


def test_a_study_keeps_its_other_films(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    film = poisoned(monkeypatch, tmp_path, KILL.format("SIGSEGV"))
    with pytest.raises(FailStudy) as caught:
        prepare(fetched(film))
    assert caught.value.code == "decoder-died"
    _, image_set = prepare(fetched(film, write_study(tmp_path, 0, instance=2)))
    assert len(image_set.images) == 1
    assert [one.code for one in image_set.left_out] == ["decoder-died"]


def fetched(*films: Path) -> FetchedStudy:
    instances = tuple(held(film) for film in films)
    announced = tuple(AnnouncedInstance(one.ref, one.sop_class_uid) for one in instances)
    return FetchedStudy(instances[0].ref.study_instance_uid, announced, instances, (), films[0].parent)


def test_a_frame_that_needs_more_memory_than_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(decoder_process, "MOST_KEPT", 1000)
    film = write_study(tmp_path, 1)
    np.testing.assert_array_equal(decoded(film), pixels(51))
    assert decoder_process._POOL._idle == []


TRIES = """
import resource, socket
def refused(what, *arguments):
    try:
        what(*arguments)
    except OSError:
        return True
    return False
given = sorted(name for name in os.environ if "SECRET" in name.upper() or name.startswith("FIRSTREAD"))
tries = [refused(open, secret), refused(open, os.path.dirname(secret) + "/new", "w"), refused(os.kill, os.getppid(), 0),
    refused(socket.create_connection, ("127.0.0.1", port), 5), refused(open, f"/proc/{os.getppid()}/environ")]
print(given, tries, resource.getrlimit(resource.RLIMIT_CORE), file=noted)
"""


@pytest.mark.skipif(
    ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) < 6,
    reason="this kernel has no Landlock of version 6",
)
def test_a_decoder_that_obeys_a_frame_reaches_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Code of its own choice in the decoder: no file, no network, no other process, no secret, no core."""
    secret = tmp_path / "secret"
    secret.write_text("of the site")
    monkeypatch.setenv("FIRSTREAD_SERVE__TOKEN", "a-secret-of-the-site")
    monkeypatch.setenv("A_SECRET_OF_ANOTHER", "another")
    with socket.create_server(("127.0.0.1", 0)) as server:
        known = {"secret": str(secret), "port": server.getsockname()[1]}
        deed = f"exec({TRIES!r}, {{'os': os, 'noted': noted, **{known!r}}})"
        decoded(poisoned(monkeypatch, tmp_path, deed))
    assert told(tmp_path / "hook").strip() == "[] [True, True, True, True, True] (0, 0)"


BOMB = 60_000


def test_a_bomb_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    """7.2 GB by the header, and 7.2 GB by the frame under a modest header: neither is given to a decoder."""
    film = write_study(tmp_path, 1)
    dataset = dcmread(film)
    dataset.Rows = dataset.Columns = BOMB
    dataset.save_as(film)
    tracemalloc.start()
    with pytest.raises(FailStudy) as caught:
        decoded(film)
    assert caught.value.code == "too-large"
    film = write_study(tmp_path, 1)
    at = film.read_bytes().index(
        b"\xff\xf7"
    )  # SOF55: length, precision, lines, samples per line (ISO/IEC 14495-1 C.2.2)
    content = bytearray(film.read_bytes())
    content[at + 5 : at + 9] = struct.pack(">HH", BOMB, BOMB)
    film.write_bytes(content)
    with pytest.raises(FailStudy) as caught:
        decoded(film)
    assert caught.value.code == "codestream-mismatch"
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    assert decoder_process._POOL._idle == [], "no decoder was asked"


def test_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    film = write_study(tmp_path, 1)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(Exception, match="decoder-busy"):
        decoded(film)
