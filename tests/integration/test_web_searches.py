"""What report consumers ask first, over resources in Postgres: order, pages, includes and parts."""

from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.types.json import Jsonb

from pipeline.fhir.published import published
from pipeline.store.connections import libpq_url
from tests.fhir_rest import checked, ids
from tests.searched_site import fhir_client, studies_of_several_dates

LOINC, SNOMED = "http://loinc.org", "http://snomed.info/sct"


@pytest.fixture
def client(database_url: str) -> Iterator[httpx.Client]:
    with fhir_client(database_url, studies_of_several_dates()) as opened:
        yield opened


def ask(client: httpx.Client, query: str) -> dict[str, Any]:
    return checked(client.get(f"/{query}"))


def pages(client: httpx.Client, query: str, *, begin: str = "self", go: str = "next") -> list[str]:
    """Ids over all pages in the order in which they are met; those of a page backwards where pages go backwards."""
    found, bundle = [], ask(client, query)
    bundle = checked(client.get(next(one["url"] for one in bundle["link"] if one["relation"] == begin)))
    while True:
        found += ids(bundle)[:: 1 if go == "next" else -1]
        following = [one["url"] for one in bundle["link"] if one["relation"] == go]
        if not following:
            return found
        bundle = checked(client.get(following[0]))


def test_one_key_of_an_order_decides_where_the_one_before_does_not(
    client: httpx.Client, database_url: str
) -> None:
    """Results of one draft have one date and one time: the id goes on, in its own direction."""
    found = pages(client, "Observation?_sort=date,-_id&_count=2")
    assert found == sorted(found, reverse=True)
    assert pages(client, "Observation?_sort=-date,_lastUpdated,_id&_count=2") == found[::-1]
    assert len(found) == len(set(found)) > 4
    assert pages(client, "Observation?_sort=-date,_id&_count=2", begin="last", go="previous") == found


def test_names_within_and_exactly(client: httpx.Client) -> None:
    patient = ask(client, "Patient?identifier=TEST-7")["entry"][0]["resource"]
    family = patient["name"][0]["family"]
    for query, found in (
        (f"family:contains={family[1:].upper()}", True), (f"family:exact={family}", True),
        (f"family:exact={family.lower()}", False), (f"family:exact={family[:-1]}", False),
        (f"name:exact={family},nobody", True), (f"name:contains={family[1:-1]}", True),
        ("name:contains=%25", False), ("given:missing=false", True), ("given:missing=true", False),
        ("gender:not=unknown", True), (f"gender:not={patient['gender']}", False), ("birthdate:missing=true", False),
    ):  # fmt: skip
        assert (patient["id"] in ids(ask(client, f"Patient?{query}"))) is found, query


def test_the_latest_report_is_the_latest(client: httpx.Client) -> None:
    (newest,) = ask(client, "DiagnosticReport?_sort=-date&_count=1")["entry"]
    assert newest["resource"]["effectiveDateTime"].startswith("2026-02-28"), "not report-5, written last"
    written = ask(client, "DiagnosticReport?_sort=-_lastUpdated&_count=1")
    assert ids(written) == ["report-5"] == ids(ask(client, "DiagnosticReport?_count=1"))
    links = {one["relation"]: one["url"] for one in written["link"]}
    assert "_sort=-_lastUpdated" in links["self"]
    assert "_sort=-_lastUpdated" in links["next"]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("-date", ["report-2", "report-3", "report-1", "report-5", "report-4"]),
        ("date", ["report-4", "report-5", "report-1", "report-3", "report-2"]),
        ("-_lastUpdated", ["report-5", "report-4", "report-3", "report-2", "report-1"]),
        ("_lastUpdated", ["report-1", "report-2", "report-3", "report-4", "report-5"]),
        ("-_id", ["report-5", "report-4", "report-3", "report-2", "report-1"]),
        ("-date,_lastUpdated", ["report-2", "report-3", "report-1", "report-5", "report-4"]),
        ("_lastUpdated,-date,_id", ["report-1", "report-2", "report-3", "report-4", "report-5"]),
    ],
)
def test_pages_of_every_order(client: httpx.Client, count: int, sort: str, expected: list[str]) -> None:
    """An undated report counts as the oldest, and a day begins with its first instant."""
    query = f"DiagnosticReport?_sort={sort}&_count={count}"
    found = pages(client, query)
    assert [one for one in found if one.startswith("report-")] == expected
    assert len(found) == len(set(found)) == 6
    assert pages(client, query, begin="last", go="previous") == found[::-1], "page by page from the end"
    (second,) = [one["url"] for one in ask(client, query)["link"] if one["relation"] == "next"]
    links = {one["relation"]: one["url"] for one in checked(client.get(second))["link"]}
    assert (
        ids(checked(client.get(links["previous"])))
        == found[:count]
        == ids(checked(client.get(links["first"])))
    )


def test_a_page_of_another_order_is_refused(client: httpx.Client) -> None:
    links = ask(client, "DiagnosticReport?_sort=-date&_count=1")["link"]
    token = next(one["url"] for one in links if one["relation"] == "next").partition("_page=")[2]
    for query in (f"_page={token}", f"_page={token}&_sort=date", f"_page={token}&_sort=_lastUpdated"):
        checked(client.get(f"/DiagnosticReport?{query}"), 400)


def test_a_day_without_a_time_is_a_range(client: httpx.Client) -> None:
    """R4 section 3.1.1.4.6: gt and lt find what overlaps, eq what is contained, sa and eb what is apart."""
    for query, expected in (
        ("date=2026-02-03", {"report-1", "report-2", "report-3"}),
        ("date=gt2026-02-03T12:00:00Z&date=lt2026-02-04", {"report-1"}),
        ("date=sa2026-02-03T12:00:00Z&date=lt2026-02-04", set()),
        ("date=lt2026-02-03T07:30:00Z&date=ge2026-02-03", {"report-1", "report-3"}),
        ("date=eb2026-02-03T07:30:00Z&date=ge2026-02-03", {"report-3"}),
        ("date=ge2019&date=lt2020", {"report-5"}),
    ):
        assert set(ids(ask(client, f"DiagnosticReport?{query}"))) == expected, query


def test_searches_that_us_core_asks(client: httpx.Client) -> None:
    report = ask(client, "DiagnosticReport?identifier=ACC-7")["entry"][0]["resource"]
    patient = report["subject"]["reference"].removeprefix("Patient/")
    (code,) = [one["code"] for one in report["code"]["coding"] if one["system"] == LOINC]
    results = [one["reference"].removeprefix("Observation/") for one in report["result"]]
    for query in (
        f"patient={patient}&category=LP29684-5",
        f"patient={patient}&category={LOINC}|LP29684-5&date=ge2000-01-01",
        f"patient={patient}&category=RAD&date=ge2026-02-28&date=lt2026-03-02",
        f"patient={patient}&code={LOINC}|{code}&date=2026-02-28",
        f"patient={patient}&status=partial",
        f"patient={patient}&_lastUpdated=gt2020",
        f"patient={patient}&_summary=true",
    ):
        assert ids(ask(client, f"DiagnosticReport?{query}")) == [report["id"]], query
    (nodule,) = ids(ask(client, f"Observation?patient={patient}&code={SNOMED}|27925004&status=preliminary"))
    assert nodule in results
    asked = {
        f"Observation?patient={patient}&category=imaging": set(results),
        f"Observation?patient={patient}&code=19005-8": {results[1]},
        f"Observation?patient={patient}&code=urn:firstread:finding|nodule": {nodule},
        f"Observation?patient={patient}&date=2026-02-28": set(results),
        f"Observation?patient={patient}&date=gt2026-03-02": set(),
        f"Observation?patient={patient}&code=nothing": set(),
    }
    for query, expected in asked.items():
        assert set(ids(ask(client, query))) >= expected, query
        assert bool(ids(ask(client, query))) is bool(expected), query
    (study,) = ids(ask(client, f"ImagingStudy?patient={patient}&started=ge2026-02-28&modality=DX"))
    assert [study] == ids(ask(client, "ImagingStudy?started=2026-02-28"))
    assert ids(ask(client, "ImagingStudy?modality=CT")) == []
    device = ask(client, "Device")["entry"][0]["resource"]
    (provenance,) = ids(ask(client, f"Provenance?target=DiagnosticReport/{report['id']}"))
    assert [provenance] == ids(ask(client, f"Provenance?target=Observation/{results[2]}&recorded=ge2000"))
    assert ids(ask(client, "Provenance?target=DiagnosticReport/report-1")) == []
    assert ids(ask(client, f"Device?_id={device['id']}&_sort=_lastUpdated")) == [device["id"]]


def test_patients_are_found_by_name_and_birth(client: httpx.Client) -> None:
    patient = ask(client, "Patient?identifier=TEST-7")["entry"][0]["resource"]
    born, family = patient["birthDate"], patient["name"][0]["family"]
    for query in (
        f"birthdate={born}",
        f"birthdate={born[:4]}&name={family[:4].upper()}",
        f"family={family.lower()}&gender={patient['gender']}",
        f"name={patient['name'][0]['given'][0]}",
        f"_id={patient['id']}",
    ):
        assert ids(ask(client, f"Patient?{query}")) == [patient["id"]], query
    for query in ("birthdate=1801", f"family={family[1:]}", "name=%25", "name=_", "gender=unheard"):
        assert ids(ask(client, f"Patient?{query}")) == [], query
    assert sorted(ids(ask(client, "Patient?name=person"))) == ["patient-0", "patient-1", "patient-2"]


def test_results_and_provenance_come_along(client: httpx.Client) -> None:
    query = (
        "DiagnosticReport?identifier=ACC-7&_include=DiagnosticReport:result&_include=DiagnosticReport:patient"
    )
    bundle = ask(client, f"{query}&_revinclude=Provenance:target&_total=accurate")
    assert bundle["total"] == 1, "of the matches"
    by_mode: dict[str, list[dict[str, Any]]] = {"match": [], "include": []}
    for entry in bundle["entry"]:
        by_mode[entry["search"]["mode"]].append(entry["resource"])
    (report,) = by_mode["match"]
    wanted = {one["reference"] for one in report["result"]} | {report["subject"]["reference"]}
    told = {f"{one['resourceType']}/{one['id']}" for one in by_mode["include"]}
    assert wanted < told
    assert {one.partition("/")[0] for one in told - wanted} == {"Provenance"}
    links = {one["relation"]: one["url"] for one in bundle["link"]}
    assert links["self"].count("_include=") == 2
    assert "_revinclude=Provenance%3Atarget" in links["self"]
    for bad in ("_include=Observation:device", "_revinclude=Observation:subject"):
        checked(client.get(f"/DiagnosticReport?identifier=ACC-7&{bad}"), 400)


def test_parts_of_a_resource_are_marked_and_keep_their_labels(client: httpx.Client) -> None:
    whole = ask(client, "DiagnosticReport?identifier=ACC-7")["entry"][0]["resource"]
    for query, present, absent in (
        (
            "_elements=identifier,effective",
            {"identifier", "status", "code"},
            {"text", "conclusion", "result"},
        ),
        ("_summary=text", {"text", "status", "code"}, {"conclusion", "presentedForm"}),
        ("_summary=data", {"conclusion", "presentedForm"}, {"text"}),
    ):
        (entry,) = ask(client, f"DiagnosticReport?identifier=ACC-7&{query}")["entry"]
        part = entry["resource"]
        assert present <= set(part), query
        assert not absent & set(part), query
        assert part["meta"]["security"] == whole["meta"]["security"], "what a machine wrote stays labelled"
        assert part["meta"]["tag"][-1]["code"] == "SUBSETTED"
    assert ask(client, "DiagnosticReport?_count=0&_total=accurate")["total"] == 6


def test_withdrawn_results_are_found_as_withdrawn(client: httpx.Client, database_url: str) -> None:
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        found = connection.execute(
            "SELECT body FROM firstread.resource WHERE resource_id = 'report-1'"
        ).fetchone()
        assert found is not None
        connection.execute(
            "UPDATE firstread.resource SET body = %s WHERE resource_id = 'report-1'",
            [Jsonb(found[0] | {"status": "entered-in-error"})],
        )
    (entry,) = ask(client, "DiagnosticReport?identifier=ACC-1")["entry"]
    assert entry["resource"]["status"] == "entered-in-error"
    assert ids(ask(client, "DiagnosticReport?identifier=ACC-1&status=partial,preliminary,final")) == []
    root = str(client.base_url).removesuffix("/fhir/")
    assert "ACC-1" not in httpx.get(f"{root}/").text, "the list shows what is in force"
    page = httpx.get(f"{root}/reports/report-1").text
    assert page.index("Withdrawn") < page.index("Findings"), "said before the text"


def test_definitions_are_resolved_by_their_canonical(client: httpx.Client) -> None:
    """Extensions of what is served: each of ours is found by its url, and read by its id."""
    text = client.get("/Observation?_count=200").text
    for one in published():
        (entry,) = ask(client, f"{one['resourceType']}?url={one['url']}")["entry"]
        assert entry["resource"] == one == ask(client, f"{one['resourceType']}/{one['id']}")
        assert entry["fullUrl"].endswith(f"/fhir/{one['resourceType']}/{one['id']}")
    assert "urn:firstread:StructureDefinition:region" in text
    assert ids(ask(client, "StructureDefinition?url=urn:firstread:none")) == []
    for refused, status in (
        ("StructureDefinition/none", 404),
        ("StructureDefinition?name=x", 400),
        ("StructureDefinition?url=,", 400),
        ("ValueSet", 404),
        ("CodeSystem/finding/_history", 404),
    ):
        assert checked(client.get(f"/{refused}"), status)["resourceType"] == "OperationOutcome"


def test_history_since_and_counted(client: httpx.Client) -> None:
    for query, count, total in (
        ("", 1, 1),
        ("?_count=0", 0, 1),
        ("?_since=2100-01-01", 0, 0),
        ("?_since=2020", 1, 1),
    ):
        bundle = ask(client, f"DiagnosticReport/report-1/_history{query}")
        assert (len(ids(bundle)), bundle["total"]) == (count, total), query
