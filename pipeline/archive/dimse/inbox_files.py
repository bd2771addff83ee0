"""The files of the inbox: an instance that is whole gets its name there, and the folder is forced to the disk."""

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pipeline.archive.content_digest import content_digest
from pipeline.archive.spool import moved
from pipeline.study import HeldInstance


class OtherBytesError(Exception):
    """There is an instance with this UID already, and it has other bytes."""


class InboxFiles:
    """``folder/<Study Instance UID>/<SOP Instance UID>.dcm``; used by the threads of all senders.

    An instance is placed by the thread of its sender; the folders of several are forced to the disk together.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._placing = threading.Lock()
        self._new: dict[str, object] = {}
        """Folders of studies that may not be on the disk yet; each making of one has a mark of its own."""

    def place(self, found: HeldInstance) -> HeldInstance:
        """The instance under its final name, which ``force`` makes durable. Its bytes are on the disk already.

        Raises OtherBytesError, OSError; FileNotFoundError while the files of its study are being removed.
        """
        folder = os.path.join(self._folder, found.ref.study_instance_uid)
        path = f"{folder}/{found.ref.sop_instance_uid}.dcm"
        if not self._placed(str(found.path), path, folder) and content_digest(Path(path)) != found.sha256:
            raise OtherBytesError
        return moved(found, Path(path))

    def force(self, placed: Iterable[HeldInstance]) -> None:
        """Force the names of what was placed to the disk, each folder once. Raises as ``place``."""
        folders = {os.path.join(self._folder, one.ref.study_instance_uid) for one in placed}
        made = {folder: mark for folder in folders if (mark := self._new.get(folder))}
        if made:
            _sync(str(self._folder))
            with self._placing:
                for folder, mark in made.items():
                    if self._new.get(folder) is mark:  # not removed and made again meanwhile
                        del self._new[folder]
        for folder in folders:
            _sync(folder)

    def _placed(self, source: str, path: str, folder: str) -> bool:
        """Give the file its final name; False where another one has it."""
        with self._placing:
            if os.path.lexists(path):
                return False
            try:
                os.rename(source, path)
            except FileNotFoundError:
                with suppress(FileExistsError):  # the file is gone, or another process was faster
                    os.mkdir(folder, 0o700)
                self._new[folder] = object()
                os.rename(source, path)
            return True


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
