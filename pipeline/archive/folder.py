"""The folder archive: DICOM files on disk, found recursively, never moved or changed.

Only headers are read to find studies. Each query looks at the folder anew; files that have not changed since
the last look are not opened again.
"""

import logging
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.archive import Leave
from pipeline.archive.instance_file import DiskLimits
from pipeline.archive.part10 import Fault, Part10Header, read_part10_header
from pipeline.archive.passed_over import PassedOver
from pipeline.archive.spool import Spool
from pipeline.archive.study_answers import (
    CHARACTER_SET,
    DIGEST_TAGS,
    announced,
    decode_texts,
    found_study,
    is_wanted,
    parse_date,
)
from pipeline.errors import ConfigurationError, SkipStudy
from pipeline.setting_archives import FolderArchive
from pipeline.study import AnnouncedInstance, FetchedStudy, FoundStudy, InstanceRef, StudyQuery

log = logging.getLogger(__name__)

_PATIENT = 0x00100020
_MODALITY = 0x00080060
_STUDY_DATE = 0x00080020
_FURTHER_DATES = (0x00080021, 0x00080022, 0x00080023, 0x0008002A)
"""Series, acquisition and content date, acquisition date and time: the day of a study that says none."""
_WANTED = frozenset({*DIGEST_TAGS, _MODALITY, CHARACTER_SET, *_FURTHER_DATES})
_PIECE = 1 << 18
_FILM_NAME = re.compile(r"[0-9]+(?:\.[0-9]+)+|(?=[A-Z_]{0,8}[0-9])[A-Z0-9_]{1,8}", re.ASCII)
_PACKED = frozenset({".gz", ".bz2", ".xz", ".zst", ".zip"})
_DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima"})


@dataclass(frozen=True, slots=True)
class _Entry:
    """One file as it was when it was last looked at."""

    path: Path
    stamp: tuple[int, int, int]
    header: Part10Header | Fault


class FolderStudies:
    """An ``Archive`` over a folder."""

    def __init__(self, name: str, settings: FolderArchive) -> None:
        self.name = name
        self.passed_over = PassedOver()
        self._root = settings.path
        self._disk = DiskLimits(settings.min_free_gib, settings.max_instance_gib)
        self._entries: dict[Path, _Entry] = {}
        self._studies: dict[str, list[_Entry]] = {}
        self._lock = threading.Lock()
        self._unlisted: Counter[str] = Counter()

    def find(self, query: StudyQuery) -> Iterator[FoundStudy]:
        """See ``Archive.find``. A study that says no day at all is found by every search for days."""
        self._look()
        with self._lock:
            studies = {uid: list(entries) for uid, entries in sorted(self._studies.items())}
            unlisted = dict(self._unlisted)
        for code, count in unlisted.items():
            self.passed_over.add(code, count)
        for uid, entries in studies.items():
            study = _described(uid, entries)
            if _matches(study, query) and (not query.patient_id or query.patient_id in _patients(entries)):
                yield study

    def instances(self, study_instance_uid: str) -> tuple[AnnouncedInstance, ...]:
        """See ``Archive.instances``: every file of the study whose UIDs can be read, sound or not."""
        listed = {}
        for entry in self._entries_of(study_instance_uid):
            header = entry.header
            if header.sop_instance_uid:
                ref = InstanceRef(study_instance_uid, header.series_instance_uid, header.sop_instance_uid)
                listed[ref] = header.sop_class_uid
        return announced(listed)

    def fetch(
        self,
        study_instance_uid: str,
        folder: Path,
        leave: Leave | None = None,
    ) -> FetchedStudy:
        """See ``Archive.fetch``: files are copied, hashed on the way."""
        entries = self._entries_of(study_instance_uid)
        expected = self.instances(study_instance_uid)
        spool = Spool(study_instance_uid, folder, self._disk)
        already = spool.held()
        seen: set[str] = set()
        for entry in entries:
            header = entry.header
            if isinstance(header, Fault):
                spool.note(header.sop_instance_uid, header.code, header.message)
                continue
            if header.sop_instance_uid in already and header.sop_instance_uid not in seen:
                seen.add(header.sop_instance_uid)
                continue
            self._bring(entry.path, header, spool)
        return spool.fetched(expected)

    def echo(self) -> str:
        """See ``Archive.echo``."""
        self._look()
        with self._lock:
            studies, files, unlisted = len(self._studies), len(self._entries), self._unlisted
        rest = ", ".join(f"{count} {code}" for code, count in sorted(unlisted.items()))
        return f"{files} files, {studies} studies" + (f"; passed over: {rest}" if rest else "")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def _bring(self, path: Path, header: Part10Header, spool: Spool) -> None:
        try:
            with path.open("rb", buffering=0) as source, spool.open() as part:
                piece = memoryview(bytearray(_PIECE))
                while count := source.readinto(piece):
                    part.write(piece[:count])
                spool.keep(part, expected=header.sop_instance_uid)
        except OSError as error:
            spool.note(
                header.sop_instance_uid,
                "unreadable-file",
                f"the file cannot be read ({type(error).__name__})",
            )

    def _entries_of(self, study_instance_uid: str) -> list[_Entry]:
        with self._lock:
            entries = list(self._studies.get(study_instance_uid, ()))
        if not entries or any(_stamp(entry.path) != entry.stamp for entry in entries):
            self._look()
            with self._lock:
                entries = list(self._studies.get(study_instance_uid, ()))
        if not entries:
            raise SkipStudy("study-gone", "the folder holds no file of the study any more")
        return entries

    def _look(self) -> None:
        """Bring the index up to date. Raises ConfigurationError where there is no folder."""
        if not self._root.is_dir():
            raise ConfigurationError(
                "archive-path",
                f"[archives.{self.name}] path: there is no folder {self._root} on this machine",
            )
        with self._lock:
            entries: dict[Path, _Entry] = {}
            unlisted: Counter[str] = Counter()
            for path in _files(self._root, unlisted):
                stamp = _stamp(path)
                known = self._entries.get(path)
                if known is not None and known.stamp == stamp:
                    entries[path] = known
                elif stamp is not None:
                    entries[path] = _Entry(path, stamp, read_part10_header(path, _WANTED))
            self._entries = entries
            self._studies = {}
            for entry in entries.values():
                if entry.header.study_instance_uid:
                    self._studies.setdefault(entry.header.study_instance_uid, []).append(entry)
                elif isinstance(entry.header, Fault) and not _is_other(entry):
                    unlisted[entry.header.code] += 1
            self._unlisted = unlisted
        for code, count in sorted(unlisted.items()):
            log.warning("archive %s: %d passed over: %s", self.name, count, code)


def _is_other(entry: _Entry) -> bool:
    """Whether the file says in no way that it should be DICOM: a letter beside the films is nobody's loss."""
    return (
        isinstance(entry.header, Fault)
        and entry.header.code == "not-dicom"
        and not _is_named_as_film(entry.path)
    )


def _is_named_as_film(path: Path) -> bool:
    """By its suffix, also where it was packed; by a UID; or as a File ID of a medium (PS3.10 8.5), say IM000001."""
    named = path.with_suffix("") if path.suffix.lower() in _PACKED else path
    return named.suffix.lower() in _DICOM_SUFFIXES or _FILM_NAME.fullmatch(path.name) is not None


def _files(root: Path, unlisted: Counter[str]) -> Iterator[Path]:
    """Regular files below ``root``, in a fixed order; a linked folder is followed once.

    ``unlisted`` counts what could not be looked into: folders that may not be read, links that lead nowhere, films
    whose names hide them. What a Mac or a copy in progress leaves (``._1.dcm``, ``.1.dcm.x7Qz``) is no film.
    """
    visited: set[tuple[int, int]] = set()

    def refused(_: OSError) -> None:
        unlisted["unreadable-folder"] += 1

    for folder, folders, names in os.walk(root, onerror=refused, followlinks=True):
        place = _identity(Path(folder))
        if place is None or place in visited:
            folders.clear()
            continue
        visited.add(place)
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if name == "DICOMDIR" or name.startswith("."):
                if not name.startswith("._") and path.suffix.lower() in _DICOM_SUFFIXES:
                    unlisted["hidden-file"] += 1
                continue
            if path.is_file():
                yield path
            elif path.is_symlink():
                unlisted["broken-link"] += 1


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def _described(uid: str, entries: list[_Entry]) -> FoundStudy:
    """The study as its first sound header says, else the first damaged one; its day may stand elsewhere in a header."""
    ordered = sorted((entry.header for entry in entries), key=lambda header: isinstance(header, Fault))
    instances = {header.sop_instance_uid for header in ordered if header.sop_instance_uid}
    modalities = {
        header.values.get(_MODALITY, b"").decode("ascii", "replace").strip(" \0") for header in ordered
    }
    found = found_study(
        uid,
        decode_texts(ordered[0].values),
        tuple(modality for modality in modalities if modality),
        str(len(instances)),
    )
    if found.study_date is not None:
        return found
    texts = (
        header.values.get(tag, b"").decode("ascii", "replace")
        for tag in (_STUDY_DATE, *_FURTHER_DATES)
        for header in ordered
    )
    return replace(found, study_date=next(filter(None, map(parse_date, texts)), None))


def _patients(entries: list[_Entry]) -> set[str]:
    headers = [entry.header for entry in entries if isinstance(entry.header, Part10Header)]
    return {decode_texts(header.values).get(_PATIENT, "") for header in headers}


def _matches(study: FoundStudy, query: StudyQuery) -> bool:
    if query.study_instance_uids:
        return study.study_instance_uid in query.study_instance_uids
    if not query.undated and (query.since is not None or query.until is not None):
        day = study.study_date
        if day is not None and ((query.since and day < query.since) or (query.until and day > query.until)):
            return False
    return is_wanted(study, query)
