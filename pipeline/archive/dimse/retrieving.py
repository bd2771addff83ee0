"""Bringing instances by C-MOVE to our own Storage SCP, or by C-GET on one association."""

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Protocol

from pipeline.archive.dimse import statuses
from pipeline.archive.dimse.association import Association, DimseMessage
from pipeline.archive.dimse.caller import Sender
from pipeline.archive.dimse.command import C_GET_RQ, C_MOVE_RQ, C_STORE_RQ, Command, encode_identifier
from pipeline.archive.dimse.information_model import (
    GET,
    INSTANCE,
    LEVEL,
    MOVE,
    PATIENT,
    SERIES,
    STUDY,
    chosen,
    needs_patient,
)
from pipeline.archive.dimse.pdu import PresentationContext
from pipeline.archive.dimse.proposals import associate, get_proposals, plain_contexts
from pipeline.archive.dimse.receiving import (
    CANNOT_UNDERSTAND,
    DUPLICATE,
    NOT_AUTHORIZED,
    OUT_OF_RESOURCES,
    SUCCESS,
    Ignored,
    StoreSink,
)
from pipeline.archive.instance_file import PartFile
from pipeline.archive.spool import Spool
from pipeline.errors import FirstreadError, RetryLater, StopRun
from pipeline.setting_archives import DimseArchive
from pipeline.study import AnnouncedInstance, HeldInstance

log = logging.getLogger(__name__)

_UIDS_PER_REQUEST = 64
_SETTLE_SECONDS = 3.0
_EVERY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - compared, never bound


class Retrieval(Protocol):
    """One way to bring instances into a spool."""

    def retrieve(
        self,
        spool: Spool,
        expected: tuple[AnnouncedInstance, ...],
        missing: tuple[AnnouncedInstance, ...],
        patient_id: str,
    ) -> FirstreadError | None:
        """Bring the missing ones; returns what the archive's last word was, when it was not success.

        ``patient_id`` names the patient where the archive offers Patient Root alone.
        """
        ...


class MoveReceiver:
    """Routes stores to the fetches that wait for them: by announced SOP Instance UID, then by Study Instance
    UID.

    A store that no fetch waits for is refused, and nothing of it is kept.
    """

    def __init__(self) -> None:
        self.reached = False
        """Something has come that a fetch waited for: the archive knows where to send."""
        self._spools: dict[str, Spool] = {}
        self._expected: dict[str, Spool] = {}
        self._lock = threading.Lock()

    @contextmanager
    def waiting(self, spool: Spool, sop_instance_uids: Iterable[str]) -> Iterator[None]:
        """Route to ``spool`` while the context lasts."""
        uids = tuple(sop_instance_uids)
        with self._lock:
            self._spools[spool.study_instance_uid] = spool
            self._expected.update(dict.fromkeys(uids, spool))
        try:
            yield
        finally:
            with self._lock:
                self._spools.pop(spool.study_instance_uid, None)
                for uid in uids:
                    self._expected.pop(uid, None)

    def open(self, command: Command) -> PartFile | int:
        """See ``Desk.open``.

        An instance that was not announced is written beside those of any fetch that waits.
        """
        with self._lock:
            spool = self._expected.get(command.sop_instance_uid) or next(iter(self._spools.values()), None)
        if spool is None:
            return NOT_AUTHORIZED
        self.reached = True
        try:
            return spool.open()
        except StopRun as reason:
            spool.stop(reason)
            raise

    def close(self, part: PartFile, command: Command, sender: Sender) -> int:
        """See ``Desk.close``."""
        with self._lock:
            spool = self._expected.get(command.sop_instance_uid)
        if spool is None:
            with self._lock:
                spool = self._spools.get(part.header().study_instance_uid)
        if spool is None:
            return NOT_AUTHORIZED
        return keep_status(spool, part, command)

    def refused(self, sender: Sender, code: str) -> None:
        """See ``ReceivePolicy.refused``: the spool has noted it, or nobody waits for it."""


class MoveRetrieval:
    """C-MOVE to our Storage SCP."""

    def __init__(self, settings: DimseArchive, desk: MoveReceiver) -> None:
        self._settings = settings
        self._desk = desk

    def retrieve(
        self,
        spool: Spool,
        expected: tuple[AnnouncedInstance, ...],
        missing: tuple[AnnouncedInstance, ...],
        patient_id: str,
    ) -> FirstreadError | None:
        """See ``Retrieval.retrieve``."""
        uids = frozenset(instance.ref.sop_instance_uid for instance in expected)
        with self._desk.waiting(spool, uids):
            before, refused = len(spool.held()), spool.refused
            with associate(self._settings, plain_contexts(MOVE)) as association:
                service = chosen(association, MOVE)
                finals = [
                    self._move(association, service, keys, spool)
                    for keys in _requests(
                        spool, expected, missing, patient_id if needs_patient(service) else None
                    )
                ]
            if _more_may_come(finals, len(spool.held()) - before):
                spool.wait_for(uids, _SETTLE_SECONDS)
        return _last_failure(
            finals,
            f"{self._settings.calling_ae_title} at {self._listening()}",
            refused_here=spool.refused > refused,
            reached=self._desk.reached,
        )

    def _listening(self) -> str:
        """Where the archive has to send, as far as it can be known here."""
        host, port = self._settings.move_host, self._settings.move_port
        place = "the address of this host" if host in _EVERY_ADDRESS else host
        return f"{place}, port {port}" if port else place

    def _move(
        self, association: Association, service: str, keys: dict[int, tuple[str, str]], spool: Spool
    ) -> Command:
        context = association.accepted(service)
        request = Command(
            C_MOVE_RQ,
            message_id=1,
            sop_class_uid=service,
            move_destination=self._settings.calling_ae_title,
            has_data_set=True,
        )
        association.send(context, request, encode_identifier(keys, context.transfer_syntaxes[0]))
        spool.progressed()
        while True:
            message = association.receive(deadline=lambda: _deadline(spool, self._settings.stall_timeout))
            spool.progressed()
            if (final := _final(message)) is not None:
                return final


class GetRetrieval:
    """C-GET: the stores come back on the association that asked (PS3.4 C.4.3)."""

    def __init__(self, settings: DimseArchive) -> None:
        self._settings = settings

    def retrieve(
        self,
        spool: Spool,
        expected: tuple[AnnouncedInstance, ...],
        missing: tuple[AnnouncedInstance, ...],
        patient_id: str,
    ) -> FirstreadError | None:
        """See ``Retrieval.retrieve``."""
        failure: FirstreadError | None = None
        for contexts in get_proposals([instance.sop_class_uid for instance in missing]):
            failure = self._over(contexts, spool, expected, missing, patient_id)
            missing = spool.lacking(missing)
            if not missing or (failure is not None and failure.code != statuses.ENDED_EARLY):
                break
        return failure

    def _over(
        self,
        contexts: tuple[PresentationContext, ...],
        spool: Spool,
        expected: tuple[AnnouncedInstance, ...],
        missing: tuple[AnnouncedInstance, ...],
        patient_id: str,
    ) -> FirstreadError | None:
        """Retrieve over one association that proposes these contexts."""
        roles = tuple(dict.fromkeys(context.abstract_syntax for context in contexts[len(GET) :]))
        refused = spool.refused
        with associate(self._settings, contexts, roles) as association:
            service = chosen(association, GET)
            finals = [
                self._get(association, service, keys, spool)
                for keys in _requests(
                    spool, expected, missing, patient_id if needs_patient(service) else None
                )
            ]
        unoffered = not all(instance.sop_class_uid for instance in missing)
        return _last_failure(finals, refused_here=spool.refused > refused, unoffered=unoffered)

    def _get(
        self, association: Association, service: str, keys: dict[int, tuple[str, str]], spool: Spool
    ) -> Command:
        context = association.accepted(service)
        request = Command(C_GET_RQ, message_id=1, sop_class_uid=service, has_data_set=True)
        association.send(context, request, encode_identifier(keys, context.transfer_syntaxes[0]))
        desk = _GetReceiver(spool)
        sender = Sender(self._settings.ae_title, self._settings.host)
        sink: StoreSink | None = None

        def sink_for(context: PresentationContext, command: Command) -> StoreSink | Ignored:
            nonlocal sink
            if command.field != C_STORE_RQ:
                return Ignored()  # a list of failed UIDs: what failed is known by counting
            sink = StoreSink(desk, context, command, sender)
            return sink

        try:
            while True:
                message = association.receive(sink_for)
                spool.check()
                if message is not None and message.command.field == C_STORE_RQ and sink is not None:
                    association.send(message.context, sink.answer())
                    sink = None
                elif (final := _final(message)) is not None:
                    return final
        finally:
            if sink is not None:
                sink.discard()


class _GetReceiver:
    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def open(self, command: Command) -> PartFile | int:
        try:
            return self._spool.open()
        except StopRun as reason:
            self._spool.stop(reason)
            raise

    def close(self, part: PartFile, command: Command, sender: Sender) -> int:
        return keep_status(self._spool, part, command)

    def refused(self, sender: Sender, code: str) -> None:
        """The spool has noted it."""


def keep_status(spool: Spool, part: PartFile, command: Command) -> int:
    """Keep the part in the spool; returns the C-STORE status that says how it went."""
    kept = spool.keep(part, named=command.sop_instance_uid)
    if isinstance(kept, HeldInstance):
        return SUCCESS
    return {"duplicate-conflict": DUPLICATE, "too-large": OUT_OF_RESOURCES}.get(kept.code, CANNOT_UNDERSTAND)


def _requests(
    spool: Spool,
    expected: tuple[AnnouncedInstance, ...],
    missing: tuple[AnnouncedInstance, ...],
    patient_id: str | None,
) -> Iterator[dict[int, tuple[str, str]]]:
    """Identifiers: the study where all of it is missing, else whole series, and of others the missing instances."""
    study = {STUDY: ("UI", spool.study_instance_uid)}
    if patient_id is not None:
        study[PATIENT] = ("LO", patient_id)
    if len(missing) == len(expected):
        yield {**study, LEVEL: ("CS", "STUDY")}
        return
    ordered = sorted(missing, key=lambda instance: instance.ref.series_instance_uid)
    whole = Counter(instance.ref.series_instance_uid for instance in expected)
    for series, instances in groupby(ordered, key=lambda instance: instance.ref.series_instance_uid):
        uids = [instance.ref.sop_instance_uid for instance in instances]
        if len(uids) == whole[series] > 1:
            yield {**study, LEVEL: ("CS", "SERIES"), SERIES: ("UI", series)}
            continue
        for at in range(0, len(uids), _UIDS_PER_REQUEST):
            some = "\\".join(uids[at : at + _UIDS_PER_REQUEST])
            yield {**study, LEVEL: ("CS", "IMAGE"), SERIES: ("UI", series), INSTANCE: ("UI", some)}


def _deadline(spool: Spool, stall_timeout: float) -> float:
    spool.check()
    return spool.last_progress + stall_timeout


def _final(message: DimseMessage | None) -> Command | None:
    """The command of a final response; None for a pending one. Raises RetryLater where the archive left."""
    if message is None:
        raise RetryLater("archive-closed", "the archive released the association during a retrieval")
    return None if message.command.status in statuses.PENDING else message.command


def _last_failure(
    finals: list[Command],
    destination: str = "",
    *,
    refused_here: bool = False,
    unoffered: bool = False,
    reached: bool = False,
) -> FirstreadError | None:
    failures = [
        failure
        for final in finals
        if (
            failure := statuses.retrieve_failure(
                final.status, destination, refused_here=refused_here, unoffered=unoffered, reached=reached
            )
        )
        is not None
    ]
    return failures[-1] if failures else None


def _more_may_come(finals: list[Command], arrived: int) -> bool:
    """True after success that claims more than has arrived: some archives answer before they have sent."""
    counts = [final.counts.completed for final in finals if final.status == statuses.SUCCESS]
    return None in counts or sum(count or 0 for count in counts) > arrived
