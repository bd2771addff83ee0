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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from flows import study_event
from flows.announcing import Announcing
from flows.environment.listener_health import (
    ListenerHealth,
    exit_now,
    hears,
    remove_health,
    write_health,
)
from flows.environment.prefect_api import site_api
from flows.environment.recipe_process import asked_recipe
from flows.environment.senders import Refusals, is_allowed, read_senders
from flows.environment.workplace import Workplace, archive_recipe
from flows.handing_over import HandingOver
from flows.received import remove_leftovers
from flows.tally import STOPPED
from pipeline.archive.dimse.committing import Arrival
from pipeline.archive.dimse.storage_scp import StorageScp
from pipeline.errors import FirstreadError, StopRun
from pipeline.settings import Settings

log = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
PROBE_EVERY = 10
"""Watches from one call of our own port to the next."""
DEAF_AFTER = 6
"""Calls in vain after which the command ends, so that whoever supervises it starts it again."""
STOP_SECONDS = 4.0
TELL_SECONDS = 20.0


def listen_forever(settings: Settings) -> None:
    """Listen until interrupted.

    Raises ConfigurationError when the listening archive is not configured, StopRun when a folder cannot be written or
    the port does not answer any more.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    allowed, refusals = read_senders(settings.listen.senders), Refusals()
    recorded = bool(site_api(settings))
    if not recorded:
        log.warning(
            "no Prefect API is configured ([prefect] api_url, or the variable PREFECT_API_URL): `firstread work`, or "
            "the next `firstread run`, drafts what comes"
        )
    with _ends_in_time(stop), Workplace(settings) as workplace:
        handing_over = HandingOver(
            workplace,
            lambda: archive_recipe(
                settings, settings.listen.archive, workplace.known_recipe or asked_recipe(settings)
            ),
        )
        announcing = Announcing(workplace, lambda: handing_over.recipe, study_event.emit)
        remove_leftovers(workplace)
        last_received: list[float] = []
        scp = StorageScp(
            host=settings.listen.host,
            port=settings.listen.port,
            ae_title=settings.listen.ae_title,
            folder=settings.data_dir / "inbox",
            record=partial(take, workplace, last_received),
            min_free_gib=settings.listen.min_free_gib,
            allows=partial(is_allowed, allowed=allowed),
            refused=refusals.add,
        )
        with scp:
            sys.stderr.write(
                f"listening as {settings.listen.ae_title} on {settings.listen.host}:{scp.port} (stop with Ctrl-C)\n"
            )
            sys.stderr.flush()
            handing_over.start()
            if recorded:
                announcing.start()
            try:
                _watch(workplace, scp, stop, refusals, last_received)
            finally:
                announcing.stop()
                handing_over.stop()
                _tell(workplace, refusals)
                with suppress(OSError):
                    remove_health(settings.data_dir)


def take(workplace: Workplace, last_received: list[float], arrivals: Sequence[Arrival]) -> None:
    """Record what came, before its C-STORE is answered, and when. Raises RetryLater when the database is away."""
    workplace.store.inbox.record(
        workplace.settings.listen.archive,
        [one.instance for one in arrivals],
        [str(one.sender) for one in arrivals],
    )
    last_received[:] = [time.time()]


def _tell(workplace: Workplace, refusals: Refusals) -> None:
    try:
        refusals.flush(
            workplace.settings.policy.organization,
            workplace.store.append_audit,
            partial(workplace.store.sweeps.note_refused, workplace.settings.listen.archive),
        )
    except FirstreadError as error:
        log.warning("refusals are not in the audit yet: %s", error)


def _tell_now_and_then(workplace: Workplace, stop: threading.Event, refusals: Refusals) -> None:
    """One event for each sender and reason at most every ``TELL_SECONDS``, with how many they were."""
    while not stop.wait(TELL_SECONDS):
        _tell(workplace, refusals)


def _watch(
    workplace: Workplace,
    scp: StorageScp,
    stop: threading.Event,
    refusals: Refusals,
    last_received: list[float],
) -> None:
    """Say how the listener is until it is stopped. Raises StopRun when it is deaf for good."""
    settings, turn, deaf = workplace.settings, 0, 0
    threading.Thread(target=_tell_now_and_then, args=(workplace, stop, refusals), daemon=True).start()
    while not stop.wait(WATCH_SECONDS):
        hearing = scp.hearing()
        if not hearing.alive:
            raise StopRun("deaf", "the listener hears nothing any more; start it again")
        if turn % PROBE_EVERY == 0:
            heard = hears(settings.listen.host, scp.port, settings.listen.ae_title)
            deaf = 0 if heard else deaf + 1
            if deaf == DEAF_AFTER:
                raise StopRun("deaf", "our own port did not answer for a minute; start the listener again")
            health = ListenerHealth(
                heard, hearing.deaf_since is None, scp.recording, hearing.associations, hearing.waiting,
                hearing.refused, hearing.sent_away, time.time(),
                f"{settings.listen.ae_title} on {settings.listen.host}:{scp.port}", hearing.places,
                last_received[0] if last_received else None,
            )  # fmt: skip
            try:
                write_health(settings.data_dir, health)
            except OSError as error:
                log.warning("data_dir cannot be written (%s)", error.strerror or type(error).__name__)
        turn += 1


@contextmanager
def _ends_in_time(stop: threading.Event, end: Callable[[int], None] = exit_now) -> Iterator[None]:
    """End the process within ``STOP_SECONDS`` of ``stop``, whoever does not answer: all that counts is durable."""
    over = threading.Event()

    def watch() -> None:
        stop.wait()
        if not over.wait(STOP_SECONDS):
            sys.stderr.write("firstread: the database or the archive does not answer; ended without it\n")
            sys.stderr.flush()
            end(STOPPED)

    threading.Thread(target=watch, name="ends-in-time", daemon=True).start()
    try:
        yield
    finally:
        over.set()
