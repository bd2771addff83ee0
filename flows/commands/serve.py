"""The review page and FHIR REST, joined to the store and to the audit."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from flows.environment.listener_health import read_health
from flows.environment.noted_configuration import note_configuration
from flows.environment.site import site_of
from flows.knowledge import SiteKnowledge
from pipeline.fhir.audit_events import rest_access, study_reopened
from pipeline.fhir.codes import finding_name
from pipeline.fhir.door_events import door as door_event
from pipeline.fhir.published import published
from pipeline.lookup import FailedPage, FailedStudy, ReportRow
from pipeline.settings import Settings
from pipeline.store.opening import Purpose, open_store
from pipeline.store.store import Store
from pipeline.web.addresses import Addresses
from pipeline.web.app import create_app
from pipeline.web.doors import TELL_SECONDS, Doors
from pipeline.web.reader import Access, Audit, DoorEvent
from pipeline.web.serving import serve


def serve_forever(settings: Settings, *, host: str | None, port: int | None) -> None:
    """Serve until interrupted.

    Raises ConfigurationError off loopback without a long enough token, or where the port is taken.
    """
    host = host or settings.serve.host
    port = settings.serve.port if port is None else port
    token = settings.serve.token.get_secret_value()
    addresses = Addresses.of(
        settings.serve.public_url, settings.serve.trusted_proxies, settings.serve.person_header
    )
    with open_store(settings, purpose=Purpose.SERVE) as store:
        note_configuration(settings, store)
        app = create_app(
            store,
            token=token,
            audit=auditor(store),
            clock=lambda: datetime.now(UTC),
            addresses=addresses,
            published=published(),
            listener=partial(_listener, settings),
            names=finding_name,
            viewer_url=settings.serve.viewer_url,
            knowledge=SiteKnowledge(store, settings.knowledge) if settings.knowledge else None,
            anew=partial(draft_anew, settings, store),
            failures=SiteFailures(settings, store),
        )
        with _told_at_intervals(app.state.doors):
            serve(app, host, port, ready=partial(_say, token))


def draft_anew(settings: Settings, store: Store, report: ReportRow, asked_by: str) -> bool:
    """A person asks on the page that a study be drafted anew; False where it cannot be."""
    site, now = site_of(settings, report.archive), datetime.now(UTC)
    event = study_reopened(site, report.study_instance_uid, asked_by, "asked on its page", now, again=True)
    return store.standing.draft_anew(report.report_id, event)


@dataclass(frozen=True, slots=True)
class SiteFailures:
    """The studies of a site that failed; see ``pipeline.web.failed_pages.FailureReader``."""

    settings: Settings
    store: Store

    def count(self) -> int:
        """How many."""
        return self.store.failures.count()

    def page(self, limit: int, after: str) -> FailedPage:
        """One page. Raises ValueError for a page token that is not of it."""
        return self.store.failures.page(limit, after)

    def find(self, ledger_id: int) -> FailedStudy | None:
        """One of them, or None."""
        return self.store.failures.find(ledger_id)

    def draft_anew(self, failed: FailedStudy, asked_by: str) -> bool:
        """A person asks on the page that it be drafted anew; False where it cannot be."""
        site, now = site_of(self.settings, failed.archive), datetime.now(UTC)
        why = f"asked on the page of failed studies ({failed.code})"
        event = study_reopened(site, failed.study_instance_uid, asked_by, why, now, again=True)
        return self.store.failures.draft_anew(failed.ledger_id, event)


def _listener(settings: Settings) -> dict[str, str | int | None] | None:
    health = read_health(settings.data_dir)
    return health.told(time.time()) if health else None


def _say(token: str, address: str) -> None:
    sys.stderr.write(f"review page and FHIR R4 on {address} (stop with Ctrl-C)\n")
    if not token:
        sys.stderr.write("no [serve] token is set: every account of this machine can read every report\n")
    sys.stderr.flush()


@contextmanager
def _told_at_intervals(doors: Doors) -> Iterator[None]:
    """Tell the audit of refusals that were counted since, once a minute and at the end."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(TELL_SECONDS):
            doors.flush()

    teller = threading.Thread(target=tell, name="doors", daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join(TELL_SECONDS)
        doors.flush()


def auditor(store: Store) -> Audit:
    """Writes each access as AuditEvents before the answer is given."""

    def write(told: Sequence[Access | DoorEvent]) -> None:
        events = ((door_event(one),) if isinstance(one, DoorEvent) else rest_access(one) for one in told)
        store.append_audit([event for each in events for event in each])

    return write
