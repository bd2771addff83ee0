"""The DIMSE archive: C-FIND to find, C-MOVE or C-GET to fetch (PS3.4 annex C; Study Root, else Patient Root).

No status is believed: what counts is the instances on disk against those that the image-level query named.
"""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.archive import Leave
from pipeline.archive.coverage import Answers, Coverage, Window
from pipeline.archive.dimse import statuses
from pipeline.archive.dimse.command import C_ECHO_RQ, Command
from pipeline.archive.dimse.information_model import CLASS, INSTANCE, LEVEL, PATIENT, SERIES, STUDY
from pipeline.archive.dimse.negotiation import VERIFICATION
from pipeline.archive.dimse.proposals import associate, plain_contexts
from pipeline.archive.dimse.queries import Keys, Queries
from pipeline.archive.dimse.retrieving import GetRetrieval, MoveReceiver, MoveRetrieval, Retrieval
from pipeline.archive.dimse.store_server import StoreServer
from pipeline.archive.instance_file import DiskLimits
from pipeline.archive.passed_over import PassedOver
from pipeline.archive.spool import Spool
from pipeline.archive.study_answers import (
    DIGEST_TAGS,
    announced,
    decode_texts,
    found_study,
    is_wanted,
    one_study,
)
from pipeline.archive.uids import clean_uid, is_uid
from pipeline.errors import ConfigurationError, FirstreadError, RetryLater, SkipStudy
from pipeline.setting_archives import DimseArchive
from pipeline.study import AnnouncedInstance, FetchedStudy, FoundStudy, InstanceRef, StudyQuery

log = logging.getLogger(__name__)

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
_MOST_IN_VAIN = 3
"""Instances asked for alone, one after the other, of which none comes: then the archive has no more."""


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
        self._patients: dict[str, str] = {}
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
                with Queries(self._settings, self.passed_over, self._patients) as queries:
                    found = _ask(queries, {STUDY: ("UI", uid)}).studies
                yield from (study for study in found[:1] if study.study_instance_uid == uid)
            return
        seen: set[str] = set()
        window = Window() if query.undated else Window(query.since, query.until)
        for modality in query.modalities or ("",):
            fixed: dict[int, tuple[str, str]] = {_MODALITIES: ("CS", modality)}
            if query.patient_id:
                fixed[PATIENT] = ("LO", query.patient_id)
            with Queries(self._settings, self.passed_over, self._patients) as queries:
                coverage = Coverage(partial(_ask, queries, fixed))
                for study in coverage.studies(window):
                    if study.study_instance_uid not in seen and is_wanted(study, query):
                        seen.add(study.study_instance_uid)
                        yield study

    def instances(self, study_instance_uid: str) -> tuple[AnnouncedInstance, ...]:
        """See ``Archive.instances``: C-FIND at series level, then at image level for each series."""
        if not is_uid(study_instance_uid):
            raise ConfigurationError(
                "invalid-uid", "a Study Instance UID must be digits and dots, at most 64"
            )
        study: dict[int, tuple[str, str]] = {STUDY: ("UI", study_instance_uid)}
        listed: dict[InstanceRef, str] = {}
        with Queries(self._settings, self.passed_over, self._patients) as queries:
            rows = queries.rows({**study, LEVEL: ("CS", "SERIES"), SERIES: ("UI", "")})
            for series in sorted({uid for row in rows if is_uid(uid := clean_uid(row.get(SERIES, b"")))}):
                images = {
                    LEVEL: ("CS", "IMAGE"),
                    SERIES: ("UI", series),
                    INSTANCE: ("UI", ""),
                    CLASS: ("UI", ""),
                }
                for row in queries.rows({**study, **images}):
                    uid = clean_uid(row.get(INSTANCE, b""))
                    if is_uid(uid):
                        listed[InstanceRef(study_instance_uid, series, uid)] = clean_uid(row.get(CLASS, b""))
        if not listed:
            raise SkipStudy("study-gone", "the archive lists no instance of the study")
        return announced(listed)

    def fetch(self, study_instance_uid: str, folder: Path, leave: Leave | None = None) -> FetchedStudy:
        """See ``Archive.fetch``: the whole study, whole series of it, or only what an earlier attempt left missing.

        One fetch per study.
        """
        with self._one_at_a_time(study_instance_uid):
            expected = self.instances(study_instance_uid)
            unfetched = leave(expected) if leave else ()
            left = {one.ref.sop_instance_uid for one in unfetched}
            spool = Spool(study_instance_uid, folder, self._disk)
            here = spool.held() | left
            missing = tuple(instance for instance in expected if instance.ref.sop_instance_uid not in here)
            failure: FirstreadError | None = None
            if missing:
                try:
                    failure = self._retrieve(spool, expected, missing)
                except RetryLater as error:
                    failure = error
                spool.check()
            return spool.outcome(expected, failure, unfetched)

    def _retrieve(
        self, spool: Spool, expected: tuple[AnnouncedInstance, ...], missing: tuple[AnnouncedInstance, ...]
    ) -> FirstreadError | None:
        """Retrieve, and ask again for what is missing where the archive ended early.

        Orthanc ends a C-MOVE at the first instance that its destination refuses. What was refused here is not asked
        for again; what still does not come is asked for one by one, so that one instance does not keep back others.
        """
        wanted = missing
        retrieval, patient = self._retrieval(), self._patients.get(spool.study_instance_uid, "")
        failure = retrieval.retrieve(spool, expected, missing, patient)
        while failure is not None and failure.code == statuses.ENDED_EARLY:
            left = spool.lacking(missing)
            if not left or len(left) == len(missing):
                break
            missing = left
            failure = retrieval.retrieve(spool, expected, missing, patient)
        in_vain = 0
        for instance in spool.lacking(missing) if _may_have_more(failure, spool) else ():
            if in_vain == _MOST_IN_VAIN:
                break
            last = retrieval.retrieve(spool, expected, (instance,), patient)
            in_vain = 0 if last is None or not spool.lacking((instance,)) else in_vain + 1
        return failure if spool.lacking(wanted) else None

    def echo(self) -> str:
        """See ``Archive.echo``: C-ECHO."""
        with associate(self._settings, plain_contexts((VERIFICATION,))) as association:
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


def _may_have_more(failure: FirstreadError | None, spool: Spool) -> bool:
    """Whether an archive that ended a retrieval by itself had sent something before, and may have met one bad file."""
    return failure is not None and failure.code in statuses.ENDED_BY_ITSELF and bool(spool.held())


def _ask(queries: Queries, fixed: Keys, window: Window | None = None) -> Answers:
    """One study-level C-FIND."""
    window = window or Window()
    keys: dict[int, tuple[str, str]] = {tag: (_VRS[tag], "") for tag in DIGEST_TAGS}
    keys |= {LEVEL: ("CS", "STUDY"), STUDY: ("UI", ""), _MODALITIES: ("CS", ""), _COUNT: ("IS", "")}
    keys |= {_STUDY_DATE: ("DA", window.dates), _STUDY_TIME: ("TM", window.times), **fixed}
    rows, cut = queries.studies(keys)
    studies: dict[str, list[tuple[FoundStudy, Mapping[int, str]]]] = {}
    for row in rows:
        study = _found(row)
        if is_uid(study.study_instance_uid):
            studies.setdefault(study.study_instance_uid, []).append((study, decode_texts(row)))
        else:
            queries.passed_over.add("row-without-uid")
    return Answers(tuple(map(one_study, studies.values())), refused=cut)


def _found(row: Mapping[int, bytes]) -> FoundStudy:
    modalities = row.get(_MODALITIES, b"").decode("ascii", "replace").strip(" \0").split("\\")
    return found_study(
        clean_uid(row.get(STUDY, b"")),
        decode_texts(row),
        tuple(modality.strip() for modality in modalities if modality.strip()),
        row.get(_COUNT, b"").decode("ascii", "replace").strip(" \0"),
    )
