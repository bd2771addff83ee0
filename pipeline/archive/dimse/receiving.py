"""Taking one C-STORE: the raw data set goes to a part file behind a file meta group of our own, never
decoded.

Shared by the Storage SCP and by C-GET, where stores arrive on the association that asked for them.
"""

import logging
from typing import Protocol

from pipeline.archive.dimse.caller import Sender
from pipeline.archive.dimse.command import C_STORE_RSP, Command
from pipeline.archive.dimse.pdu import PresentationContext
from pipeline.archive.file_meta import file_header
from pipeline.archive.instance_file import PartFile
from pipeline.archive.uids import is_uid
from pipeline.errors import FirstreadError, RetryLater

log = logging.getLogger(__name__)

# C-STORE response status (PS3.4 table B.2-1, PS3.7 C.5)
SUCCESS = 0x0000
DUPLICATE = 0x0111
NOT_AUTHORIZED = 0x0124
OUT_OF_RESOURCES = 0xA700
CANNOT_UNDERSTAND = 0xC000

_MOST_REFUSED_BYTES = 1 << 30


class ReceivePolicy(Protocol):
    """Who decides about an incoming instance; called from the thread of its association."""

    def open(self, command: Command) -> PartFile | int:
        """A part file to write to, or the status to refuse with."""
        ...

    def close(self, part: PartFile, command: Command, sender: Sender) -> int:
        """The status to answer with, once every byte is written. The part file is discarded afterwards."""
        ...

    def refused(self, sender: Sender, code: str) -> None:
        """Told why an instance is refused, where ``open`` and ``close`` did not say so themselves. Must not block."""
        ...


class Ignored:
    """The sink of a data set that nobody reads."""

    def write(self, piece: memoryview) -> None:
        """Drop it."""


class StoreSink:
    """The sink of one C-STORE's data set.

    A refused one is read to its end, so that the association lives on; one without end ends the association.
    """

    def __init__(
        self, desk: ReceivePolicy, context: PresentationContext, command: Command, sender: Sender
    ) -> None:
        self._desk = desk
        self._command = command
        self._sender = sender
        self._refused_bytes = 0
        self._part: PartFile | None = None
        self._status = CANNOT_UNDERSTAND
        if not is_uid(command.sop_instance_uid) or not is_uid(command.sop_class_uid):
            desk.refused(sender, "missing-uid")
            return
        try:
            opened = desk.open(command)
            if isinstance(opened, int):
                self._status = opened
            else:
                self._part = opened
                header = file_header(
                    command.sop_class_uid, command.sop_instance_uid, context.transfer_syntaxes[0]
                )
                opened.write(header)
        except (FirstreadError, OSError) as error:
            self._refuse(error)

    def write(self, piece: memoryview) -> None:
        """Take the next bytes of the data set. Raises RetryLater when too many came of one that is refused."""
        if self._part is None or self._part.too_large:
            self._refused_bytes += len(piece)
            if self._refused_bytes > _MOST_REFUSED_BYTES:
                raise RetryLater("peer-without-end", "an instance that is refused does not end")
        if self._part is not None:
            try:
                self._part.write(piece)
            except (FirstreadError, OSError) as error:
                self._refuse(error)

    def answer(self) -> Command:
        """The C-STORE response. Call it once, when the data set is whole."""
        part, self._part = self._part, None
        if part is not None:
            with part:
                try:
                    self._status = self._desk.close(part, self._command, self._sender)
                except (FirstreadError, OSError) as error:
                    self._refuse(error)
        return Command(
            C_STORE_RSP,
            responded_to=self._command.message_id,
            sop_class_uid=self._command.sop_class_uid,
            sop_instance_uid=self._command.sop_instance_uid,
            status=self._status,
        )

    def discard(self) -> None:
        """Remove what was received of an instance that did not end."""
        if self._part is not None:
            self._part.discard()
            self._part = None

    def _refuse(self, error: FirstreadError | OSError) -> None:
        if isinstance(error, OSError):  # its text may hold a path, and that a UID
            log.warning(
                "an instance is refused: it cannot be written (%s)", error.strerror or type(error).__name__
            )
        else:
            log.warning("an instance is refused: %s", error)
        self._desk.refused(self._sender, error.code if isinstance(error, FirstreadError) else "cannot-write")
        self._status = OUT_OF_RESOURCES
        self.discard()
