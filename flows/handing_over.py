"""Handing received studies over: when nothing more of one came for a while and its archive is content, it is work.

Threads of its own look, ask the archive and write the ledger row: an archive that stalls keeps neither the senders nor
the other studies nor the end of the command waiting.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from flows.environment.workplace import Workplace
from flows.received import pushed_events, pushed_study, remove_received
from pipeline.errors import FirstreadError, SkipStudy
from pipeline.store.values import QuietStudy
from pipeline.study import StudyQuery

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
PATIENCE = 6
ASKED_AT_ONCE = 6
_MOST_DOUBLINGS = 5


@dataclass(frozen=True, slots=True)
class Waiting:
    """A quiet study that is not complete yet: since when, when to ask again (monotonic), and how often that failed."""

    since: float
    ask_at: float
    failures: int = 0


class HandingOver:
    """Looks for quiet studies from ``start`` to ``stop``; ``recipe`` may take as long as a model takes to open.

    What was pushed again as it was is settled and no work. Who drafts the rest: ``announcing``.
    """

    def __init__(self, workplace: Workplace, recipe: Callable[[], str]) -> None:
        self._workplace = workplace
        self._archive = workplace.settings.listen.archive
        self._quiet = workplace.settings.listen.quiet_seconds
        self._ask_recipe = recipe
        self._recipe = ""
        self._opening = threading.Lock()
        self._waiting: dict[str, Waiting] = {}
        self._asked: dict[str, int] = {}
        self._lock = threading.Lock()
        self._studies: queue.SimpleQueue[QuietStudy] = queue.SimpleQueue()
        self._stop = threading.Event()
        workplace.archive(self._archive)

    @property
    def recipe(self) -> str:
        """The recipe under which studies are handed over; "" before the first one."""
        return self._recipe

    def start(self) -> None:
        """Begin to look. The threads end with the process: what they have not written, whoever comes next does."""
        names = ["inbox-looks", *(f"inbox-asks-{number}" for number in range(ASKED_AT_ONCE))]
        for name in names:
            work = self._look_on if name == "inbox-looks" else self._ask_on
            threading.Thread(target=work, name=name, daemon=True).start()

    def stop(self) -> None:
        """Begin nothing more."""
        self._stop.set()

    def look(self) -> None:
        """Have every quiet study that is due asked about, those that failed least first."""
        quiet = self._workplace.store.inbox.quiet_studies(self._quiet, self._archive)
        now = time.monotonic()
        with self._lock:
            known = {one.study_instance_uid for one in quiet}
            self._waiting = {uid: one for uid, one in self._waiting.items() if uid in known}
            due = [one for one in quiet if one.study_instance_uid not in self._asked and self._due(one, now)]
            for study in sorted(due, key=self._failures):
                failures = self._failures(study)
                if len(self._asked) == ASKED_AT_ONCE or (failures and self._trouble_enough()):
                    break
                self._asked[study.study_instance_uid] = failures
                self._studies.put(study)

    def consider(self, study: QuietStudy) -> None:
        """Ask the archive about one quiet study, and hand it over when it is complete or has waited long enough."""
        uid = study.study_instance_uid
        with self._lock:
            waiting = self._waiting.get(uid)
        try:
            announced = self._announced(uid)
            if self._settled_again(study, announced):
                self._forget(uid)
            elif self._complete(uid, announced) or not self._patient(waiting):
                self._hand_over(study)
                self._forget(uid)
            else:
                self._wait(uid, waiting, failed=False)
        except FirstreadError as error:
            log.warning("a received study waits: %s", error)
            self._wait(uid, waiting, failed=True)

    def _look_on(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
            except FirstreadError as error:
                log.warning("the inbox waits: %s", error)
            except Exception as error:  # noqa: BLE001 - its text may hold a value; the next look may do better
                log.error("the inbox was not looked at: %s", type(error).__name__)

    def _ask_on(self) -> None:
        while not self._stop.is_set():
            study = self._studies.get()
            try:
                self.consider(study)
            except Exception as error:  # noqa: BLE001 - one study never ends a thread that others need
                log.error("a received study waits: %s", type(error).__name__)
                self._wait(study.study_instance_uid, self._waiting.get(study.study_instance_uid), failed=True)
            finally:
                with self._lock:
                    del self._asked[study.study_instance_uid]

    def _due(self, study: QuietStudy, now: float) -> bool:
        waiting = self._waiting.get(study.study_instance_uid)
        return waiting is None or now >= waiting.ask_at

    def _trouble_enough(self) -> bool:
        """Half of the threads are for studies about which the archive was asked in vain before."""
        return sum(1 for failures in self._asked.values() if failures) >= ASKED_AT_ONCE // 2

    def _failures(self, study: QuietStudy) -> int:
        waiting = self._waiting.get(study.study_instance_uid)
        return waiting.failures if waiting else 0

    def _patient(self, waiting: Waiting | None) -> bool:
        return waiting is None or time.monotonic() - waiting.since < PATIENCE * self._quiet

    def _announced(self, study_instance_uid: str) -> frozenset[str]:
        """SOP Instance UIDs that the archive counts of a study; none where it does not know it."""
        try:
            announced = self._workplace.archive(self._archive).instances(study_instance_uid)
        except SkipStudy:
            log.debug("pushed by someone whose archive does not know it yet")
            return frozenset()
        return frozenset(one.ref.sop_instance_uid for one in announced)

    def _complete(self, study_instance_uid: str, announced: Collection[str]) -> bool:
        """Whether the archive knows the study and all that it counts is here."""
        received = self._workplace.store.inbox.instances(self._archive, study_instance_uid)
        held = {one.ref.sop_instance_uid for one in received}
        return bool(announced) and held.issuperset(announced)

    def _settled_again(self, study: QuietStudy, announced: Collection[str]) -> bool:
        """Whether all of it was pushed before and the outcome in force rests on it: its files go, and that is all."""
        workplace, uid = self._workplace, study.study_instance_uid
        events = pushed_events(workplace, self._archive, uid, datetime.now(UTC))
        settled = workplace.store.inbox.settle_known(
            self._archive, self._known_recipe(), study, announced, events
        )
        if settled:
            remove_received(workplace.store, self._archive, (uid,))
            log.info("%d instances came again as they were; nothing to do", settled)
        return settled > 0

    def _wait(self, study_instance_uid: str, waiting: Waiting | None, *, failed: bool) -> None:
        now = time.monotonic()
        failures = waiting.failures + 1 if waiting and failed else int(failed)
        pause = self._quiet * 2 ** min(max(0, failures - 1), _MOST_DOUBLINGS)
        with self._lock:
            self._waiting[study_instance_uid] = Waiting(
                waiting.since if waiting else now, now + pause, failures
            )

    def _forget(self, study_instance_uid: str) -> None:
        with self._lock:
            self._waiting.pop(study_instance_uid, None)

    def _known_recipe(self) -> str:
        with self._opening:
            if not self._recipe:
                self._recipe = self._ask_recipe()
            return self._recipe

    def _hand_over(self, study: QuietStudy) -> None:
        """Write the ledger row; from now on the study is work."""
        workplace, uid = self._workplace, study.study_instance_uid
        found = list(workplace.archive(self._archive).find(StudyQuery(study_instance_uids=(uid,))))
        recipe = self._known_recipe()
        workplace.store.append_audit(pushed_events(workplace, self._archive, uid, datetime.now(UTC)))
        workplace.store.record_found(self._archive, recipe, found or [pushed_study(study)])
        workplace.store.inbox.hand_over(self._archive, uid, study.newest)
        (ledger_id,) = workplace.store.ledger_ids(self._archive, recipe, [uid])
        log.info("ledger row %d is complete", ledger_id)
