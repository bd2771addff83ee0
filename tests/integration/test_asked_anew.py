"""The buttons of the page: a study is drafted anew, one that failed too, and the audit says who asked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from flows.commands.serve import SiteFailures, draft_anew
from pipeline import settings as configuration
from pipeline.ledger import LedgerState
from pipeline.mending import advice
from pipeline.store.connections import VIEWER, libpq_url
from pipeline.store.migrations import head
from pipeline.store.store import Store
from pipeline.web import create_app, serving
from pipeline.web.addresses import Addresses
from pipeline.web.reader import Access, DoorEvent
from tests.integration.test_standing import sign
from tests.invented_outcomes import invented_outcome, save_as_flows
from tests.sites import rows, write_site
from tests.store_samples import found, settled

PROXY = Addresses.of("", ["127.0.0.1"], "X-Person")
DOCTOR = {"X-Person": "Dr. Who"}
BUTTON = 'action="/reports/report-{}/anew"'


@dataclass(slots=True)
class Told:
    """What the page has told the audit."""

    accesses: list[Access | DoorEvent] = field(default_factory=list)

    def __call__(self, told: Sequence[Access | DoorEvent]) -> None:
        self.accesses += told


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def client(database_url: str, tmp_path: Path, told: Told) -> Iterator[httpx.Client]:
    """A page over two reports, read as `serve` does; the second is signed."""
    settings = configuration.load(
        write_site(tmp_path, database_url, {"main": {"kind": "folder", "path": "/"}})
    )
    with Store(database_url) as store:
        save_as_flows(store, [invented_outcome(0), invented_outcome(1)])
    sign(database_url, "report-1")
    with Store(database_url, revision=head(), role=VIEWER) as store:
        app = create_app(
            store, token="a-token-of-this-site", audit=told, clock=lambda: datetime.now(UTC),
            addresses=PROXY, anew=partial(draft_anew, settings, store),
            failures=SiteFailures(settings, store),
        )  # fmt: skip
        with serving(app) as url, httpx.Client(base_url=url) as made:
            made.headers["authorization"] = "Bearer a-token-of-this-site"
            yield made


def states(database_url: str) -> list[tuple[Any, ...]]:
    return rows(database_url, "SELECT state, again FROM firstread.ledger ORDER BY report_id")


def test_a_person_has_a_study_drafted_anew(client: httpx.Client, database_url: str) -> None:
    assert BUTTON.format(0) in client.get("/reports/report-0").text
    foreign = client.post("/reports/report-0/anew", headers={"origin": "https://evil.example"})
    stranger = client.post("/reports/report-0/anew", headers={"authorization": "Bearer no"})
    assert (foreign.status_code, stranger.status_code) == (403, 303)
    assert states(database_url) == [("reported", False), ("reported", False)]

    asked = client.post("/reports/report-0/anew", headers=DOCTOR)
    assert (asked.status_code, "next run" in asked.text) == (202, True)
    assert states(database_url) == [("discovered", True), ("reported", False)]
    assert client.post("/reports/report-0/anew", headers=DOCTOR).status_code == 409, "it waits already"
    assert client.post("/reports/report-9/anew", headers=DOCTOR).status_code == 404
    events = rows(
        database_url,
        "SELECT chain, event ->> 'outcomeDesc', event #>> '{agent,0,name}' FROM firstread.audit_event "
        "WHERE event ->> 'outcomeDesc' LIKE 'reopened%'",
    )
    assert events == [("archive:main", "reopened to be drafted anew: asked on its page", "Dr. Who")]
    assert "Invented Person 0" in client.get("/reports/report-0").text, "the draft stays until another comes"
    with Store(database_url) as store:
        (held,) = store.claim("recipe", owner="o", limit=9, lease_seconds=60)
        assert held.again
        assert store.audit_verify(content=True).ok


def test_what_a_person_has_taken_over_is_not_drafted_anew(client: httpx.Client, database_url: str) -> None:
    assert BUTTON.format(1) not in client.get("/reports/report-1").text
    assert client.post("/reports/report-1/anew", headers=DOCTOR).status_code == 409
    with psycopg.connect(libpq_url(database_url)) as connection:
        connection.execute("SET ROLE firstread_viewer")
        asked = connection.execute("SELECT firstread.draft_anew('report-1', '{}')").fetchone()
    assert asked == (False,)
    assert states(database_url) == [("reported", False), ("reported", False)]


def test_the_page_says_that_a_signed_study_has_changed(client: httpx.Client, database_url: str) -> None:
    assert "Changed since" not in client.get("/reports/report-1").text
    with Store(database_url) as store:
        number = next(row.ledger_id for row in store.studies() if row.report_id == "report-1")
        store.standing.reopen([number], [], again=True)
        (claim,) = store.claim("recipe", owner="o", limit=1, lease_seconds=60)
        store.settle(settled(claim, LedgerState.FAILED, code="report-signed"))
    assert "Changed since a person took it over" in client.get("/reports/report-1").text
    assert "Changed since" not in client.get("/reports/report-0").text
    listed = client.get("/", params={"attention": "1"}).text
    assert "changed since signed" in listed
    assert "Invented Person 1" in listed


FAILED = 'action="/failed/{}/anew"'
LATER = datetime(2031, 2, 3, 4, 5, tzinfo=UTC)


def fail(database_url: str, numbers: Sequence[int], code: str, next_try: datetime | None = None) -> list[int]:
    """Studies that failed; gives their ledger ids."""
    with Store(database_url) as store:
        ids = store.record_found("main", "recipe", [found(one) for one in numbers]).ledger_ids_to_do
        for claim in store.claim("recipe", owner="o", limit=500, lease_seconds=60):
            reason = "the archive said <no> & closed"
            store.settle(
                settled(claim, LedgerState.FAILED, code=code, message=reason, next_attempt_at=next_try)
            )
    return list(ids)


def test_a_person_has_a_failed_study_drafted_anew(
    client: httpx.Client, database_url: str, told: Told
) -> None:
    assert "could not be drafted" not in client.get("/").text
    assert "No study has failed" in client.get("/failed").text
    (waits,) = fail(database_url, [8], "archive-busy", LATER)
    (rests,) = fail(database_url, [7], "archive-unreachable")
    assert 'href="/failed">2 studies could not be drafted' in client.get("/").text
    told.accesses.clear()
    shown = client.get("/failed").text
    assert shown.index(FAILED.format(rests)) < shown.index(FAILED.format(waits)), "the last failed first"
    for words in (
        "ACC7",
        "2.25.1007",
        "2026-02-08",
        "archive-unreachable",
        "1 time, last",
        "next <time class",
        "2031-02-03 04:05",
    ):
        assert words in shown
    assert "the archive said &lt;no&gt; &amp; closed" in shown
    assert advice("archive-unreachable") in unescape(shown)
    assert "Machine-made draft" in shown
    assert [(one.resource_type, one.succeeded) for one in told.accesses if isinstance(one, Access)] == [
        ("ImagingStudy", True)
    ]

    address = f"/failed/{rests}/anew"
    foreign = client.post(address, headers={"origin": "https://evil.example"})
    stranger = client.post(address, headers={"authorization": "Bearer no"})
    assert (foreign.status_code, stranger.status_code, client.get(address).status_code) == (403, 303, 405)
    which = (
        "SELECT state, again, attempts FROM firstread.ledger WHERE ledger_id IN (%s, %s) ORDER BY ledger_id"
    )
    both = which % (waits, rests)
    assert rows(database_url, both) == [("failed", False, 1), ("failed", False, 1)]
    asked = client.post(address, headers=DOCTOR)
    assert (asked.status_code, "next run" in asked.text) == (202, True)
    assert rows(database_url, both) == [("failed", False, 1), ("discovered", True, 0)]
    events = rows(
        database_url,
        "SELECT chain, event ->> 'outcomeDesc', event #>> '{agent,0,name}' FROM firstread.audit_event "
        "WHERE event ->> 'outcomeDesc' LIKE 'reopened%'",
    )
    why = "reopened to be drafted anew: asked on the page of failed studies (archive-unreachable)"
    assert events == [("archive:main", why, "Dr. Who")]
    assert client.post(address, headers=DOCTOR).status_code == 404, "it waits already"
    for number in ("0", "-1", "x", "9" * 30):
        assert client.post(f"/failed/{number}/anew", headers=DOCTOR).status_code == 404
    assert 'href="/failed">1 study could not be drafted' in client.get("/").text
    with Store(database_url) as store:
        (held,) = store.claim("recipe", owner="o", limit=9, lease_seconds=60)
        assert (held.again, held.ledger_id) == (True, rests)
        assert store.audit_verify(content=True).ok


def test_a_failed_study_that_a_person_has_taken_over_stays(
    client: httpx.Client, database_url: str, told: Told
) -> None:
    with Store(database_url) as store:
        number = {row.report_id: row.ledger_id for row in store.studies()}
        store.standing.reopen(list(number.values()), [{}, {}], again=True)
        for claim in store.claim("recipe", owner="o", limit=2, lease_seconds=60):
            store.settle(settled(claim, LedgerState.FAILED, code="report-signed"))
    told.accesses.clear()
    shown = client.get("/failed").text
    assert FAILED.format(number["report-0"]) in shown, "its draft stands, and nobody has signed it"
    assert FAILED.format(number["report-1"]) not in shown
    assert 'href="/reports/report-0">an earlier draft' in shown
    assert 'href="/reports/report-1">the report' in shown
    (access,) = told.accesses
    assert isinstance(access, Access)
    assert access.patients == ("patient-0", "patient-1"), "the audit names whose records were shown"
    assert client.post(f"/failed/{number['report-1']}/anew", headers=DOCTOR).status_code == 409
    with psycopg.connect(libpq_url(database_url)) as connection:
        connection.execute("SET ROLE firstread_viewer")
        ask = "SELECT firstread.draft_failed_anew(%s, %s)"
        assert connection.execute(ask, [number["report-1"], "{}"]).fetchone() == (False,)
        assert connection.execute(ask, [number["report-0"], None]).fetchone() == (None,), "without who asked"
        assert connection.execute(ask, [number["report-0"], "{}"]).fetchone() == (True,)
        connection.rollback()
    assert states(database_url) == [("failed", False), ("failed", False)]


def test_failed_studies_are_listed_page_by_page(client: httpx.Client, database_url: str) -> None:
    fail(database_url, range(60), "no-room")
    first = client.get("/failed").text
    assert "50 of 60 on this page" in first
    further = unescape(first.split('rel="next" href="')[1].partition('"')[0])
    second = client.get(further).text
    assert 'rel="next"' not in second
    buttons = [page.count("Have it drafted anew") for page in (first, second)]
    assert buttons == [50, 10]
    assert {number for number in range(60) if f">ACC{number}<" in first + second} == set(range(60))
    assert client.get("/failed?after=rd.1.1.5").status_code == 404
    assert client.get("/failed?after=fs.1.1.x").status_code == 404
