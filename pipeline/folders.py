"""Folders that we have to write: what is wrong with one is said in one line, with what it is for and where it lies.

What lies in them is of patients: they belong to this account, and no other may write in them.
"""

import errno
import os
import pwd
import resource
import stat
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


def write_for_this_account() -> None:
    """What this process and those that it starts write from now on is this account's alone, and no core is written of
    them: their memory holds patients' data.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


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

    Raises StopRun("folder-not-writable"), or as ``keep_private`` where it is not this account's alone.
    """
    with writing(what, folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keep_private(what, folder)
    with writing(what, folder):
        probe = folder / f".{uuid.uuid4().hex}.probe"
        try:
            probe.write_bytes(b"firstread")
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)


def keep_private(what: str, folder: Path) -> None:
    """Where ``folder`` is there already, see that it and what lies in it is this account's alone.

    Of rights that others have, reading is taken away. Raises StopRun("folder-of-another") where the folder or an entry
    belongs to another account, or where others may write in it: what they put there would lead our writing elsewhere.
    """
    try:
        status = folder.stat()
        _refuse_shared(what, folder, status)
        with os.scandir(folder) as entries:
            for entry in entries:
                _refuse_shared(what, Path(entry.path), entry.stat(follow_symlinks=False))
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise cannot_write(what, folder, error) from None
    except PermissionError:
        raise _of_another(what, folder, "it belongs to another user") from None
    if status.st_mode & 0o066:
        folder.chmod(status.st_mode & ~0o066 & 0o7777)


def open_private(path: str, flags: int) -> int:
    """A file for this account alone, not through a link; an ``opener`` of ``open``. Raises OSError."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _refuse_shared(what: str, path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise _of_another(what, path, f"it belongs to {_account(status.st_uid)}")
    if stat.S_ISDIR(status.st_mode) and (
        status.st_mode & 0o002 or (status.st_mode & 0o020 and status.st_gid != _own_group())
    ):
        raise _of_another(what, path, f"other accounts may write there (chmod go-w {path})")


def _of_another(what: str, path: Path, why: str) -> StopRun:
    return StopRun(
        "folder-of-another",
        f"{what} {path} is not this account's alone: {why}. Use a folder of {_account(os.geteuid())}'s own, made by it",
    )


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _own_group() -> int:
    """The group that is this account's own, as most systems give one to each account; -1 where it is shared."""
    try:
        account = pwd.getpwuid(os.geteuid())
    except KeyError:
        return -1
    return account.pw_gid if account.pw_gid == account.pw_uid else -1
