"""The Storage SCP of ``firstread listen``: what it answers with Success is on the disk and in the ledger.

Each instance goes to a temporary file, is forced to the disk, renamed, and its folder forced too; then
``on_instance`` writes the ledger row; only then the sender gets Success (PS3.4 annex B).
"""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.archive.dimse.command import Command
from pipeline.archive.dimse.receiving import CANNOT_UNDERSTAND, DUPLICATE, OUT_OF_RESOURCES, SUCCESS
from pipeline.archive.dimse.store_server import StoreServer
from pipeline.archive.part10 import Fault, dataset_digest
from pipeline.archive.spool import PART_SUFFIX, DiskLimits, PartFile, moved
from pipeline.errors import FirstreadError
from pipeline.study import HeldInstance

log = logging.getLogger(__name__)

OnInstance = Callable[[HeldInstance, str], None]


class StorageScp:
    """Listens while its context lasts; ``port`` is the port really taken (port 0 asks for a free one).

    Files are kept as ``folder/<Study Instance UID>/<SOP Instance UID>.dcm``. ``on_instance`` is called from
    the threads of the associations with the instance and the calling AE title, also when the same instance
    comes again (the acknowledgement may have been lost): it must be idempotent. When it raises, the sender
    gets 0xA700, keeps the instance and may send it again; the file stays. A second instance with the same UID
    and other bytes is refused with 0x0111 and the first one kept. Below ``min_free_gib`` everything is
    refused with 0xA700.
    """

    def __init__(
        self,
        host: str,
        port: int,
        ae_title: str,
        folder: Path,
        on_instance: OnInstance,
        min_free_gib: float,
        *,
        max_instance_gib: float = 4.0,
        stall_timeout: float = 60.0,
    ) -> None:
        limits = DiskLimits(min_free_gib, max_instance_gib)
        self._inbox = _Inbox(folder, on_instance, limits)
        self._server = StoreServer(host, port, ae_title, self._inbox, stall_timeout)

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._server.port

    def __enter__(self) -> Self:
        self._inbox.prepare()
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()


class _Inbox:
    """The desk of the Storage SCP."""

    def __init__(self, folder: Path, on_instance: OnInstance, limits: DiskLimits) -> None:
        self._folder = folder
        self._arriving = folder / "arriving"
        self._on_instance = on_instance
        self._limits = limits
        self._placing = threading.Lock()

    def prepare(self) -> None:
        """Create the folders and remove what a killed predecessor had not acknowledged."""
        self._arriving.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._arriving.glob(f"*{PART_SUFFIX}"):
            path.unlink(missing_ok=True)

    def open(self, command: Command) -> PartFile | int:
        """See ``Desk.open``."""
        self._limits.check(self._arriving)
        return PartFile(self._arriving, self._limits)

    def close(self, part: PartFile, command: Command, calling: str) -> int:
        """See ``Desk.close``."""
        found = part.finish(durable=True)
        if isinstance(found, Fault):
            log.warning("an instance is refused: %s (%s)", found.message, found.code)
            return OUT_OF_RESOURCES if found.code == "too-large" else CANNOT_UNDERSTAND
        if found.ref.sop_instance_uid != command.sop_instance_uid:
            log.warning(
                "an instance is refused: its data set names another SOP Instance UID than the request"
            )
            return CANNOT_UNDERSTAND
        held = self._place(found)
        if held is None:
            log.warning("an instance is refused: its UID is held already with other bytes")
            return DUPLICATE
        try:
            self._on_instance(held, calling)
        except FirstreadError as error:
            log.warning("an instance is on disk and could not be recorded: %s", error)
            return OUT_OF_RESOURCES
        except Exception as error:  # noqa: BLE001 - whatever it was, the sender must not be told Success
            log.error("an instance is on disk and could not be recorded: %s", type(error).__name__)
            return OUT_OF_RESOURCES
        return SUCCESS

    def _place(self, found: HeldInstance) -> HeldInstance | None:
        """The instance under its final name, durable; None where other bytes are there already."""
        folder = self._folder / found.ref.study_instance_uid
        path = folder / f"{found.ref.sop_instance_uid}.dcm"
        with self._placing:
            if path.exists():
                return moved(found, path) if dataset_digest(path) == found.sha256 else None
            if not folder.exists():
                folder.mkdir(mode=0o700, parents=True)
                _sync_folder(self._folder)
            found.path.replace(path)
        _sync_folder(folder)
        return moved(found, path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
