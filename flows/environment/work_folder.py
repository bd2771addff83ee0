"""The folder in which studies lie while they are worked on, and no longer.

Each process has its own, held by a lock that the kernel drops when the process dies; whoever comes next removes the
folders that nobody holds, so that a killed run leaves no patient data on disk.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.folders import make_writable, writing

_LOCK = ".held"
_WHAT = "the work folder"
_MOMENT_SECONDS = 60.0


@contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """A private folder under ``parent`` for the length of the block; removed after it, with all it holds.

    Raises StopRun where ``parent`` cannot be written.
    """
    make_writable(_WHAT, parent)
    with writing(_WHAT, parent):
        _remove_abandoned(parent)
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
        descriptor = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob("run-*"):
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except (
            FileNotFoundError
        ):  # being made or being removed at this moment, or by one who was killed at it
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > _MOMENT_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)
