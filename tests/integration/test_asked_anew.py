"""The button on the page of a report: its study is drafted anew, and the audit says who asked."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from flows.commands.serve import draft_anew
from pipeline import settings as configuration
from pipeline.ledger import LedgerState
from pipeline.store.connections import VIEWER, libpq_url
from pipeline.store.migrations import head
from pipeline.store.store import Store
from pipeline.web import create_app, serving
from pipeline.web.addresses import Addresses
from tests.integration.test_standing import sign
from tests.invented_outcomes import invented_outcome, save_as_flows
from tests.sites import rows, write_site
from tests.store_samples import settled

PROXY = Addresses.of("", ["127.0.0.1"], "X-Person")
DOCTOR = {"X-Person": "Dr. Who"}
BUTTON = 'action="/reports/report-{}/anew"'


@pytest.fixture
def client(database_url: str, tmp_path: Path) -> Iterator[httpx.Client]:
    """A page over two reports, read as `serve` does; the second is signed."""
    settings = configuration.load(
        write_site(tmp_path, database_url, {"main": {"kind": "folder", "path": "/"}})
    )
    with Store(database_url) as store:
        save_as_flows(store, [invented_outcome(0), invented_outcome(1)])
    sign(database_url, "report-1")
    with Store(database_url, revision=head(), role=VIEWER) as store:
        app = create_app(
            store, token="a-token-of-this-site", audit=lambda _: None, clock=lambda: datetime.now(UTC),
            addresses=PROXY, anew=partial(draft_anew, settings, store),
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
    told = rows(
        database_url,
        "SELECT chain, event ->> 'outcomeDesc', event #>> '{agent,0,name}' FROM firstread.audit_event "
        "WHERE event ->> 'outcomeDesc' LIKE 'reopened%'",
    )
    assert told == [("archive:main", "reopened to be drafted anew: asked on its page", "Dr. Who")]
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
        store.reopen([number], [], again=True)
        (claim,) = store.claim("recipe", owner="o", limit=1, lease_seconds=60)
        store.settle(settled(claim, LedgerState.FAILED, code="report-signed"))
    assert "Changed since a person took it over" in client.get("/reports/report-1").text
    assert "Changed since" not in client.get("/reports/report-0").text
    listed = client.get("/", params={"attention": "1"}).text
    assert "changed since signed" in listed
    assert "Invented Person 1" in listed
