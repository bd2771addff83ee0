"""Folders that we have to write: what is wrong with one is said in one line, with what it is for and where it lies."""

import errno
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import StopRun

_ADVICE = {
    errno.EROFS: "it is mounted read-only; mount it for writing, or choose another place",
    errno.ENOSPC: "the disk is full; free some",
    errno.EDQUOT: "the quota of this account is used up; free some disk, or raise it",
    errno.EACCES: "this account has no right to write there; give it the right, or choose another place",
    errno.EPERM: "this account has no right to write there; give it the right, or choose another place",
    errno.ENOTDIR: "a part of this path is a file; choose another place",
    errno.EEXIST: "there is a file of this name; choose another place",
    errno.EMFILE: "this process has no file descriptor left; raise ulimit -n",
}


@contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Whatever OSError is raised in the block means that ``folder``, which is ``what``, cannot be written.

    Raises StopRun("folder-not-writable") for it. Name a folder whose path holds no UID of a patient's.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(what, folder, error) from None


def cannot_write(what: str, folder: Path, error: OSError) -> StopRun:
    """What to raise where ``folder`` could not be written."""
    advice = _ADVICE.get(error.errno or 0, f"{error.strerror or type(error).__name__}; choose another place")
    return StopRun("folder-not-writable", f"{what} {folder} cannot be written: {advice}")


def make_writable(what: str, folder: Path) -> None:
    """Create ``folder``, for this account alone, and prove that a file can be written in it.

    Raises StopRun("folder-not-writable").
    """
    with writing(what, folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = folder / f".{uuid.uuid4().hex}.probe"
        try:
            probe.write_bytes(b"firstread")
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
