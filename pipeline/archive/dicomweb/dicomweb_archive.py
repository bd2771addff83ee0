"""The DICOMweb archive: QIDO-RS to find, WADO-RS to fetch (PS3.18 10.4 and 10.6), to disk as stored."""

import http.client
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

from pipeline.archive.coverage import Answers, Coverage, Window
from pipeline.archive.dicomweb.http import HttpArchive, refusal, unreachable
from pipeline.archive.dicomweb.multipart import MultipartReader, boundary_of
from pipeline.archive.spool import DiskLimits, PartFile, Spool
from pipeline.archive.study_answers import DIGEST_TAGS, announced, found_study, is_wanted
from pipeline.archive.uids import is_uid
from pipeline.errors import ConfigurationError, FirstreadError, RetryLater, SkipStudy, StopRun
from pipeline.settings import DicomwebArchive
from pipeline.study import AnnouncedInstance, FetchedStudy, FoundStudy, InstanceRef, StudyQuery

log = logging.getLogger(__name__)

_JSON = "application/dicom+json"
_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_AS_THEY_LIKE = 'multipart/related; type="application/dicom"'
_AWAY = ("archive-busy", "archive-unreachable", "archive-stalled")
_LARGEST_JSON = 256 << 20
_LARGE_PART = 1 << 21
_MOST_PAGES = 100_000

Json = Mapping[str, Any]


class DicomwebStudies:
    """An ``Archive`` over DICOMweb; several threads may use it at once, each over its own connection."""

    def __init__(self, name: str, settings: DicomwebArchive) -> None:
        self.name = name
        self._settings = settings
        self._http = HttpArchive(settings)
        self._accept = _AS_STORED
        self._pool = ThreadPoolExecutor(2 * settings.concurrency, thread_name_prefix="dicomweb")
        self._disk = DiskLimits(settings.min_free_gib, settings.max_instance_gib)

    def find(self, query: StudyQuery) -> Iterator[FoundStudy]:
        """See ``Archive.find``: pages until an empty one; halves the window where a list is doubtful."""
        if query.study_instance_uids:
            for uid in dict.fromkeys(query.study_instance_uids):
                pages = self._pages("/studies", {"StudyInstanceUID": _checked(uid)})
                yield from (
                    study for study in map(_found, _unique(pages.rows)) if study.study_instance_uid == uid
                )
            return
        seen: set[str] = set()
        for modality in query.modalities or ("",):
            coverage = Coverage(partial(self._ask, modality=modality, patient=query.patient_id))
            for study in coverage.studies(Window(query.since, query.until)):
                if study.study_instance_uid not in seen and is_wanted(study, query):
                    seen.add(study.study_instance_uid)
                    yield study

    def instances(self, study_instance_uid: str) -> tuple[AnnouncedInstance, ...]:
        """See ``Archive.instances``: QIDO-RS at instance level, paged."""
        pages = self._pages(f"/studies/{_checked(study_instance_uid)}/instances", {})
        listed = {}
        for row in pages.rows:
            ref = InstanceRef(study_instance_uid, _text(row, "0020000E"), _text(row, "00080018"))
            if is_uid(ref.sop_instance_uid) and is_uid(ref.series_instance_uid):
                listed[ref] = _text(row, "00080016")
        return announced(listed)

    def fetch(self, study_instance_uid: str, folder: Path) -> FetchedStudy:
        """See ``Archive.fetch``: one WADO-RS of the study, then what is still missing by instance."""
        path = f"/studies/{_checked(study_instance_uid)}"
        spool = Spool(study_instance_uid, folder, self._disk)
        failure: FirstreadError | None = None
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
        keys = {
            "StudyDate": window.dates,
            "StudyTime": window.times,
            "ModalitiesInStudy": modality,
            "PatientID": patient,
        }
        pages = self._pages("/studies", {key: value for key, value in keys.items() if value})
        studies = tuple(map(_found, _unique(pages.rows)))
        return Answers(studies, doubtful=pages.repeated or pages.warned or pages.capped)

    def _pages(self, path: str, keys: Mapping[str, str]) -> "_Pages":
        """Every row of a query.

        An empty page is the end (a short one is not: archives cap), and so is a repeated one.
        """
        pages = _Pages()
        for _ in range(_MOST_PAGES):
            limits = {"limit": str(self._settings.page_size), "offset": str(len(pages.rows))}
            fields = (
                {"includefield": ",".join(f"{tag:08X}" for tag in DIGEST_TAGS)} if path == "/studies" else {}
            )
            target = f"{path}?{urlencode({**keys, **limits, **fields}, safe=',', quote_via=quote)}"
            with self._http.get(target, _JSON) as response:
                if response.status == 404 and path != "/studies":
                    raise SkipStudy("study-gone", "the archive does not know the study any more")
                rows = [] if response.status == 204 else self._rows(response)
                warned = bool(response.headers.get("Warning"))
            if not pages.add(rows, warned, self._settings.page_size):
                break
        if path != "/studies" and not pages.rows:
            raise SkipStudy("study-gone", "the archive lists no instance of the study")
        return pages

    def _rows(self, response: http.client.HTTPResponse) -> list[Json]:
        if response.status not in (200, 206):
            raise refusal(response.status, response.headers)
        body = response.read(_LARGEST_JSON)
        try:
            rows = json.loads(body)
        except ValueError:
            raise _not_dicomweb(response, body) from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise _not_dicomweb(response, body)
        return rows

    def _retrieve_missing(
        self, path: str, spool: Spool, expected: tuple[AnnouncedInstance, ...]
    ) -> FirstreadError | None:
        """Retrieve one by one what is neither held nor known to be damaged, until the archive is away."""
        failure: FirstreadError | None = None
        for instance in expected:
            ref = instance.ref
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
        try:
            with self._http.get(path, self._accept) as response:
                if response.status == 406 and self._accept != _AS_THEY_LIKE:
                    self._accept = _AS_THEY_LIKE
                    return self._retrieve(path, spool, expected)
                if response.status in (404, 410) and expected:
                    return None  # announced and not there: it stays missing
                if response.status in (404, 410):
                    raise SkipStudy("study-gone", "the archive does not know the study any more")
                if response.status not in (200, 206):
                    raise refusal(response.status, response.headers)
                self._receive(response, spool, expected)
        except (SkipStudy, StopRun):
            raise
        except FirstreadError as error:
            log.warning("retrieving from archive %s: %s", self.name, error)
            return error
        return None

    def _receive(self, response: http.client.HTTPResponse, spool: Spool, expected: str) -> None:
        sink = _Parts(spool, expected, self._pool)
        try:
            boundary = boundary_of(response.headers.get("Content-Type") or "")
            reader = MultipartReader(boundary, sink, by_length=not expected)
            reader.read(_counted(response, spool))
        except (EOFError, ValueError) as error:
            raise RetryLater(
                "archive-cut-short", f"the archive's multipart answer is unusable: {error}"
            ) from None
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
        fresh = [row for row in rows if _row_key(row) not in self._seen]
        self._seen.update(_row_key(row) for row in rows)
        self.repeated = self.repeated or len(fresh) < len(rows)
        self.rows += fresh
        return bool(fresh)


class _Parts:
    """Multipart parts, each into a part file of the spool; the pool takes the digests of large ones."""

    def __init__(self, spool: Spool, expected: str, pool: ThreadPoolExecutor) -> None:
        self._spool = spool
        self._expected = expected
        self._pool = pool
        self._part: PartFile | None = None

    def begin(self, headers: Mapping[str, str]) -> None:
        length = headers.get("content-length", "")
        large = length.isdigit() and int(length) >= _LARGE_PART
        self._part = self._spool.open(self._pool if large else None)

    def write(self, piece: memoryview) -> None:
        if self._part is not None:
            self._part.write(piece)

    def end(self) -> None:
        part, self._part = self._part, None
        if part is not None:
            with part:
                self._spool.keep(part, expected=self._expected)

    def discard(self) -> None:
        """Remove a part that did not end."""
        if self._part is not None:
            self._part.discard()


def _counted(response: http.client.HTTPResponse, spool: Spool) -> Callable[[memoryview], int]:
    def readinto(piece: memoryview) -> int:
        spool.check()
        count = response.readinto(piece)
        spool.progressed()
        return count

    return readinto


def _found(row: Json) -> FoundStudy:
    values = {tag: _raw(row, f"{tag:08X}") for tag in DIGEST_TAGS}
    count = _text(row, "00201208")
    modalities = tuple(str(value) for value in _values(row, "00080061") if value)
    return found_study(_text(row, "0020000D"), values, modalities, count)


def _unique(rows: list[Json]) -> list[Json]:
    by_uid = {_text(row, "0020000D"): row for row in rows}
    return [row for uid, row in by_uid.items() if is_uid(uid)]


def _row_key(row: Json) -> str:
    return f"{_text(row, '0020000D')} {_text(row, '00080018')}"


def _values(row: Json, tag: str) -> list[Any]:
    element = row.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _text(row: Json, tag: str) -> str:
    values = _values(row, tag)
    return str(values[0]).strip() if values and values[0] is not None else ""


def _raw(row: Json, tag: str) -> str:
    values = _values(row, tag)
    return (
        json.dumps(values, sort_keys=True, ensure_ascii=False)
        if any(isinstance(v, dict) for v in values)
        else "\\".join(str(value) for value in values if value is not None)
    )


def _checked(study_instance_uid: str) -> str:
    if not is_uid(study_instance_uid):
        raise ConfigurationError(
            "invalid-uid", "a Study Instance UID must be digits and dots, at most 64 characters"
        )
    return study_instance_uid


def _not_dicomweb(response: http.client.HTTPResponse, body: bytes) -> RetryLater | StopRun:
    if response.length or len(body) >= _LARGEST_JSON:
        return RetryLater("archive-cut-short", "the archive's answer ended early")
    return StopRun(
        "archive-url", "the answer is not DICOM JSON: url must be the DICOMweb root (for instance /dicom-web)"
    )
