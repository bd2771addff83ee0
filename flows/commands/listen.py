"""``firstread listen``: receive what a PACS pushes, decide that a study is complete, start its drafting.

A C-STORE is answered with Success only when the file is on the disk and its row in the inbox. A study is handed over
when nothing more of it came for a while and all that the archive itself announces is here; where the archive announces
more, its fetch brings the rest, after a longer wait. The event names the ledger row and nothing else.
"""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flows import study_event
from flows.environment.prefect_api import site_api
from flows.environment.workplace import Workplace
from flows.received import remove_leftovers
from pipeline.archive.dimse.caller import Sender
from pipeline.archive.dimse.committing import Arrival
from pipeline.archive.dimse.storage_scp import StorageScp
from pipeline.errors import FirstreadError, RetryLater, SkipStudy
from pipeline.settings import Settings
from pipeline.store.values import QuietStudy
from pipeline.study import FoundStudy, HeldInstance, StudyQuery

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
PATIENCE = 6


def listen_forever(settings: Settings) -> None:
    """Listen until interrupted. Raises ConfigurationError when the listening archive is not configured."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    recorded = bool(site_api(settings))
    if not recorded:
        log.warning("no Prefect API is configured: what is received is drafted by the next `firstread run`")
    with Workplace(settings) as place:
        inbox = Inbox(place, study_event.emit if recorded else None)
        remove_leftovers(place)
        scp = StorageScp(
            host=settings.listen.host,
            port=settings.listen.port,
            ae_title=settings.listen.ae_title,
            folder=settings.data_dir / "inbox",
            record=inbox.take,
            min_free_gib=settings.listen.min_free_gib,
        )
        with scp:
            sys.stderr.write(
                f"listening as {settings.listen.ae_title} on {settings.listen.host}:{scp.port} (stop with Ctrl-C)\n"
            )
            sys.stderr.flush()
            while not stop.wait(LOOK_SECONDS):
                inbox.look()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A quiet study that is not complete yet, and when to ask its archive again (monotonic seconds)."""

    since: float
    ask_at: float


class Inbox:
    """Takes instances into the store, and hands over the studies that are complete."""

    def __init__(self, place: Workplace, announce: Callable[[int], None] | None = None) -> None:
        """``announce`` is told the ledger row of each study handed over; without it a sweep finds them."""
        self._place = place
        self._announce = announce
        self._archive = place.settings.listen.archive
        self._quiet = place.settings.listen.quiet_seconds
        self._waiting: dict[str, Waiting] = {}
        place.archive(self._archive)

    def take(self, arrivals: Sequence[Arrival]) -> None:
        """Record what came, before its C-STORE is answered. Raises RetryLater when the database is away."""
        by_sender: dict[Sender, list[HeldInstance]] = {}
        for one in arrivals:
            by_sender.setdefault(one.sender, []).append(one.instance)
        for sender, instances in by_sender.items():
            self._place.store.record_received(self._archive, instances, sender.calling)

    def look(self) -> None:
        """Hand over every quiet study that is complete, or has waited long enough."""
        try:
            quiet = self._place.store.quiet_studies(self._quiet, self._archive)
        except RetryLater as error:
            log.warning("the inbox waits: %s", error)
            return
        for study in quiet:
            waiting = self._waiting.get(study.study_instance_uid)
            if waiting and time.monotonic() < waiting.ask_at:
                continue
            try:
                self._consider(study, waiting)
            except FirstreadError as error:
                log.warning("a received study waits: %s", error)
                self._wait(study.study_instance_uid, waiting)

    def _consider(self, study: QuietStudy, waiting: Waiting | None) -> None:
        study_instance_uid = study.study_instance_uid
        received = {
            one.ref.sop_instance_uid
            for one in self._place.store.received_instances(self._archive, study_instance_uid)
        }
        try:
            announced = self._place.archive(self._archive).instances(study_instance_uid)
        except SkipStudy:
            announced = ()  # pushed by someone whose archive does not know it yet
        missing = [one for one in announced if one.ref.sop_instance_uid not in received]
        patient = waiting is None or time.monotonic() - waiting.since < PATIENCE * self._quiet
        if (missing or not announced) and patient:
            self._wait(study_instance_uid, waiting)
            return
        self._hand_over(study)
        self._waiting.pop(study_instance_uid, None)

    def _wait(self, study_instance_uid: str, waiting: Waiting | None) -> None:
        now = time.monotonic()
        self._waiting[study_instance_uid] = Waiting(waiting.since if waiting else now, now + self._quiet)

    def _hand_over(self, study: QuietStudy) -> None:
        """Write the ledger row and announce it. Without a Prefect API the next sweep drafts the study."""
        place, uid = self._place, study.study_instance_uid
        found = list(place.archive(self._archive).find(StudyQuery(study_instance_uids=(uid,))))
        recipe = place.recipe
        place.store.record_found(self._archive, recipe, found or [_pushed(study)])
        place.store.hand_over(self._archive, uid, study.newest)
        (ledger_id,) = place.store.ledger_ids(self._archive, recipe, [uid])
        if self._announce is not None:
            self._announce(ledger_id)
        log.info("ledger row %d is complete", ledger_id)


def _pushed(study: QuietStudy) -> FoundStudy:
    """A study that was pushed and that the archive does not know (yet)."""
    return FoundStudy(study.study_instance_uid, None, (), "", study.instances, "")
