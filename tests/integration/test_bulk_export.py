"""Bulk export: everything as it was at one moment, as HL7's Bulk Data Access asks for it."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from pipeline.fhir.audit_events import rest_access
from pipeline.store.store import Store
from pipeline.web import Access, create_app, serving
from pipeline.web.reader import DoorEvent
from pipeline.web.searchable import SEARCHABLE
from tests.fhir_rest import checked
from tests.invented_outcomes import invented_outcome, save_as_flows
from tests.unit.fhir_samples import body, built

ASYNC = {"prefer": "respond-async", "accept": "application/fhir+json"}


@dataclass
class Site:
    """A server with one study as the pipeline writes it and three invented ones."""

    client: httpx.Client
    store: Store
    accesses: list[Access | DoorEvent]


@pytest.fixture
def site(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("pipeline.web.bulk_export._AT_ONCE", 2)
    resources = built()
    report = body(resources, "DiagnosticReport")["id"]
    with ExitStack() as stack:
        store = stack.enter_context(Store(database_url))
        save_as_flows(store, [replace(invented_outcome(9), resources=resources, diagnostic_report_id=report)])
        save_as_flows(store, [invented_outcome(number) for number in range(3)])
        accesses: list[Access | DoorEvent] = []
        app = create_app(store, token="", audit=accesses.extend, clock=lambda: datetime.now(UTC))
        url = stack.enter_context(serving(app))
        client = stack.enter_context(httpx.Client(base_url=f"{url}fhir", timeout=30))
        yield Site(client, store, accesses)


def begun(client: httpx.Client, query: str = "") -> dict[str, Any]:
    """The list of files of an export that is begun now."""
    answer = client.get(f"/$export{query}", headers=ASYNC)
    assert answer.status_code == 202, answer.text
    told = client.get(answer.headers["content-location"])
    assert told.status_code == 200
    assert told.headers["content-type"] == "application/json"
    found: dict[str, Any] = told.json()
    return found


def files(client: httpx.Client, told: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Every resource of the files, each there once."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in told["output"]:
        answer = client.get(one["url"], headers={"accept": "application/fhir+ndjson"})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("application/fhir+ndjson")
        for line in answer.text.splitlines():
            resource = json.loads(line)
            key = resource["resourceType"], resource["id"]
            assert key not in found
            assert key[0] == one["type"]
            found[key] = resource
    return found


def current(client: httpx.Client) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (kind, entry["resource"]["id"]): entry["resource"]
        for kind in SEARCHABLE
        for entry in checked(client.get(f"/{kind}?_count=200")).get("entry", ())
    }


def test_everything_is_there_as_it_was_when_the_export_began(site: Site) -> None:
    before = current(site.client)
    told = begun(site.client)
    assert told["error"] == []
    assert told["requiresAccessToken"] is False
    assert {one["type"] for one in told["output"]} == set(SEARCHABLE)
    save_as_flows(site.store, [invented_outcome(0, impression="Changed meanwhile."), invented_outcome(7)])
    assert files(site.client, told) == before
    later = begun(site.client, f"?_since={told['transactionTime'].replace('+', '%2B')}")
    changed = files(site.client, later)
    assert {key for key in changed if key[0] == "DiagnosticReport"} >= {
        ("DiagnosticReport", "report-0"),
        ("DiagnosticReport", "report-7"),
    }
    assert before | changed == current(site.client), "an export and the next one are everything"
    shown = [one for one in site.accesses if isinstance(one, Access) and one.interaction == "operation"]
    assert {patient for one in shown for patient in one.patients} >= {"patient-0", "patient-1", "patient-2"}
    assert all(rest_access(one) for one in shown)


def test_types_are_chosen_and_what_is_not_understood_is_refused(site: Site) -> None:
    told = begun(site.client, "?_type=Patient,Device&_outputFormat=application/fhir%2Bndjson")
    assert [one["type"] for one in told["output"]] == ["Patient", "Device"]
    assert {kind for kind, _ in files(site.client, told)} == {"Patient", "Device"}
    for query in ("?_type=Encounter", "?_outputFormat=csv", "?_since=ge2026", "?patient=x", "?_type=,"):
        checked(site.client.get(f"/$export{query}", headers=ASYNC), 400)
    checked(site.client.get("/$export"), 400)
    checked(site.client.get("/$export-file?_type=Patient"), 400)
    checked(site.client.get("/$export-file?_type=Patient,Device&until=2026-01-01"), 400)
    operations = checked(site.client.get("/metadata"))["rest"][0]["operation"]
    assert [one["name"] for one in operations] == ["export"]
