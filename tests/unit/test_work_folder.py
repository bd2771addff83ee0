"""A study's files live only while it is worked on, even when the process is killed."""

import fcntl
import multiprocessing
import os
import signal
from multiprocessing.synchronize import Event
from pathlib import Path

from flows.environment.work_folder import work_folder


def _hold(parent: Path, ready: Event) -> None:
    with work_folder(parent) as folder:
        (folder / "study").mkdir()
        (folder / "study" / "instance.dcm").write_bytes(b"patient")
        ready.set()
        signal.pause()


def test_the_folder_is_private_and_goes_with_the_block(tmp_path: Path) -> None:
    with work_folder(tmp_path / "work") as folder:
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "instance.dcm").write_bytes(b"patient")
    assert not folder.exists()


def test_a_killed_process_leaves_nothing_for_long(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(30)
    assert process.pid is not None
    with work_folder(tmp_path):
        assert list(tmp_path.rglob("instance.dcm")), "a living process keeps its folder"
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with work_folder(tmp_path):
        assert not list(tmp_path.rglob("instance.dcm"))


def test_a_folder_whose_maker_was_killed_before_it_was_held_goes_too(tmp_path: Path) -> None:
    left = tmp_path / "run-left"
    left.mkdir()
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)  # as somebody who makes one
    with work_folder(tmp_path):
        assert left.exists(), "it may be made at this moment"
    os.close(descriptor)
    with work_folder(tmp_path):
        assert not left.exists()
