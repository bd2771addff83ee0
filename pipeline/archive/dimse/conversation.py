"""The messages of one association with our Storage SCP, one after another: C-STORE to a desk, C-ECHO, nothing else."""

import logging
from collections.abc import Callable

from pipeline.archive.dimse.association import Association
from pipeline.archive.dimse.caller import Caller
from pipeline.archive.dimse.command import C_ECHO_RQ, C_ECHO_RSP, C_STORE_RQ, Command
from pipeline.archive.dimse.negotiation import VERIFICATION
from pipeline.archive.dimse.pdu import PresentationContext
from pipeline.archive.dimse.receiving import Ignored, ReceivePolicy, StoreSink
from pipeline.errors import FirstreadError

log = logging.getLogger(__name__)

_UNRECOGNIZED_OPERATION = 0x0211


def converse(desk: ReceivePolicy, caller: Caller, goes_on: Callable[[Association], bool]) -> None:
    """Answer the messages of one caller while it ``goes_on``; the association of one that is only silent stays open.

    Whatever else ends the messages, release or fault, ends the association.
    """
    association = caller.association
    assert association is not None
    conversation, silent = Conversation(association, desk, caller), False
    try:
        while not silent and conversation.answer_one():
            silent = not goes_on(association)
            if not silent:
                caller.begins()
    except FirstreadError as error:
        log.info("an association with the Storage SCP ended early: %s", error.code)
    except OSError as error:
        log.info("an association with the Storage SCP ended early: %s", type(error).__name__)
    finally:
        if not silent:
            association.abort()


class Conversation:
    """Answers one message at a time."""

    def __init__(self, association: Association, desk: ReceivePolicy, caller: Caller) -> None:
        self._association = association
        self._desk = desk
        self._caller = caller
        self._sink: StoreSink | None = None

    def answer_one(self) -> bool:
        """Take one message and answer it; False where the peer released instead.

        Raises RetryLater where the peer stalls, aborts or breaks the protocol; nothing of its message is kept then.
        """
        try:
            message = self._association.receive(self._sink_for)
            if message is None:
                return False
            self._caller.answering = True
            self._association.send(message.context, self._answer(message.command))
            self._caller.answering = False
            return True
        finally:
            if self._sink is not None:
                self._sink.discard()
                self._sink = None

    def _sink_for(self, context: PresentationContext, command: Command) -> StoreSink | Ignored:
        if command.field != C_STORE_RQ:
            return Ignored()
        self._sink = StoreSink(self._desk, context, command, self._caller.sender)
        return self._sink

    def _answer(self, command: Command) -> Command:
        if command.field == C_STORE_RQ and self._sink is not None:
            return self._sink.answer()
        if command.field == C_ECHO_RQ:
            return Command(C_ECHO_RSP, responded_to=command.message_id, sop_class_uid=VERIFICATION, status=0)
        return Command(
            command.field | 0x8000, responded_to=command.message_id, status=_UNRECOGNIZED_OPERATION
        )
