"""The files of the inbox: an instance that is whole gets its name there; then the folder is forced to the disk."""

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pipeline.archive.content_digest import content_digest
from pipeline.archive.instance_file import moved
from pipeline.errors import RetryLater
from pipeline.study import HeldInstance

_TRIES = 3


class OtherBytesError(Exception):
    """There is an instance with this UID already, and it has other bytes."""


class Placed(NamedTuple):
    """An instance in the inbox, and whether it is our file that has the name, or the same bytes were there before."""

    held: HeldInstance
    renamed: bool


class InboxFiles:
    """``folder/<Study Instance UID>/<SOP Instance UID>.dcm``; used by the threads of all senders.

    They force the disk at the same time, so the file system writes its journal once for several of them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._placing = threading.Lock()
        self._new: dict[str, object] = {}
        """Folders of studies that may not be on the disk yet; each making of one has a mark of its own."""

    def place(self, found: HeldInstance) -> Placed:
        """Give the instance its final name, which is not durable before ``force``; its bytes are on the disk already.

        Raises OtherBytesError, OSError, or RetryLater while the files of its study are being removed.
        """
        folder = os.path.join(self._folder, found.ref.study_instance_uid)
        path = f"{folder}/{found.ref.sop_instance_uid}.dcm"
        for _ in range(_TRIES):
            with suppress(FileNotFoundError):
                renamed = self._renamed(str(found.path), path, folder)
                if not renamed and content_digest(Path(path)) != found.sha256:
                    raise OtherBytesError
                return Placed(moved(found, Path(path)), renamed)
            found.path.stat()  # raises where nobody waits for it any more
        raise busy()

    def force(self, held: HeldInstance) -> None:
        """Return when the name that ``place`` gave is on the disk.

        Raises OSError, or RetryLater where the files of its study were removed meanwhile.
        """
        folder = os.path.dirname(held.path)
        try:
            if made := self._new.get(folder):
                _sync(str(self._folder))
                with self._placing:
                    if self._new.get(folder) is made:  # not removed and made again meanwhile
                        del self._new[folder]
            _sync(folder)
        except FileNotFoundError:
            raise busy() from None

    def _renamed(self, source: str, path: str, folder: str) -> bool:
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


def busy() -> RetryLater:
    """What is answered while the files of a study are being removed."""
    return RetryLater("inbox-busy", "the folder of a study is being removed; send the instance again")


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
