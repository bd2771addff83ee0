"""Each claim of the CapabilityStatement is asked, over resources in Postgres as the pipeline writes them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from pipeline.web.searchable import SEARCHABLE
from tests.fhir_rest import checked, ids
from tests.invented_outcomes import study_uid
from tests.searched_site import fhir_client, written_study


@pytest.fixture
def client(database_url: str) -> Iterator[httpx.Client]:
    with fhir_client(database_url, [written_study()]) as opened:
        yield opened


def ask(client: httpx.Client, query: str) -> dict[str, Any]:
    return checked(client.get(f"/{query}"))


INTERACTIONS = {
    "read": "{kind}/{id}",
    "vread": "{kind}/{id}/_history/1",
    "history-instance": "{kind}/{id}/_history",
    "history-type": "{kind}/_history",
    "search-type": "{kind}?_id={id}",
}


def test_every_claim_of_the_capability_statement_holds(client: httpx.Client) -> None:
    """What is claimed answers with the resource that it is claimed for; the rest of each kind of claim is refused."""
    statement = ask(client, "metadata")
    (rest,) = statement["rest"]
    assert rest["interaction"] == [{"code": "history-system"}]
    assert ids(ask(client, "_history?_count=1"))
    every_parameter = {one["name"] for kind in rest["resource"] for one in kind["searchParam"]}
    for claims in rest["resource"]:
        kind = claims["type"]
        every = [entry["resource"] for entry in ask(client, kind)["entry"]]
        sample = next((one for one in every if len(one["id"]) == 36), every[0])  # as the pipeline writes it
        claimed = {one["code"] for one in claims["interaction"]}
        for code, path in INTERACTIONS.items():
            answer = client.get("/" + path.format(kind=kind, id=sample["id"]))
            if code not in claimed:
                assert checked(answer, answer.status_code)["resourceType"] == "OperationOutcome", (kind, code)
                continue
            told = checked(answer)
            found = (
                [one["resource"] for one in told.get("entry", ())]
                if told["resourceType"] == "Bundle"
                else [told]
            )
            assert sample["id"] in {one["id"] for one in found}, (kind, code)
        for name in every_parameter:
            answer = client.get(f"/{kind}", params={name: _sample_value(sample, name)})
            if name in {one["name"] for one in claims["searchParam"]}:
                assert sample["id"] in ids(checked(answer)), (kind, name)
            else:
                assert checked(answer, 400)["resourceType"] == "OperationOutcome", (kind, name)
        for include in claims.get("searchInclude", ()):
            ask(client, f"{kind}?_count=200&_include={include}")
        for include in claims.get("searchRevInclude", ()):
            ask(client, f"{kind}?_count=200&_revinclude={include}")
        for bad in ("_include=Group:member", "_revinclude=Group:member", "_sort=nonsense", "nonsense=1"):
            if kind in SEARCHABLE:
                checked(client.get(f"/{kind}?{bad}"), 400)


def _sample_value(resource: dict[str, Any], name: str) -> str:
    """A value by which ``resource`` must be found, or one that could be asked of another type."""
    subject = resource.get("subject", {}).get("reference", "Patient/x")
    first: dict[str, str] = {
        "_id": resource["id"],
        "url": resource.get("url", "urn:x"),
        "_lastUpdated": resource.get("meta", {}).get("lastUpdated", "2026"),
        "patient": subject,
        "subject": subject,
        "study-uid": study_uid(9),
        "status": resource.get("status", "x"),
        "target": resource.get("target", [{"reference": "DiagnosticReport/x"}])[0]["reference"],
        "date": resource.get("effectiveDateTime", "2026"),
        "started": resource.get("started", "2026"),
        "recorded": resource.get("recorded", "2026"),
        "issued": resource.get("issued", "2026"),
        "birthdate": resource.get("birthDate", "2026"),
        "gender": resource.get("gender", "x"),
    }
    if name in first:
        return first[name]
    if name == "identifier":
        return next((one["value"] for one in resource.get("identifier", ())), "x")
    if name in ("name", "family", "given"):
        told = next(iter(resource["name"])) if isinstance(resource.get("name"), list) else {}
        return {
            "name": told.get("text"),
            "family": told.get("family"),
            "given": "".join(told.get("given", [])[:1]),
        }[name] or "x"
    if name == "modality":
        return next((one["modality"]["code"] for one in resource.get("series", ())), "x")
    concepts = resource.get(name, [])
    concepts = concepts if isinstance(concepts, list) else [concepts]
    return next(
        (
            one["code"]
            for concept in concepts
            if isinstance(concept, dict)
            for one in concept.get("coding", ())
        ),
        "x",
    )


def test_reports_are_found_by_when_they_were_issued(client: httpx.Client) -> None:
    """R4 3.1.1.4.6 with an instant; without a zone it is asked in UTC, in which it is told."""
    ((report,),) = ([one["resource"] for one in ask(client, "DiagnosticReport")["entry"]],)
    issued = datetime.fromisoformat(report["issued"])
    before, after = ((issued + timedelta(minutes=m)).strftime("%Y-%m-%dT%H:%M:%SZ") for m in (-1, 1))
    day = issued.astimezone(UTC).date()
    for value, found in (
        (report["issued"].replace("+", "%2B"), True), (day.isoformat(), True), (f"ge{before}", True),
        (f"gt{after}", False), (f"lt{after}", True), (f"le{before}", False), (f"sa{before}", True),
        (f"eb{after}", True), (f"eb{before}", False), (f"ne{day}", False), (f"lt{day}", False),
        (f"gt{day - timedelta(days=1)}", True),
    ):  # fmt: skip
        assert (report["id"] in ids(ask(client, f"DiagnosticReport?issued={value}"))) == found, value
