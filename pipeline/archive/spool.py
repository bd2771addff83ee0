"""The working folder of one fetch: the instances that are held, by SOP Instance UID, and what came unusable."""

import logging
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Executor
from pathlib import Path

from pipeline.archive.instance_file import PART_SUFFIX, DiskLimits, PartFile, examine, moved
from pipeline.archive.part10 import (
    Fault,
    read_part10_header,
)
from pipeline.archive.study_answers import PATIENT_ID
from pipeline.errors import FirstreadError, RetryLater, StopRun
from pipeline.study import (
    AnnouncedInstance,
    DamagedInstance,
    FetchedStudy,
    HeldInstance,
    UnfetchedInstance,
)

log = logging.getLogger(__name__)


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
