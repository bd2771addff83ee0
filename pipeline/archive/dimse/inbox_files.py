"""The files of the inbox: several at a time are forced to the disk, given their names, and their folders forced too."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.archive.part10 import dataset_digest
from pipeline.archive.spool import moved
from pipeline.errors import RetryLater
from pipeline.study import HeldInstance

SYNCED_TOGETHER = 1 << 20
"""Bytes up to which a file is forced to the disk with others; a larger one by whoever received it, beside them."""
_TRIES = 3


class OtherBytesError(Exception):
    """There is an instance with this UID already, and it has other bytes."""


class InboxFiles:
    """``folder/<Study Instance UID>/<SOP Instance UID>.dcm``; used by one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, found: Sequence[HeldInstance]) -> list[HeldInstance | Exception]:
        """Each instance durable under its final name, or why it is not: OtherBytesError, OSError or RetryLater."""
        outcomes: list[HeldInstance | Exception] = []
        made, touched = False, dict[Path, None]()
        for one in found:
            try:
                if one.size <= SYNCED_TOGETHER:
                    _sync(one.path)
                placed, new = self._place(one)
            except (OSError, OtherBytesError, RetryLater) as error:
                outcomes.append(error)
                continue
            made = made or new
            touched[placed.path.parent] = None
            outcomes.append(placed)
        failed = _unsynced([*touched, *([self._folder] if made else [])])
        if self._folder in failed:
            return [failed[self._folder]] * len(found)
        return [
            failed.get(one.path.parent, one) if isinstance(one, HeldInstance) else one for one in outcomes
        ]

    def _place(self, found: HeldInstance) -> tuple[HeldInstance, bool]:
        """The instance under its final name, and whether its folder is new."""
        folder = self._folder / found.ref.study_instance_uid
        path = folder / f"{found.ref.sop_instance_uid}.dcm"
        for _ in range(_TRIES):
            new = _made(folder)
            if path.exists():
                if dataset_digest(path) != found.sha256:
                    raise OtherBytesError
                return moved(found, path), new
            try:
                found.path.replace(path)
            except FileNotFoundError:
                if not found.path.exists():
                    raise  # nobody waits for it any more
                continue  # the folder was empty, and whoever removed the files of its study has removed it
            return moved(found, path), new
        raise RetryLater("inbox-busy", "the folder of a study is being removed; send the instance again")


def begin_writing(path: Path) -> None:
    """Have the system begin to write the file, so that whoever forces it to the disk waits less."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _unsynced(folders: Iterable[Path]) -> dict[Path, Exception]:
    """Force the folders to the disk; gives those where it failed."""
    failed: dict[Path, Exception] = {}
    for folder in folders:
        try:
            _sync(folder)
        except OSError as error:
            failed[folder] = error
    return failed


def _made(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
