"""The files of the inbox: several at a time are given their names, and their folders are forced to the disk."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.archive.part10 import dataset_digest
from pipeline.archive.spool import moved
from pipeline.errors import RetryLater
from pipeline.study import HeldInstance

_TRIES = 3


class OtherBytesError(Exception):
    """There is an instance with this UID already, and it has other bytes."""


class InboxFiles:
    """``folder/<Study Instance UID>/<SOP Instance UID>.dcm``; used by one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, found: Sequence[HeldInstance]) -> list[HeldInstance | Exception]:
        """Each instance durable under its final name, or why it is not: OtherBytesError, OSError or RetryLater.

        Its bytes are on the disk already: its receiver forced them there, beside the receivers of others.
        """
        outcomes: list[HeldInstance | Exception] = []
        made, touched = False, dict[Path, None]()
        for one in found:
            try:
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
