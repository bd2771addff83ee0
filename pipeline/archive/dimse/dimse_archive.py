"""The DIMSE archive: C-FIND to find, C-MOVE or C-GET to fetch (PS3.4 annex C, Study Root).

No status is believed: what counts is the instances on disk against those that the image-level query named.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.archive.coverage import Answers, Coverage, Window
from pipeline.archive.dimse import statuses
from pipeline.archive.dimse.association import Association
from pipeline.archive.dimse.command import (
    C_ECHO_RQ,
    C_FIND_RQ,
    Command,
    decode_identifier,
    encode_identifier,
)
from pipeline.archive.dimse.negotiation import VERIFICATION
from pipeline.archive.dimse.pdu import Associate, PresentationContext
from pipeline.archive.dimse.retrieving import GetRetrieval, MoveReceiver, MoveRetrieval, Retrieval
from pipeline.archive.dimse.store_server import StoreServer
from pipeline.archive.part10 import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from pipeline.archive.passed_over import PassedOver
from pipeline.archive.spool import DiskLimits, Spool
from pipeline.archive.study_answers import DIGEST_TAGS, announced, decode_texts, found_study, is_wanted
from pipeline.archive.uids import clean_uid, is_uid
from pipeline.errors import ConfigurationError, FirstreadError, RetryLater, SkipStudy
from pipeline.settings import DimseArchive
from pipeline.study import AnnouncedInstance, FetchedStudy, FoundStudy, InstanceRef, StudyQuery

log = logging.getLogger(__name__)

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PLAIN_SYNTAXES = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN)

_LEVEL = 0x00080052
_STUDY, _SERIES, _INSTANCE, _CLASS = 0x0020000D, 0x0020000E, 0x00080018, 0x00080016
_PATIENT = 0x00100020
_STUDY_DATE, _STUDY_TIME, _MODALITIES, _COUNT = 0x00080020, 0x00080030, 0x00080061, 0x00201208
_VRS = {
    0x00100020: "LO",
    0x00100021: "LO",
    0x00100010: "PN",
    0x00100030: "DA",
    0x00100040: "CS",
    0x00080050: "SH",
    _STUDY_DATE: "DA",
    _STUDY_TIME: "TM",
}

_LONGEST_PAUSE = 5.0
"""Seconds after which an idle association is renewed: archives drop idle ones without a word."""

Keys = Mapping[int, tuple[str, str]]


class DimseStudies:
    """An ``Archive`` over DIMSE; several threads may use it at once, each over its own associations.

    With ``retrieve = "move"`` one Storage SCP, started with the first fetch, receives for all of them.
    """

    def __init__(self, name: str, settings: DimseArchive) -> None:
        self.name = name
        self.passed_over = PassedOver()
        self._settings = settings
        self._disk = DiskLimits(settings.min_free_gib, settings.max_instance_gib)
        self._desk = MoveReceiver()
        self._server: StoreServer | None = None
        self._starting = threading.Lock()
        self._fetching: set[str] = set()
        self._turn = threading.Condition()

    def find(self, query: StudyQuery) -> Iterator[FoundStudy]:
        """See ``Archive.find``: study-level C-FIND; doubtful lists are checked by halving the date window."""
        if query.study_instance_uids:
            for uid in dict.fromkeys(query.study_instance_uids):
                if not is_uid(uid):
                    raise ConfigurationError(
                        "invalid-uid", "a Study Instance UID must be digits and dots, at most 64"
                    )
                with _Queries(self._settings, self.passed_over) as queries:
                    found = _ask(queries, {_STUDY: ("UI", uid)}).studies
                yield from (study for study in found[:1] if study.study_instance_uid == uid)
            return
        seen: set[str] = set()
        for modality in query.modalities or ("",):
            fixed: dict[int, tuple[str, str]] = {_MODALITIES: ("CS", modality)}
            if query.patient_id:
                fixed[_PATIENT] = ("LO", query.patient_id)
            with _Queries(self._settings, self.passed_over) as queries:
                coverage = Coverage(partial(_ask, queries, fixed))
                for study in coverage.studies(Window(query.since, query.until)):
                    if study.study_instance_uid not in seen and is_wanted(study, query):
                        seen.add(study.study_instance_uid)
                        yield study

    def instances(self, study_instance_uid: str) -> tuple[AnnouncedInstance, ...]:
        """See ``Archive.instances``: C-FIND at series level, then at image level for each series."""
        if not is_uid(study_instance_uid):
            raise ConfigurationError(
                "invalid-uid", "a Study Instance UID must be digits and dots, at most 64"
            )
        study: dict[int, tuple[str, str]] = {_STUDY: ("UI", study_instance_uid)}
        listed: dict[InstanceRef, str] = {}
        with _Queries(self._settings, self.passed_over) as queries:
            rows = queries.rows({**study, _LEVEL: ("CS", "SERIES"), _SERIES: ("UI", "")})
            for series in sorted({uid for row in rows if is_uid(uid := clean_uid(row.get(_SERIES, b"")))}):
                images = {
                    _LEVEL: ("CS", "IMAGE"),
                    _SERIES: ("UI", series),
                    _INSTANCE: ("UI", ""),
                    _CLASS: ("UI", ""),
                }
                for row in queries.rows({**study, **images}):
                    uid = clean_uid(row.get(_INSTANCE, b""))
                    if is_uid(uid):
                        listed[InstanceRef(study_instance_uid, series, uid)] = clean_uid(row.get(_CLASS, b""))
        if not listed:
            raise SkipStudy("study-gone", "the archive lists no instance of the study")
        return announced(listed)

    def fetch(self, study_instance_uid: str, folder: Path) -> FetchedStudy:
        """See ``Archive.fetch``: the whole study, or only what an earlier attempt left missing.

        One fetch per study.
        """
        with self._one_at_a_time(study_instance_uid):
            expected = self.instances(study_instance_uid)
            spool = Spool(study_instance_uid, folder, self._disk)
            missing = tuple(
                instance for instance in expected if instance.ref.sop_instance_uid not in spool.held()
            )
            failure: FirstreadError | None = None
            if missing:
                try:
                    failure = self._retrieval().retrieve(spool, expected, missing)
                except RetryLater as error:
                    failure = error
                spool.check()
            return spool.outcome(expected, failure)

    def echo(self) -> str:
        """See ``Archive.echo``: C-ECHO."""
        with _associate(self._settings, VERIFICATION) as association:
            context = association.accepted(VERIFICATION)
            association.send(context, Command(C_ECHO_RQ, message_id=1, sop_class_uid=VERIFICATION))
            message = association.receive()
            if message is None or message.command.status != 0:
                raise RetryLater(
                    "archive-error", "the archive did not answer C-ECHO with success: look into its log"
                )
        return "C-ECHO answered"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._starting:
            if self._server is not None:
                self._server.close()
                self._server = None

    def _retrieval(self) -> Retrieval:
        settings = self._settings
        if settings.retrieve == "get":
            return GetRetrieval(settings)
        with self._starting:
            if self._server is None:
                server = StoreServer(
                    settings.move_host,
                    settings.move_port,
                    settings.calling_ae_title,
                    self._desk,
                    settings.stall_timeout,
                )
                server.start()
                self._server = server
        return MoveRetrieval(settings, self._desk)

    @contextmanager
    def _one_at_a_time(self, study_instance_uid: str) -> Iterator[None]:
        with self._turn:
            while study_instance_uid in self._fetching:
                self._turn.wait()
            self._fetching.add(study_instance_uid)
        try:
            yield
        finally:
            with self._turn:
                self._fetching.discard(study_instance_uid)
                self._turn.notify_all()


class _Queries:
    """C-FIND requests over one association, which is opened when first needed and renewed after a pause."""

    def __init__(self, settings: DimseArchive, passed_over: PassedOver) -> None:
        self._settings = settings
        self.passed_over = passed_over
        self._association: Association | None = None
        self._used = 0.0

    def rows(self, keys: Keys) -> list[dict[int, bytes]]:
        """Every pending identifier of one C-FIND. Raises for any final status but success."""
        rows, cut = self.listed(keys)
        if cut:
            raise RetryLater(
                "archive-too-many", "the archive cut a query short: raise its limit of query results"
            )
        return rows

    def listed(self, keys: Keys) -> tuple[list[dict[int, bytes]], bool]:
        """The pending identifiers of one C-FIND, and whether the archive said that there are more."""
        association = self._ready()
        context = association.accepted(FIND)
        syntax = context.transfer_syntaxes[0]
        request = Command(C_FIND_RQ, message_id=1, sop_class_uid=FIND, has_data_set=True)
        association.send(context, request, encode_identifier(keys, syntax))
        rows: list[dict[int, bytes]] = []
        while True:
            message = association.receive()
            if message is None:
                raise RetryLater("archive-closed", "the archive released the association during a query")
            if message.command.status not in statuses.PENDING:
                self._used = time.monotonic()
                return rows, statuses.find_was_cut(message.command.status)
            if message.data_set:
                try:
                    rows.append(decode_identifier(message.data_set, syntax))
                except ValueError:
                    self.passed_over.add("row-unreadable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._association is not None:
            self._association.__exit__(kind, error, trace)

    def _ready(self) -> Association:
        if self._association is not None and time.monotonic() - self._used > _LONGEST_PAUSE:
            self._association.release()
            self._association = None
        if self._association is None:
            self._association = _associate(self._settings, FIND)
        return self._association


def _ask(queries: _Queries, fixed: Keys, window: Window | None = None) -> Answers:
    """One study-level C-FIND."""
    window = window or Window()
    keys: dict[int, tuple[str, str]] = {tag: (_VRS[tag], "") for tag in DIGEST_TAGS}
    keys |= {_LEVEL: ("CS", "STUDY"), _STUDY: ("UI", ""), _MODALITIES: ("CS", ""), _COUNT: ("IS", "")}
    keys |= {_STUDY_DATE: ("DA", window.dates), _STUDY_TIME: ("TM", window.times), **fixed}
    rows, cut = queries.listed(keys)
    studies: dict[str, FoundStudy] = {}
    for study in map(_found, rows):
        if is_uid(study.study_instance_uid):
            studies[study.study_instance_uid] = study
        else:
            queries.passed_over.add("row-without-uid")
    return Answers(tuple(studies.values()), refused=cut)


def _associate(settings: DimseArchive, abstract_syntax: str) -> Association:
    proposal = Associate(
        settings.ae_title,
        settings.calling_ae_title,
        (PresentationContext(1, abstract_syntax, PLAIN_SYNTAXES),),
    )
    return Association.request(
        (settings.host, settings.port),
        proposal,
        connect_timeout=settings.connect_timeout,
        stall_timeout=settings.stall_timeout,
    )


def _found(row: Mapping[int, bytes]) -> FoundStudy:
    modalities = row.get(_MODALITIES, b"").decode("ascii", "replace").strip(" \0").split("\\")
    return found_study(
        clean_uid(row.get(_STUDY, b"")),
        decode_texts(row),
        tuple(modality.strip() for modality in modalities if modality.strip()),
        row.get(_COUNT, b"").decode("ascii", "replace").strip(" \0"),
    )
