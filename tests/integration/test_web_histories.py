"""Versions and histories over FHIR REST: the same suite on a reader in memory and on Postgres."""

from urllib.parse import quote

import httpx

from pipeline.lookup import ResourceSearch
from pipeline.store.store import Store
from pipeline.web import Interaction
from pipeline.web.searchable import SEARCHABLE
from tests.fhir_rest import checked, next_of
from tests.fhir_site import COUNT, Site
from tests.invented_outcomes import invented_outcome


def test_read_vread_and_history(rest_site: Site) -> None:
    rest_site.save([invented_outcome(0, impression="Small left pleural effusion.")])
    with rest_site.client() as client:
        answer = client.get("/fhir/DiagnosticReport/report-0")
        report = checked(answer)
        assert report["conclusion"] == "Small left pleural effusion."
        assert answer.headers["etag"] == f'W/"{report["meta"]["versionId"]}"' == 'W/"2"'
        assert "GMT" in answer.headers["last-modified"]
        first = checked(client.get("/fhir/DiagnosticReport/report-0/_history/1"))
        assert first["conclusion"] == "Small left pleural effusion. Nodule in the right upper zone."
        history = checked(client.get("/fhir/DiagnosticReport/report-0/_history"))
        assert [entry["resource"]["meta"]["versionId"] for entry in history["entry"]] == ["2", "1"]
        assert [entry["response"]["etag"] for entry in history["entry"]] == ['W/"2"', 'W/"1"']
        assert client.head("/fhir/DiagnosticReport/report-0").content == b""


def test_histories_of_one_of_a_type_and_of_all_page_through_everything(rest_site: Site) -> None:
    first = {(kind, one) for kind in SEARCHABLE for one in ids_of(rest_site, kind)}
    rest_site.save([invented_outcome(0, impression="One."), invented_outcome(3, impression="Two.")])
    with rest_site.client() as client:
        (changed,) = [
            one for one in paged(client, "DiagnosticReport/report-0/_history?_count=1") if one[2] == "2"
        ]
        assert paged(client, "DiagnosticReport/report-0/_history?_count=1") == [
            ("DiagnosticReport", "report-0", "2"),
            ("DiagnosticReport", "report-0", "1"),
        ]
        of_type = paged(client, "DiagnosticReport/_history?_count=3")
        assert of_type[:2] == [("DiagnosticReport", "report-3", "2"), changed], "the last written first"
        assert len(of_type) == len(set(of_type)) == COUNT + 2
        everything = paged(client, "_history?_count=5")
        assert len(everything) == len(set(everything))
        assert {one[:2] for one in everything} == first
        assert {one for one in everything if one[0] == "DiagnosticReport"} == set(of_type)
        assert checked(client.get("/fhir/_history?_count=0"))["total"] == len(everything)
        since = checked(client.get("/fhir/DiagnosticReport/report-0"))["meta"]["lastUpdated"]
        late = paged(client, "_history?_count=1&_since=" + quote(since))
        assert set(late) >= {("DiagnosticReport", "report-3", "2"), changed}
        assert len([one for one in late if one[0] == "DiagnosticReport"]) == 2
        assert paged(client, "Patient/_history?_since=2100-01-01") == []
        token = next_of(checked(client.get("/fhir/DiagnosticReport/_history?_count=1"))).partition("_page=")[
            2
        ]
        if isinstance(rest_site.reader, Store):  # the memory's tokens are places in one list
            for other in (f"Patient/_history?_page={token}", f"DiagnosticReport?_page={token}"):
                checked(client.get(f"/fhir/{other}"), 400)
    system = [one for one in rest_site.accesses if one.interaction is Interaction.HISTORY_OF_ALL]
    assert {patient for one in system for patient in one.patients} == {"patient-0", "patient-1", "patient-2"}
    assert "_count=5" in system[0].query


def ids_of(rest_site: Site, kind: str) -> list[str]:
    return [one.resource_id for one in rest_site.reader.search(ResourceSearch(kind, limit=200)).resources]


def paged(client: httpx.Client, address: str) -> list[tuple[str, str, str]]:
    """Type, id and version of every entry, over all pages."""
    found, following = [], f"/fhir/{address}"
    while following:
        bundle = checked(client.get(following))
        for entry in bundle.get("entry", ()):
            one = entry["resource"]
            assert entry["fullUrl"].endswith(f"/fhir/{one['resourceType']}/{one['id']}")
            found.append((one["resourceType"], one["id"], one["meta"]["versionId"]))
        following = next_of(bundle)
    return found


def test_a_client_that_has_the_version_gets_304(rest_site: Site) -> None:
    with rest_site.client() as client:
        known = client.get("/fhir/Patient/patient-0").headers
        for headers, status in [
            ({"if-none-match": known["etag"]}, 304),
            ({"if-none-match": 'W/"7", W/"1"'}, 304),
            ({"if-none-match": 'W/"7"'}, 200),
            ({"if-modified-since": known["last-modified"]}, 304),
            ({"if-modified-since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 200),
            ({"if-modified-since": "yesterday"}, 200),
            ({"if-none-match": 'W/"7"', "if-modified-since": known["last-modified"]}, 200),
        ]:
            answer = client.get("/fhir/Patient/patient-0", headers=headers)
            assert (answer.status_code, bool(answer.content)) == (status, status == 200), headers
