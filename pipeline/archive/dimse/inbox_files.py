"""The files of the inbox: several at a time are given their names, and their folders are forced to the disk."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.archive.content_digest import content_digest
from pipeline.archive.spool import moved
from pipeline.errors import RetryLater
from pipeline.study import HeldInstance

_TRIES = 3
_SYNCS_AT_ONCE = 8


class OtherBytesError(Exception):
    """There is an instance with this UID already, and it has other bytes."""


class InboxFiles:
    """``folder/<Study Instance UID>/<SOP Instance UID>.dcm``; used by one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(_SYNCS_AT_ONCE, thread_name_prefix="inbox-syncs")

    def close(self) -> None:
        """End the threads that force folders to the disk."""
        self._pool.shutdown(wait=True)

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
        failed = self._unsynced([*touched, *([self._folder] if made else [])])
        if self._folder in failed:
            return [failed[self._folder]] * len(found)
        return [
            failed.get(one.path.parent, one) if isinstance(one, HeldInstance) else one for one in outcomes
        ]

    def _unsynced(self, folders: Sequence[Path]) -> dict[Path, Exception]:
        """Force the folders to the disk, at the same time: the disk is waited for once. Gives those where it failed."""
        outcomes: list[OSError | None]
        try:
            outcomes = list(self._pool.map(_sync_error, folders)) if len(folders) > 1 else []
        except RuntimeError:  # no thread can be started
            outcomes = []
        outcomes = outcomes or [_sync_error(one) for one in folders]
        return {path: error for path, error in zip(folders, outcomes, strict=True) if error is not None}

    def _place(self, found: HeldInstance) -> tuple[HeldInstance, bool]:
        """The instance under its final name, and whether its folder is new."""
        folder = self._folder / found.ref.study_instance_uid
        path = folder / f"{found.ref.sop_instance_uid}.dcm"
        for _ in range(_TRIES):
            new = _made(folder)
            if path.exists():
                if content_digest(path) != found.sha256:
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


def _sync_error(path: Path) -> OSError | None:
    try:
        _sync(path)
    except OSError as error:
        return error
    return None


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
