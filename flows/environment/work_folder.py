"""The folder in which studies lie while they are worked on, and no longer.

Each process has its own, held by a lock that the kernel drops when the process dies; whoever comes next removes the
folders that nobody holds, so that a killed run leaves no patient data on disk.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.folders import make_writable, writing

_LOCK = ".held"
_WHAT = "the work folder"


@contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """A private folder under ``parent`` for the length of the block; removed after it, with all it holds.

    Raises StopRun where ``parent`` cannot be written.
    """
    make_writable(_WHAT, parent)
    with writing(_WHAT, parent):
        _remove_abandoned(parent)
        with _locked(parent, fcntl.LOCK_SH):
            folder = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
            descriptor = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


@contextmanager
def _locked(parent: Path, how: int) -> Iterator[bool]:
    """Lock the folder of the folders: shared while one is made, else nobody's; False where it is not had at once."""
    descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        had = True
        try:
            fcntl.flock(descriptor, how)
        except BlockingIOError:
            had = False
        yield had
    finally:
        os.close(descriptor)


def _remove_abandoned(parent: Path) -> None:
    with _locked(parent, fcntl.LOCK_EX | fcntl.LOCK_NB) as nobody_makes_one:
        for folder in parent.glob("run-*"):
            try:
                descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:  # of one who was killed while it made it or removed it, or does so now
                if nobody_makes_one:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                pass
            finally:
                os.close(descriptor)
