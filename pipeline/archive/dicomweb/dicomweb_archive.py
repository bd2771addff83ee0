"""The DICOMweb archive: QIDO-RS to find, WADO-RS to fetch (PS3.18 10.4 and 10.6), to disk as stored."""

import http.client
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlencode

from pipeline.archive import Leave
from pipeline.archive.coverage import Answers, Coverage, Window
from pipeline.archive.dicomweb import rows as qido
from pipeline.archive.dicomweb.bodies import Parts, body_of, one_part
from pipeline.archive.dicomweb.http import HttpArchive, is_redirect, refusal, unreachable
from pipeline.archive.dicomweb.multipart import MultipartReader, boundary_of
from pipeline.archive.dicomweb.rows import LARGEST_JSON, Json
from pipeline.archive.instance_file import DiskLimits
from pipeline.archive.passed_over import PassedOver
from pipeline.archive.spool import Spool
from pipeline.archive.study_answers import DIGEST_TAGS, announced, is_wanted
from pipeline.archive.uids import is_uid
from pipeline.errors import ConfigurationError, FailStudy, FirstreadError, RetryLater, SkipStudy, StopRun
from pipeline.setting_archives import DicomwebArchive
from pipeline.study import (
    AnnouncedInstance,
    FetchedStudy,
    FoundStudy,
    InstanceRef,
    StudyQuery,
    UnfetchedInstance,
)

log = logging.getLogger(__name__)

_AS_THEY_ARE = ",!$'():@/"
"""Signs of a query's value that need no escape (RFC 3986 section 3.4): Orthanc compares escapes as they are written."""
_JSON = "application/dicom+json"
_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_AS_THEY_LIKE = 'multipart/related; type="application/dicom"'
_ONE_PART = "application/dicom; transfer-syntax=*"
_STUDY_ACCEPTS = (_AS_STORED, _AS_THEY_LIKE)
_INSTANCE_ACCEPTS = (_AS_STORED, _AS_THEY_LIKE, _ONE_PART, "application/dicom")
"""What is asked for in turn where an archive answers 406 (PS3.18 8.7.3 and 10.4.1)."""
_EARLIEST, _LATEST = date(1900, 1, 1), date(2999, 12, 31)
_AWAY = ("archive-busy", "archive-unreachable", "archive-stalled")
_ANSWERED = (200, 203, 206)
"""203 is an answer that a proxy has changed (RFC 9110 15.3.4)."""
_MOST_PAGES = 100_000


class DicomwebStudies:
    """An ``Archive`` over DICOMweb; several threads may use it at once, each over its own connection."""

    def __init__(self, name: str, settings: DicomwebArchive) -> None:
        self.name = name
        self.passed_over = PassedOver()
        self._settings = settings
        self._http = HttpArchive(settings)
        self._accepts = {False: _STUDY_ACCEPTS, True: _INSTANCE_ACCEPTS}
        self._includes = True
        self._takes_open_ranges = True
        self._pool = ThreadPoolExecutor(2 * settings.concurrency, thread_name_prefix="dicomweb")
        self._disk = DiskLimits(settings.min_free_gib, settings.max_instance_gib)

    def find(self, query: StudyQuery) -> Iterator[FoundStudy]:
        """See ``Archive.find``: pages until an empty one; halves the window where a list is doubtful."""
        if query.study_instance_uids:
            for uid in dict.fromkeys(query.study_instance_uids):
                pages = self._pages("/studies", {"StudyInstanceUID": _checked(uid)})
                found = qido.unique_studies(pages.rows, self.passed_over)
                yield from (study for study in found if study.study_instance_uid == uid)
            return
        seen: set[str] = set()
        window = Window() if query.undated else Window(query.since, query.until)
        for modality in query.modalities or ("",):
            coverage = Coverage(partial(self._ask, modality=modality, patient=query.patient_id))
            for study in coverage.studies(window):
                if study.study_instance_uid not in seen and is_wanted(study, query):
                    seen.add(study.study_instance_uid)
                    yield study

    def instances(self, study_instance_uid: str) -> tuple[AnnouncedInstance, ...]:
        """See ``Archive.instances``: QIDO-RS at instance level, paged."""
        path = f"/studies/{_checked(study_instance_uid)}"
        rows = self._pages(f"{path}/instances", {}).rows
        listed: dict[InstanceRef, str] = {}
        if not all(is_uid(qido.uid_of(row, qido.SERIES)) for row in rows):
            self._list_by_series(path, study_instance_uid, listed)
        known = {ref.sop_instance_uid for ref in listed}
        for row in rows:
            series, instance = qido.uid_of(row, qido.SERIES), qido.uid_of(row, qido.INSTANCE)
            if not is_uid(instance):
                self.passed_over.add("row-without-uid")
            elif instance not in known:
                ref = InstanceRef(study_instance_uid, series if is_uid(series) else "", instance)
                listed[ref] = qido.uid_of(row, qido.SOP_CLASS)
        return announced(listed)

    def _list_by_series(self, path: str, study: str, listed: dict[InstanceRef, str]) -> None:
        """The instances series by series, for an archive whose instance rows do not name theirs."""
        try:
            for row in self._pages(f"{path}/series", {}).rows:
                series = qido.uid_of(row, qido.SERIES)
                if is_uid(series):
                    for one in self._pages(f"{path}/series/{series}/instances", {}).rows:
                        ref = InstanceRef(study, series, qido.uid_of(one, qido.INSTANCE))
                        if is_uid(ref.sop_instance_uid):
                            listed[ref] = qido.uid_of(one, qido.SOP_CLASS)
        except (FailStudy, SkipStudy, StopRun) as error:
            log.warning("archive %s does not list by series: %s", self.name, error.code)

    def fetch(self, study_instance_uid: str, folder: Path, leave: Leave | None = None) -> FetchedStudy:
        """See ``Archive.fetch``: one WADO-RS of the study, then what is still missing by instance.

        With ``leave`` the list comes first, and where it leaves some out the rest is asked for series by series.
        """
        path = f"/studies/{_checked(study_instance_uid)}"
        spool = Spool(study_instance_uid, folder, self._disk)
        failure: FirstreadError | None = None
        if leave is not None:
            expected = self.instances(study_instance_uid)
            if unfetched := leave(expected):
                failure = self._retrieve_some(path, spool, expected, unfetched)
                return spool.outcome(expected, failure, unfetched)
        listing = self._pool.submit(self.instances, study_instance_uid)  # while the archive gathers the study
        try:
            if not spool.held():
                failure = self._retrieve(path, spool, "")
        finally:
            wait([listing])
        expected = listing.result()
        if failure is None or failure.code != "archive-busy":
            failure = self._retrieve_missing(path, spool, expected) or failure
        return spool.outcome(expected, failure)

    def echo(self) -> str:
        """See ``Archive.echo``: one study-level query of one row."""
        with self._http.get("/studies?limit=1", _JSON) as response:
            if response.status != 204:
                self._rows(response)
        return "QIDO-RS answers"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        self._http.close()

    def _ask(self, window: Window, *, modality: str, patient: str) -> Answers:
        if not self._takes_open_ranges:
            window = _closed(window)
        keys = {
            "StudyDate": window.dates,
            "StudyTime": window.times,
            "ModalitiesInStudy": modality,
            "PatientID": patient,
        }
        try:
            pages = self._pages("/studies", {key: value for key, value in keys.items() if value})
        except FailStudy as error:
            if _closed(window) == window:
                raise
            log.warning(
                "archive %s refuses an open range of dates (%s): asked for a closed one", self.name, error
            )
            self._takes_open_ranges = False
            return self._ask(window, modality=modality, patient=patient)
        studies = tuple(qido.unique_studies(pages.rows, self.passed_over, patient))
        return Answers(studies, doubtful=pages.repeated or pages.warned or pages.capped)

    def _pages(self, path: str, keys: Mapping[str, str]) -> "_Pages":
        """Every row of a query.

        An empty page is the end (a short one is not: archives cap), and so is a repeated one.
        """
        pages = _Pages()
        for _ in range(_MOST_PAGES):
            rows, warned = self._page(path, keys, len(pages.rows))
            if not pages.add(rows, warned, self._settings.page_size):
                break
        if path != "/studies" and not pages.rows:
            raise SkipStudy("study-gone", "the archive lists no instance of the study")
        return pages

    def _page(self, path: str, keys: Mapping[str, str], offset: int) -> tuple[list[Json], bool]:
        """One page, and whether the archive warned; without ``includefield`` where the archive refuses it."""
        limits = {"limit": str(self._settings.page_size), "offset": str(offset)}
        includes = path == "/studies" and self._includes
        fields = {"includefield": ",".join(f"{tag:08X}" for tag in DIGEST_TAGS)} if includes else {}
        target = f"{path}?{urlencode({**keys, **limits, **fields}, safe=_AS_THEY_ARE, quote_via=quote)}"
        with self._http.get(target, _JSON) as response:
            if response.status == 404 and path != "/studies":
                raise SkipStudy("study-gone", "the archive does not know the study any more")
            if response.status != 400 or not includes:
                rows = [] if response.status == 204 else self._rows(response)
                return rows, bool(response.headers.get("Warning"))
        self._includes = False
        try:
            return self._page(path, keys, offset)
        except FailStudy:
            self._includes = True  # it was not the includefield
            raise

    def _rows(self, response: http.client.HTTPResponse) -> list[Json]:
        if response.status not in _ANSWERED:
            raise refusal(response.status, response.headers)
        body = response.read(LARGEST_JSON)
        try:
            return qido.parse_rows(body, self.passed_over)
        except ValueError:
            raise _not_dicomweb(response, body) from None

    def _retrieve_some(
        self,
        path: str,
        spool: Spool,
        expected: tuple[AnnouncedInstance, ...],
        unfetched: tuple[UnfetchedInstance, ...],
    ) -> FirstreadError | None:
        """Retrieve all but ``unfetched``: a series of which nothing is held or left by one WADO-RS, then the rest."""
        left = {one.ref.sop_instance_uid for one in unfetched}
        here = spool.held() | left
        split = {one.ref.series_instance_uid for one in expected if one.ref.sop_instance_uid in here}
        for series in sorted({one.ref.series_instance_uid for one in expected} - split - {""}):
            with suppress(SkipStudy):  # no such resource: by instance then
                failure = self._retrieve(f"{path}/series/{series}", spool, "")
                if failure is not None and failure.code in _AWAY:
                    return failure
        wanted = tuple(one for one in expected if one.ref.sop_instance_uid not in left)
        return self._retrieve_missing(path, spool, wanted)

    def _retrieve_missing(
        self, path: str, spool: Spool, expected: tuple[AnnouncedInstance, ...]
    ) -> FirstreadError | None:
        """Retrieve one by one what is neither held nor known to be damaged, until the archive is away."""
        failure: FirstreadError | None = None
        for instance in expected:
            ref = instance.ref
            if not ref.series_instance_uid:
                continue  # no address without it: it stays missing
            if ref.sop_instance_uid not in spool.held() and not spool.is_damaged(ref.sop_instance_uid):
                tail = f"/series/{ref.series_instance_uid}/instances/{ref.sop_instance_uid}"
                failure = self._retrieve(path + tail, spool, ref.sop_instance_uid) or failure
            if failure is not None and failure.code in _AWAY:
                break
        return failure

    def _retrieve(self, path: str, spool: Spool, expected: str) -> FirstreadError | None:
        """Retrieve one resource into the spool.

        Returns what went wrong, if a later try or another path may do better.
        """
        single = bool(expected)
        accept, *others = self._accepts[single]
        try:
            with self._http.get(path, accept) as response:
                if response.status != 406 or not others:
                    self._take(response, spool, expected)
                    return None
        except (SkipStudy, StopRun):
            raise
        except FirstreadError as error:
            log.warning("retrieving from archive %s: %s", self.name, error)
            return error
        return self._retrieve_otherwise(path, spool, expected, tuple(others))

    def _retrieve_otherwise(
        self, path: str, spool: Spool, expected: str, accepts: tuple[str, ...]
    ) -> FirstreadError | None:
        """Ask for the next form that the archive may have; what it has it is asked for first from now on."""
        before = self._accepts[bool(expected)]
        self._accepts[bool(expected)] = accepts
        error = self._retrieve(path, spool, expected)
        if error is not None and error.code == "archive-refused":
            self._accepts[bool(expected)] = before
        return error

    def _take(self, response: http.client.HTTPResponse, spool: Spool, expected: str) -> None:
        if response.status == 204 or (response.status in (404, 410) and expected):
            return  # announced and not there: it stays missing
        if response.status in (404, 410):
            raise SkipStudy("study-gone", "the archive does not know the study any more")
        if is_redirect(response.status):
            raise FailStudy(
                "archive-redirected",
                f"the archive answered {response.status} (redirect) to a server that redirect_origins does not list",
            )
        if response.status not in _ANSWERED:
            raise refusal(response.status, response.headers)
        self._receive(response, spool, expected)

    def _receive(self, response: http.client.HTTPResponse, spool: Spool, expected: str) -> None:
        sink = Parts(spool, expected, self._pool)
        try:
            content_type = response.headers.get("Content-Type") or ""
            if content_type.partition(";")[0].strip().lower() == "application/dicom":
                one_part(response, sink, body_of(response, spool))
            else:
                reader = MultipartReader(boundary_of(content_type), sink, by_length=not expected)
                reader.read(body_of(response, spool))
        except (EOFError, ValueError) as error:
            raise RetryLater("archive-cut-short", f"the archive's answer is unusable: {error}") from None
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(error) from None
        finally:
            sink.discard()


class _Pages:
    """Rows gathered page by page, and whether the archive ignores paging, caps its pages or warns."""

    def __init__(self) -> None:
        self.rows: list[Json] = []
        self.repeated = False
        self.warned = False
        self.capped = False
        self._short = False
        self._seen: set[str] = set()

    def add(self, rows: list[Json], warned: bool, asked: int) -> bool:
        """Take a page of which ``asked`` rows were asked for; False when it is the last worth asking for."""
        self.warned = self.warned or warned
        self.capped = self.capped or (self._short and bool(rows))
        self._short = len(rows) < asked
        fresh = [row for row in rows if qido.key_of(row) not in self._seen]
        self._seen.update(qido.key_of(row) for row in rows)
        self.repeated = self.repeated or len(fresh) < len(rows)
        self.rows += fresh
        return bool(fresh)


def _closed(window: Window) -> Window:
    """The window with both bounds where it has one."""
    if window.since is None and window.until is None:
        return window
    return replace(window, since=window.since or _EARLIEST, until=window.until or _LATEST)


def _checked(study_instance_uid: str) -> str:
    if not is_uid(study_instance_uid):
        raise ConfigurationError(
            "invalid-uid", "a Study Instance UID must be digits and dots, at most 64 characters"
        )
    return study_instance_uid


def _not_dicomweb(response: http.client.HTTPResponse, body: bytes) -> RetryLater | StopRun:
    if response.length or len(body) >= LARGEST_JSON:
        return RetryLater("archive-cut-short", "the archive's answer ended early")
    return StopRun(
        "archive-url", "the answer is not DICOM JSON: url must be the DICOMweb root (for instance /dicom-web)"
    )
