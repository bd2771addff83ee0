"""The working folder of one fetch.

Bytes stream into ``.part`` files; a complete, checked instance is renamed to its SOP Instance UID.

Nothing is held in memory; the disk is watched, and a partial file never outlives the fetch.
"""

import logging
import os
import random
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.archive.content_digest import WalkedDigest, content_digest
from pipeline.archive.digesting import InlineDigest, OverlappedDigest, RunningDigest
from pipeline.archive.part10 import (
    Fault,
    Part10Header,
    all_lenience,
    header_of,
    read_part10_header,
    rewrapped,
)
from pipeline.archive.study_answers import PATIENT_ID
from pipeline.errors import FirstreadError, RetryLater, StopRun
from pipeline.study import (
    AnnouncedInstance,
    DamagedInstance,
    FetchedStudy,
    HeldInstance,
    InstanceRef,
    UnfetchedInstance,
)

log = logging.getLogger(__name__)

PART_SUFFIX = ".part"
_GIB = 1 << 30
_DISK_CHECK_BYTES = 64 << 20
_SMALL = 1 << 16
"""Bytes up to which a file is kept in memory until it is whole: written at once, and examined without being read."""


@dataclass(frozen=True, slots=True)
class DiskLimits:
    """``min_free_gib`` is the watermark below which nothing is written.

    ``max_instance_gib`` the largest instance taken.
    """

    min_free_gib: float
    max_instance_gib: float

    def check(self, folder: Path) -> None:
        """Raises StopRun("disk-full") when the disk under ``folder`` has less than ``min_free_gib`` free."""
        free = shutil.disk_usage(folder).free
        if free < self.min_free_gib * _GIB:
            raise StopRun(
                "disk-full",
                f"{free / _GIB:.1f} GiB free, below the watermark of {self.min_free_gib:g} GiB: "
                "free some disk, or lower min_free_gib",
            )


class PartFile:
    """One DICOM file on its way to disk. A context manager: what was not finished is removed.

    Its digest is taken while it is written, with ``pool`` by another thread: then a piece that was written must
    stay as it is until the next call. Raises StopRun("disk-full") below the watermark, before anything is written.
    """

    def __init__(
        self,
        folder: Path,
        limits: DiskLimits,
        progressed: Callable[[], None] | None = None,
        pool: Executor | None = None,
    ) -> None:
        self.path = folder / f"{random.getrandbits(128):032x}{PART_SUFFIX}"
        self.size = 0
        self.too_large = self._named = False
        self._limits = limits
        self._folder = folder
        self._progressed = progressed
        self._next_check = _DISK_CHECK_BYTES
        self._pool = pool
        self._digest: RunningDigest | None = None
        self._small: bytearray | None = bytearray()
        limits.check(folder)
        self._file: int | None = os.open(
            self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666
        )

    def write(self, piece: bytes | memoryview) -> None:
        """Append ``piece``; what goes beyond the largest instance is dropped. Raises StopRun("disk-full")."""
        self.size += len(piece)
        if self._progressed is not None:
            self._progressed()
        if self.size > self._limits.max_instance_gib * _GIB:
            self.too_large = True
            return
        if self.size >= self._next_check:
            self._next_check = self.size + _DISK_CHECK_BYTES
            self._limits.check(self._folder)
        if self._small is None:
            self._put(piece)
            return
        self._small += piece
        if len(self._small) > _SMALL:
            whole, self._small = bytes(self._small), None
            self._put(whole)

    def finish(self, *, durable: bool = False) -> HeldInstance | Fault:
        """Close and examine the file, which keeps its part name. ``durable`` forces it to the disk first."""
        assert self._file is not None
        content = None if self._small is None or self.too_large else bytes(self._small)
        if content is not None:
            _write_all(self._file, content)
        if durable:
            os.fsync(self._file)
        self._close()
        if self.too_large:
            limit = f"{self._limits.max_instance_gib:g}"
            return Fault("too-large", f"the instance is larger than max_instance_gib = {limit}")
        return examine(self.path, self._digest.hexdigest() if self._digest else "", content)

    def header(self) -> Part10Header | Fault:
        """What the file says of itself so far."""
        if self._small is not None:
            return header_of(bytes(self._small))
        return read_part10_header(self.path)

    def named(self) -> None:
        """Note that the file has another name now: nothing is left to remove."""
        self._named = True

    def discard(self) -> None:
        """Remove the file, if it is still there."""
        self._close()
        if self._digest is not None:
            self._digest.close()
        if not self._named:
            with suppress(FileNotFoundError):
                os.unlink(self.path)

    def _put(self, piece: bytes | memoryview) -> None:
        assert self._file is not None
        if self._digest is None:
            self._digest = InlineDigest() if self._pool is None else OverlappedDigest(self._pool)
        _write_all(self._file, piece)
        self._digest.update(piece)

    def _close(self) -> None:
        descriptor, self._file = self._file, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


class Spool:
    """The instances of one study under one private folder. Methods may be called from several threads.

    Files of an earlier attempt are examined again and kept; part files of one that died are removed.
    """

    def __init__(self, study_instance_uid: str, folder: Path, limits: DiskLimits) -> None:
        self.study_instance_uid = study_instance_uid
        self.folder = folder
        self.last_progress = time.monotonic()
        self.stopped: StopRun | None = None
        self._limits = limits
        self._lock = threading.Condition()
        self._held: dict[str, HeldInstance] = {}
        self._damaged: dict[tuple[str, str], DamagedInstance] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        limits.check(folder)
        self._adopt()

    def open(self, pool: Executor | None = None) -> PartFile:
        """A part file in the spool's folder; what is written to it counts as progress."""
        return PartFile(self.folder, self._limits, self.progressed, pool)

    def progressed(self) -> None:
        """Note that bytes arrived: stall deadlines start again."""
        self.last_progress = time.monotonic()

    def stop(self, reason: StopRun) -> None:
        """Keep a reason to end the run that a receiving thread met, for ``check`` to raise."""
        self.stopped = reason

    def check(self) -> None:
        """Raise what ``stop`` kept."""
        if self.stopped is not None:
            raise self.stopped

    def keep(self, part: PartFile, *, expected: str = "", named: str = "") -> HeldInstance | DamagedInstance:
        """Finish ``part``: a sound instance of this study stays under its SOP Instance UID, anything else is
        noted.

        ``expected`` is the SOP Instance UID that was asked for, where there is one: no other will do. ``named`` is the
        one that a C-STORE names: the data set knows better (``Lenience.META_UID``).
        """
        found = part.finish()
        if isinstance(found, HeldInstance):
            found = self._misplaced(found, expected) or found
        with self._lock:
            self.progressed()
            self._lock.notify_all()
            if isinstance(found, Fault):
                return self._note(found, expected or named)
            return self._place(found)

    def held(self) -> frozenset[str]:
        """SOP Instance UIDs held so far."""
        with self._lock:
            return frozenset(self._held)

    def wait_for(self, sop_instance_uids: frozenset[str], quiet_seconds: float) -> None:
        """Wait until all of these have come, sound or not, or nothing has for ``quiet_seconds``."""
        begun = time.monotonic()
        with self._lock:
            while not sop_instance_uids <= self._held.keys() | {uid for uid, _ in self._damaged}:
                left = max(self.last_progress, begun) + quiet_seconds - time.monotonic()
                if left <= 0:
                    return
                self._lock.wait(left)

    def is_damaged(self, sop_instance_uid: str) -> bool:
        """True where the archive sent this instance, and it was not usable."""
        with self._lock:
            return any(uid == sop_instance_uid for uid, _ in self._damaged)

    def lacking(self, wanted: Iterable[AnnouncedInstance]) -> tuple[AnnouncedInstance, ...]:
        """Of these what neither is held nor came and could not be used."""
        with self._lock:
            came = {*self._held, *(uid for uid, _ in self._damaged)}
        return tuple(instance for instance in wanted if instance.ref.sop_instance_uid not in came)

    @property
    def refused(self) -> int:
        """How many things came that could not be used."""
        with self._lock:
            return len(self._damaged)

    def note(self, sop_instance_uid: str, code: str, message: str) -> None:
        """Record something of the study that could not be had as a usable file."""
        with self._lock:
            self._note(Fault(code, message), sop_instance_uid)

    def outcome(
        self,
        announced: tuple[AnnouncedInstance, ...],
        failure: FirstreadError | None,
        unfetched: Iterable[UnfetchedInstance] = (),
    ) -> FetchedStudy:
        """What the fetch brought, against what was announced, however it ended.

        Raises ``failure`` when nothing came or the run cannot go on; RetryLater when nothing came for no stated reason.
        """
        fetched = self.fetched(announced, unfetched)
        if isinstance(failure, StopRun):
            raise failure
        if not fetched.held and not fetched.damaged and announced:
            raise failure or RetryLater(
                "nothing-came", "the archive sent nothing without saying why: see its log"
            )
        if failure is not None:
            log.warning("a fetch ended early: %s", failure)
        return fetched

    def fetched(
        self, announced: Iterable[AnnouncedInstance], unfetched: Iterable[UnfetchedInstance] = ()
    ) -> FetchedStudy:
        """What the fetch brought, against what was announced; ``unfetched`` but for what an earlier attempt brought."""
        with self._lock:
            held = tuple(sorted(self._held.values(), key=lambda instance: instance.ref.sop_instance_uid))
            damaged = tuple(
                damage
                for (uid, code), damage in sorted(self._damaged.items())
                if code in ("duplicate-conflict", "two-patients") or uid not in self._held
            )
            left = tuple(one for one in unfetched if one.ref.sop_instance_uid not in self._held)
        return FetchedStudy(self.study_instance_uid, tuple(announced), held, damaged, self.folder, left)

    def _adopt(self) -> None:
        for path in sorted(self.folder.iterdir()):
            if path.suffix == PART_SUFFIX:
                path.unlink(missing_ok=True)
            elif path.suffix == ".dcm" and path.is_file():
                found = examine(path)
                if isinstance(found, Fault) or self._misplaced(found, path.stem):
                    path.unlink(missing_ok=True)
                else:
                    self._held[found.ref.sop_instance_uid] = found

    def _misplaced(self, found: HeldInstance, expected: str) -> Fault | None:
        if found.ref.study_instance_uid != self.study_instance_uid:
            return Fault("wrong-study", "the archive sent an instance of another study")
        if expected and found.ref.sop_instance_uid != expected:
            return Fault("wrong-instance", "the archive sent another instance than the one announced")
        return None

    def _place(self, found: HeldInstance) -> HeldInstance | DamagedInstance:
        uid = found.ref.sop_instance_uid
        earlier = self._held.get(uid)
        if earlier is None:
            path = self.folder / f"{uid}.dcm"
            found.path.replace(path)
            self._held[uid] = moved(found, path)
            return self._held[uid]
        if earlier.sha256 == found.sha256:
            found.path.unlink(missing_ok=True)
            return earlier
        patients = {number for one in (earlier, found) if (number := _patient(one.path))}
        found.path.unlink(missing_ok=True)
        return self._note(_conflict(patients), uid)

    def _note(self, fault: Fault, expected: str) -> DamagedInstance:
        damage = DamagedInstance(expected or fault.sop_instance_uid, fault.code, fault.message)
        self._damaged.setdefault((damage.sop_instance_uid, damage.code), damage)
        return damage


def examine(path: Path, sha256: str = "", content: bytes | None = None) -> HeldInstance | Fault:
    """The instance in the file at ``path``, or what is wrong with it.

    ``sha256`` is its digest and ``content`` are its bytes, where they are known. A file without a sound file meta group
    gets one in its place: every reader behind this one sees PS3.10 files.
    """
    if content is None:
        header = read_part10_header(path)
    else:
        digest = WalkedDigest()
        header = header_of(content, digest=digest)
        sha256 = digest.hexdigest()
    if isinstance(header, Part10Header) and header.lenience:
        _rewrap(path, header)
        sha256, content = "", None
    if isinstance(header, Fault):
        return header
    return HeldInstance(
        ref=InstanceRef(header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid),
        path=path,
        sha256=sha256 or content_digest(path),
        size=path.stat().st_size if content is None else len(content),
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        lenience=all_lenience(header),
    )


def lenience_of(path: Path) -> tuple[str, ...]:
    """What was read leniently of the file at ``path`` when it was received; () where it cannot be read."""
    header = read_part10_header(path)
    return all_lenience(header) if isinstance(header, Part10Header) else ()


def _conflict(patients: set[bytes]) -> Fault:
    """Why an instance that came twice with two contents is not believed."""
    if len(patients) > 1:
        return Fault("two-patients", "one SOP Instance UID came under two patient numbers")
    return Fault(
        "duplicate-conflict", "the same SOP Instance UID came again with other bytes; the first is kept"
    )


def _patient(path: Path) -> bytes:
    """The Patient ID in a file, without padding and case."""
    header = read_part10_header(path, frozenset({PATIENT_ID}))
    return header.values.get(PATIENT_ID, b"").strip(b" \0").lower()


def moved(held: HeldInstance, path: Path) -> HeldInstance:
    """The same instance at another path."""
    return replace(held, path=path)


def _rewrap(path: Path, header: Part10Header) -> None:
    """Give the file at ``path`` a file meta group of our own."""
    target = path.with_name(f"{uuid.uuid4().hex}{PART_SUFFIX}")
    try:
        rewrapped(path, header, target)
        target.replace(path)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise StopRun(
            "disk-full", f"the fetch folder cannot be written ({error.strerror}): free some disk"
        ) from None


def _write_all(descriptor: int, piece: bytes | memoryview) -> None:
    rest = memoryview(piece)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        raise StopRun(
            "disk-full", f"the fetch folder cannot be written ({error.strerror}): free some disk"
        ) from None
