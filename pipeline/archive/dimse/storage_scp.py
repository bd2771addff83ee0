"""The Storage SCP of ``firstread listen``: what it answers with Success is on the disk and in the ledger.

Each instance goes to a temporary file, is forced to the disk and renamed; then its folder is forced too while
``record`` writes the ledger row; only when both are done the sender gets Success (PS3.4 annex B). A power cut between
may leave a row whose file has no name: nobody was told Success, and the instance that comes again heals it. What
several senders sent at the same time takes these steps together: the disk is waited for once a step, not once an
instance.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.archive.dimse.caller import Sender
from pipeline.archive.dimse.command import Command
from pipeline.archive.dimse.committing import Arrival, GroupCommit, Record, said
from pipeline.archive.dimse.inbox_files import (
    InboxFiles,
    OtherBytesError,
    busy,
)
from pipeline.archive.dimse.receiving import CANNOT_UNDERSTAND, DUPLICATE, OUT_OF_RESOURCES, SUCCESS
from pipeline.archive.dimse.store_server import Hearing, StoreServer
from pipeline.archive.instance_file import PART_SUFFIX, DiskLimits, PartFile
from pipeline.archive.part10 import Fault
from pipeline.errors import FirstreadError
from pipeline.folders import cannot_write, make_writable, writing

log = logging.getLogger(__name__)

_INBOX = "the inbox"
_CLOSE_SECONDS = 2.0


class StorageScp:
    """Listens while its context lasts; ``port`` is the port really taken (port 0 asks for a free one).

    Files are kept as ``folder/<Study Instance UID>/<SOP Instance UID>.dcm``. ``record`` is called, from two threads,
    with the instances that came since its last call and who sent each, also when the same instance comes again (the
    acknowledgement may have been lost): it must be idempotent. When it raises, or takes longer than ``record_seconds``,
    the sender gets 0xA700, keeps the instance and may send it again; the file stays. A second instance with the same
    UID and other bytes is refused with 0x0111 and the first one kept. Below ``min_free_gib``, and where the folder
    cannot be written, everything is refused with 0xA700. ``allows``: see ``StoreServer``; ``refused`` is told of
    senders and of instances that were refused, and why, and must not block.
    """

    def __init__(
        self,
        host: str,
        port: int,
        ae_title: str,
        folder: Path,
        record: Record,
        min_free_gib: float,
        *,
        max_instance_gib: float = 4.0,
        stall_timeout: float = 60.0,
        record_seconds: float = 5.0,
        allows: Callable[[Sender], bool] = lambda _: True,
        refused: Callable[[Sender, str], None] = lambda *_: None,
    ) -> None:
        limits = DiskLimits(min_free_gib, max_instance_gib)
        self._files = InboxFiles(folder)
        self._commits = GroupCommit(record, record_seconds)
        self._inbox = _Inbox(folder, self._files, self._commits, limits, refused)
        self._server = StoreServer(
            host, port, ae_title, self._inbox, stall_timeout, allows=allows, refused=refused
        )

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._server.port

    def hearing(self) -> Hearing:
        """How well it hears now."""
        return self._server.hearing()

    @property
    def recording(self) -> str:
        """ "ok", or "away" while the database does not answer in time."""
        return "away" if self._commits.late else "ok"

    def __enter__(self) -> Self:
        """Raises StopRun where the folder cannot be written, ConfigurationError where the port is taken."""
        self._inbox.prepare()
        self._server.start()
        self._commits.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self._commits.close(_CLOSE_SECONDS)


class _Inbox:
    """The desk of the Storage SCP."""

    def __init__(
        self,
        folder: Path,
        files: InboxFiles,
        commits: GroupCommit,
        limits: DiskLimits,
        refused: Callable[[Sender, str], None],
    ) -> None:
        self._folder = folder
        self._files = files
        self._arriving = folder / "arriving"
        self._commits = commits
        self._limits = limits
        self._refused = refused

    def prepare(self) -> None:
        """Create the folders and remove what a killed predecessor had not acknowledged."""
        make_writable(_INBOX, self._folder)
        make_writable(_INBOX, self._arriving)
        with writing(_INBOX, self._folder):
            for path in self._arriving.glob(f"*{PART_SUFFIX}"):
                path.unlink(missing_ok=True)

    def open(self, command: Command) -> PartFile | int:
        """See ``ReceivePolicy.open``."""
        with writing(_INBOX, self._folder):
            return PartFile(self._arriving, self._limits)

    def close(self, part: PartFile, command: Command, sender: Sender) -> int:
        """See ``ReceivePolicy.close``."""
        with writing(_INBOX, self._folder):
            found = part.finish(durable=True)
            if isinstance(found, Fault):
                log.warning("an instance is refused: %s (%s)", found.message, found.code)
                self._refused(sender, found.code)
                return OUT_OF_RESOURCES if found.code == "too-large" else CANNOT_UNDERSTAND
        try:
            held, renamed = self._files.place(found)
            if renamed:
                part.named()
            recording = self._commits.give(Arrival(held, sender))
            self._files.force(held)
            self._commits.wait(recording)
            if not renamed and not held.path.exists():
                raise busy()  # the same bytes lay there, and a stored outcome let go of them in this moment
        except OtherBytesError:
            log.warning("an instance is refused: its UID is held already with other bytes")
            self._refused(sender, "other-bytes")
            return DUPLICATE
        except OSError as error:
            raise cannot_write(_INBOX, self._folder, error) from None
        except Exception as error:  # noqa: BLE001 - whatever it was, the sender must not be told Success
            log.warning("an instance could not be recorded: %s", said(error))
            self._refused(sender, error.code if isinstance(error, FirstreadError) else "not-recorded")
            return OUT_OF_RESOURCES
        return SUCCESS

    def refused(self, sender: Sender, code: str) -> None:
        """See ``ReceivePolicy.refused``."""
        self._refused(sender, code)
