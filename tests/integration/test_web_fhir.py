"""FHIR REST over a real server on loopback: the same suite on a reader in memory and on Postgres."""

from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import unquote

import httpx
from fhirclient.client import FHIRClient
from fhirclient.models.diagnosticreport import DiagnosticReport
from fhirclient.models.patient import Patient

from flows.commands.serve import auditor
from pipeline.store.store import Store
from pipeline.web import Interaction, create_app, serving
from pipeline.web.searchable import SEARCHABLE
from tests.fhir_rest import checked, ids, next_of
from tests.fhir_site import ALL, COUNT, Site
from tests.invented_outcomes import invented_outcome, save_as_flows, study_uid
from tests.unit.fhir_samples import CHINESE, CONTEXT, SHORT, STUDY, body, built


def test_a_fhir_client_reads_searches_and_pages(rest_site: Site) -> None:
    client = FHIRClient(settings={"app_id": "tests", "api_base": f"{rest_site.url}/fhir"})
    assert client.prepare()
    report = DiagnosticReport.read("report-1", client.server)
    assert report.status == "partial"
    assert report.subject.reference == "Patient/patient-1"
    patient = Patient.read("patient-1", client.server)
    assert patient.name[0].text == "Invented Person 1"
    found = DiagnosticReport.where({"patient": "Patient/patient-1"}).perform_resources_iter(client.server)
    assert sorted(one.id for one in found) == ["report-1", "report-4", "report-7"]
    paged = DiagnosticReport.where({"_count": "3"}).perform_resources_iter(client.server)
    assert sorted(one.id for one in paged) == ALL


def test_the_capability_statement_says_what_works(rest_site: Site) -> None:
    with rest_site.client() as client:
        statement = checked(client.get("/fhir/metadata"))
        assert statement["fhirVersion"] == "4.0.1"
        offered = {resource["type"]: resource for resource in statement["rest"][0]["resource"]}
        assert set(offered) == set(SEARCHABLE)
        values = {"token": "x", "reference": "DiagnosticReport/x", "date": "2026", "string": "x"}
        for resource_type, resource in offered.items():
            for parameter in resource["searchParam"]:
                named = {"study-uid": "1.2.3", "patient": "x", "subject": "x"}
                value = named.get(parameter["name"], values[parameter["type"]])
                answer = client.get(f"/fhir/{resource_type}", params={parameter["name"]: value})
                assert checked(answer)["type"] == "searchset", (resource_type, parameter)


SEARCHES = [
    ("", ALL),
    ("patient=patient-1", ["report-1", "report-4", "report-7"]),
    ("patient=Patient/patient-1,patient-2", ["report-1", "report-2", "report-4", "report-5", "report-7"]),
    ("subject:Patient=patient-0", ["report-0", "report-3", "report-6"]),
    ("patient.identifier=urn:site:mrn|MRN-2", ["report-2", "report-5"]),
    ("patient.identifier=nobody", []),
    ("subject.identifier=urn:site:mrn|MRN-2", ["report-2", "report-5"]),
    ("subject:Patient.identifier=MRN-2&patient:Patient.identifier=MRN-2", ["report-2", "report-5"]),
    ("identifier=urn:site:accession|ACC-3", ["report-3"]),
    ("identifier=ACC-3", ["report-3"]),
    ("identifier=urn:site:accession|", ALL),
    ("identifier=|bare-5", ["report-5"]),
    ("identifier=|ACC-3", []),
    ("identifier=urn:other|ACC-3", []),
    ("identifier=ACC-1,bare-2", ["report-1", "report-2"]),
    (f"study-uid={study_uid(4)}", ["report-4"]),
    (f"study-uid=urn:oid:{study_uid(4)},{study_uid(5)}", ["report-4", "report-5"]),
    ("study-uid=9.9.9", []),
    ("status=preliminary", ["report-3", "report-7"]),
    ("status=preliminary,partial", ALL),
    ("status=final", []),
    ("date=2026-01-03", ["report-2"]),
    ("date=ge2026-01-07", ["report-6", "report-7"]),
    ("date=gt2026-01-07", ["report-7"]),
    ("date=lt2026-01-02", ["report-0"]),
    ("date=le2026-01-02T10:30:00Z", ["report-0", "report-1"]),
    ("date=ge2026-01-02&date=le2026-01-03", ["report-1", "report-2"]),
    ("date=ne2026-01", []),
    ("date=2026-01", ALL),
    ("_id=report-1,report-6,other", ["report-1", "report-6"]),
    ("patient=patient-0&status=preliminary", ["report-3"]),
    ("_lastUpdated=gt2020", ALL),
    ("_lastUpdated=lt2020", []),
    ("_sort=-date&_pretty=true", ALL),
    ("patient=patient-0&subject=patient-1", []),
    ("identifier=ACC-1&identifier=bare-1", ["report-1"]),
    ("identifier=ACC-1&identifier=bare-2", []),
    ("code=18748-4", ALL),
    ("code=http://loinc.org|18748-4&patient=patient-1", ["report-1", "report-4", "report-7"]),
    ("code=18748-5", []),
    ("code=http://loinc.org|", ALL),
    ("code=|18748-4", []),
    ("category=RAD&date=ge2026-01-07", ["report-6", "report-7"]),
    ("category=http://loinc.org|LP29684-5&status=preliminary", ["report-3", "report-7"]),
    ("status=urn:other|partial", []),
    ("patient=https://elsewhere.example/fhir/Patient/patient-1", []),
    ("date=sa2026-01-07", ["report-7"]),
    ("date=eb2026-01-02", ["report-0"]),
    ("date=ge0001-01-01&date=le9999-12-31", ALL),
    ("patient.identifier=MRN-1&patient.identifier=MRN-2", []),
    ("status:not=preliminary", ["report-0", "report-1", "report-2", "report-4", "report-5", "report-6"]),
    ("status:not=preliminary,partial", []),
    ("status:not=entered-in-error", ALL),
    ("status:not=urn:other|partial", ALL),
    ("identifier:not=ACC-1,bare-2", [one for one in ALL if one not in ("report-1", "report-2")]),
    ("_id:not=report-1", [one for one in ALL if one != "report-1"]),
    ("code:not=18748-4", []),
    ("category:not=http://loinc.org|LP29684-5", []),
    ("category:not=LAB&patient=patient-0", ["report-0", "report-3", "report-6"]),
    ("issued:missing=true&date:missing=false", ALL),
    ("issued:missing=false", []),
    ("patient:missing=true", []),
    ("status:missing=false&patient:missing=false&_lastUpdated:missing=false&_id:missing=false", ALL),
    ("study-uid:missing=false&identifier:missing=false&code:missing=false", ALL),
    ("_sort=-date,_id", ALL),
]


def test_searches_by_get_by_post_and_counted(rest_site: Site) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    with rest_site.client() as client:
        for query, expected in SEARCHES:
            bundle = checked(client.get(f"/fhir/DiagnosticReport?{query}"))
            assert sorted(ids(bundle)) == expected, query
            assert [link["relation"] for link in bundle["link"]] == ["self"], query
            counted = checked(client.get(f"/fhir/DiagnosticReport?{query}&_summary=count"))
            assert (counted["total"], ids(counted)) == (len(expected), []), query
            posted = client.post("/fhir/DiagnosticReport/_search", content=query, headers=form)
            assert ids(checked(posted)) == ids(bundle), query


def test_last_updated_finds_what_changed(rest_site: Site) -> None:
    rest_site.save([invented_outcome(2, impression="No acute cardiopulmonary abnormality.")])
    changed = rest_site.reader.read("DiagnosticReport", "report-2")
    assert changed is not None
    since = changed.last_updated.isoformat(timespec="seconds").replace("+00:00", "Z")
    with rest_site.client() as client:
        bundle = checked(client.get("/fhir/DiagnosticReport", params={"_lastUpdated": f"ge{since}"}))
        assert ids(bundle)[0] == "report-2"
        newest = checked(client.get("/fhir/DiagnosticReport", params={"_count": "1"}))
        assert ids(newest) == ["report-2"]


def test_pages_neither_repeat_nor_skip_while_reports_arrive(rest_site: Site) -> None:
    seen: list[str] = []
    with rest_site.client() as client:
        bundle = checked(client.get("/fhir/DiagnosticReport?_count=3&_total=accurate"))
        assert bundle["total"] == COUNT
        rest_site.save([invented_outcome(COUNT + 1), invented_outcome(COUNT + 2)])
        while True:
            seen += ids(bundle)
            links = {link["relation"]: link["url"] for link in bundle["link"]}
            assert "_count=3" in links["self"]
            if "next" not in links:
                break
            bundle = checked(client.get(links["next"]))
    assert sorted(seen) == ALL


def test_links_of_a_search_by_post_name_nobody(rest_site: Site) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    identifying = "patient.identifier=MRN-1&patient=patient-1&_count=1&status=partial,preliminary&_id:not=x-9"
    with rest_site.client() as client:
        answer = client.post(
            "/fhir/DiagnosticReport/_search?subject=patient-1", content=identifying, headers=form
        )
        found, seen = [], []
        while True:
            bundle = checked(answer)
            found += ids(bundle)
            seen += [unquote(link["url"]) for link in bundle["link"]]
            following = next_of(bundle)
            if not following:
                break
            answer = client.get(following)
        assert sorted(found) == ["report-1", "report-4", "report-7"]
        assert not [url for url in seen if "MRN-1" in url or "patient" in url or "x-9" in url], seen
        assert "status=partial,preliminary" in seen[0]
        page = next(url for url in seen if "_page=" in url)
        assert client.get(page.replace("DiagnosticReport", "Patient")).status_code == 400
        assert client.get(f"{page}&status=partial").status_code == 400
        assert client.get(f"{page}x").status_code == 400
    posted = [one for one in rest_site.accesses if one.interaction is Interaction.SEARCH]
    assert all("MRN-1" in unquote(one.query) for one in posted), "the audit knows what was asked"


REFUSALS = [
    ("GET", "/fhir/DiagnosticReport/absent", 404, "not-found"),
    ("GET", "/fhir/DiagnosticReport/absent/_history", 404, "not-found"),
    ("GET", "/fhir/DiagnosticReport/report-0/_history/9", 404, "not-found"),
    ("GET", "/fhir/DiagnosticReport/report-0/_history/x", 404, "not-found"),
    ("GET", "/fhir/DiagnosticReport/report-0/_history/99999999999999999999", 404, "not-found"),
    ("GET", "/fhir/DiagnosticReport/%00%27%3B--", 404, "not-found"),
    ("GET", "/fhir/DiagnosticReport/" + "x" * 300, 404, "not-found"),
    ("GET", "/fhir/Encounter/1", 404, "not-supported"),
    ("GET", "/fhir/Encounter", 404, "not-supported"),
    ("GET", "/fhir/AuditEvent", 404, "not-supported"),
    ("GET", "/fhir", 404, "not-found"),
    ("GET", "/fhir/a/b/c/d/e", 404, "not-found"),
    ("PUT", "/fhir/DiagnosticReport/report-0", 405, "not-supported"),
    ("DELETE", "/fhir/DiagnosticReport/report-0", 405, "not-supported"),
    ("POST", "/fhir/DiagnosticReport", 405, "not-supported"),
    ("PATCH", "/fhir/Patient/patient-0", 405, "not-supported"),
    ("GET", "/fhir/DiagnosticReport?nonsense=1", 400, "not-supported"),
    ("GET", "/fhir/DiagnosticReport?status:above=final", 400, "not-supported"),
    ("GET", "/fhir/DiagnosticReport?date:not=2026", 400, "not-supported"),
    ("GET", "/fhir/DiagnosticReport?patient.identifier:missing=true", 400, "not-supported"),
    ("GET", "/fhir/DiagnosticReport?status:missing=maybe", 400, "invalid"),
    ("GET", "/fhir/DiagnosticReport?status:not=,", 400, "invalid"),
    ("GET", "/fhir/DiagnosticReport?_has:Observation:patient:code=1234-5", 400, "not-supported"),
    ("GET", "/fhir/DiagnosticReport?_sort=date,score", 400, "not-supported"),
    ("GET", "/fhir/DiagnosticReport?_sort=date,-date", 400, "not-supported"),
    ("GET", "/fhir/DiagnosticReport?_sort=-,date", 400, "not-supported"),
    ("GET", "/fhir/DiagnosticReport?patient.name=x", 400, "not-supported"),
    ("GET", "/fhir/DiagnosticReport?date=yesterday", 400, "invalid"),
    ("GET", "/fhir/DiagnosticReport?date=2026-01-01,2026-01-02", 400, "invalid"),
    ("GET", "/fhir/DiagnosticReport?_count=-1", 400, "invalid"),
    ("GET", "/fhir/DiagnosticReport?_page=nonsense", 400, "invalid"),
    ("GET", "/fhir/DiagnosticReport?study-uid=x", 400, "invalid"),
    ("GET", "/fhir/DiagnosticReport?patient=Practitioner/1", 400, "invalid"),
    ("GET", "/fhir/DiagnosticReport?patient=", 400, "invalid"),
    ("GET", "/fhir/DiagnosticReport?patient", 400, "invalid"),
    ("GET", "/fhir/DiagnosticReport?identifier=%7C", 400, "invalid"),
    ("GET", "/fhir/DiagnosticReport?_sort=score", 400, "not-supported"),
    ("GET", "/fhir/DiagnosticReport?_include=*", 400, "not-supported"),
    ("GET", "/fhir/DiagnosticReport/report-0/_history?_at=2026", 400, "not-supported"),
    ("GET", "/fhir/DiagnosticReport/report-0/_history?_since=ge2026", 400, "invalid"),
    ("GET", "/fhir/DiagnosticReport?identifier=a%00b", 400, "invalid"),
    ("GET", "/fhir/DiagnosticReport?_format=xml", 406, "not-supported"),
    ("POST", "/fhir/DiagnosticReport/_search", 415, "not-supported"),
]


def test_every_refusal_is_an_operation_outcome(rest_site: Site) -> None:
    with rest_site.client() as client:
        for method, path, status, code in REFUSALS:
            content = b"status=partial" if method == "POST" else None
            answer = client.request(method, path, content=content, headers={"content-type": "text/plain"})
            assert checked(answer, status)["issue"][0]["code"] == code, path
            assert status != 405 or "GET" in answer.headers["allow"]
        assert "/fhir/metadata" in client.get("/fhir").json()["issue"][0]["diagnostics"]


LISTED = [
    ("", {0, 1, 2, 3, 4, 5, 6, 7}),
    ("text=acc-3", {3}),
    ("text=person+1&status=", {1, 4, 7}),
    ("text=MRN-2&date=2026-01-03", {2}),
    ("status=preliminary&date=", {3, 7}),
    ("attention=1&text=person+1", {4}),
    ("text=%25", set()),
    ("text=nobody", set()),
    ("order=newest&text=acc-3", {3}),
]


def test_the_list_is_searched_without_a_script(rest_site: Site) -> None:
    with rest_site.client() as client:
        for query, expected in LISTED:
            text = client.get(f"/?{query}").text
            assert {number for number in range(COUNT) if f"/reports/report-{number}" in text} == expected, (
                query
            )
        for query in (
            "patient=x",
            "date=yesterday",
            "status=fine",
            "attention=0",
            "order=oldest",
            "text=" + "x" * 201,
        ):
            assert client.get(f"/?{query}").status_code == 400, query
        assert 'value="&#34;&gt;&lt;b"' in client.get("/", params={"text": '"><b'}).text


def test_hostile_search_values_are_only_values(rest_site: Site) -> None:
    hostile = "'; DROP TABLE resource; --"
    with rest_site.client() as client:
        for name in ("identifier", "patient", "status", "_id"):
            assert ids(checked(client.get("/fhir/DiagnosticReport", params={name: hostile}))) == []
        assert sorted(ids(checked(client.get("/fhir/DiagnosticReport")))) == ALL


def test_reads_and_searches_are_audited_per_patient_without_results(rest_site: Site) -> None:
    with rest_site.client(**{"X-Request-Id": "abc-1"}) as client:
        client.get("/fhir/DiagnosticReport/report-1")
        client.get("/fhir/DiagnosticReport?identifier=ACC-1,ACC-2")
        client.get("/fhir/DiagnosticReport/absent")
        client.get("/")
        client.get("/reports/report-2")
    read, searched, absent, listed, opened = rest_site.accesses
    assert (read.interaction, read.resource_id, read.patients) == (
        Interaction.READ,
        "report-1",
        ("patient-1",),
    )
    assert (read.agent, read.request_id, read.succeeded) == ("127.0.0.1", "abc-1", True)
    assert searched.interaction is Interaction.SEARCH
    assert searched.query == "identifier=ACC-1,ACC-2"
    assert searched.patients == ("patient-1", "patient-2")
    assert (absent.succeeded, absent.patients) == (False, ())
    assert listed.patients == ("patient-0", "patient-1", "patient-2")
    assert (opened.resource_id, opened.patients) == ("report-2", ("patient-2",))


def test_what_the_pipeline_writes_is_served_found_and_audited(database_url: str) -> None:
    """The real resources of one study, the real store, and the audit as ``flows.commands.serve`` joins it."""
    resources = built(draft=CHINESE, completeness=SHORT)
    report = body(resources, "DiagnosticReport")
    study = replace(
        invented_outcome(0),
        draft=CHINESE,
        completeness=SHORT,
        resources=resources,
        diagnostic_report_id=report["id"],
        accession_number=CONTEXT.accession_number,
    )
    with ExitStack() as stack:
        store = stack.enter_context(Store(database_url))
        save_as_flows(store, [study])
        before = store.audit_verify().rows
        app = create_app(store, token="", audit=auditor(store), clock=lambda: datetime.now(UTC))
        client = stack.enter_context(httpx.Client(base_url=stack.enter_context(serving(app)).rstrip("/")))
        for resource in resources:
            read = checked(client.get(f"/fhir/{resource.resource_type}/{resource.resource_id}"))
            for target in read.get("target", ()):  # the store says of which version it speaks
                target["reference"] = target["reference"].removesuffix("/_history/1")
            assert {key: value for key, value in read.items() if key != "meta"} == {
                key: value for key, value in resource.body.items() if key != "meta"
            }
        patient = body(resources, "Patient")
        number = f"{patient['identifier'][0]['system']}|TEST-7"
        for query in (
            {"study-uid": CONTEXT.study_instance_uid},
            {"identifier": "ACC-7"},
            {"patient": patient["id"]},
            {"patient.identifier": number},
            {"date": "2026-02-28"},
            {"status": "partial"},
        ):
            assert ids(checked(client.get("/fhir/DiagnosticReport", params=query))) == [report["id"]], query
        found = checked(client.get("/fhir/ImagingStudy", params={"identifier": f"urn:oid:{STUDY}"}))
        assert ids(found) == [body(resources, "ImagingStudy")["id"]]
        page = client.get(f"/reports/{report['id']}").text
        assert "Ada" in page
        assert "1971-03-14" in page
        assert "female" in page
        assert CHINESE.impression_text in client.get("/").text, "the list says what the draft says"
        pretty = client.get(f"/fhir/DiagnosticReport/{report['id']}?_pretty=true")
        assert checked(pretty) == checked(client.get(f"/fhir/DiagnosticReport/{report['id']}"))
        assert '\n  "resourceType": "DiagnosticReport"' in pretty.text or '\n  "id": ' in pretty.text
        assert CHINESE.findings_text in page
        assert "file ends early" in page
        verdict = store.audit_verify()
        assert verdict.ok
        assert verdict.rows >= before + len(resources) + 8
