"""AuditEvents: valid R4, DICOM codes as the standard has them, BALP shapes, and never the results of a query."""

import base64
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

import pytest
from pydicom.sr._concepts_dict import concepts

from pipeline.fhir import audit_events, validate_body
from pipeline.fhir.elements import DICOM
from pipeline.ledger import Claim, LedgerState
from tests.unit.fhir_samples import CONTEXT, ISSUED, SITE, STUDY, body, built

CLAIM = Claim(7, "main", STUDY, "r" * 64, "owner", 1, 1, ISSUED)
BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
ARCHIVE_EVENTS = {
    "110112": audit_events.archive_query(SITE, "StudyDate=20260101-", ISSUED),
    "110102": audit_events.transfer_begun(SITE, STUDY, ISSUED),
    "110104": audit_events.study_received(SITE, CONTEXT, ISSUED),
    "110107": audit_events.study_received(SITE, CONTEXT, ISSUED, imported=True),
    "110100": audit_events.study_settled(SITE, CLAIM, LedgerState.SKIPPED, "no-chest", ISSUED),
}


@dataclass(frozen=True, slots=True)
class Access:
    """What the web tells of one read or search."""

    interaction: str = "read"
    resource_type: str = "DiagnosticReport"
    resource_id: str = "r1"
    query: str = ""
    patients: tuple[str, ...] = ("p1",)
    agent: str = "127.0.0.1"
    recorded: datetime = ISSUED
    succeeded: bool = True
    request_id: str = "abc-1"
    person: str = ""


def every_event() -> list[dict[str, Any]]:
    return [
        *ARCHIVE_EVENTS.values(),
        audit_events.application_started("Hospital", ISSUED),
        audit_events.application_stopped("Hospital", ISSUED),
        audit_events.archive_query(SITE, "", ISSUED, succeeded=False),
        audit_events.study_settled(SITE, CLAIM, LedgerState.FAILED, "undecodable", ISSUED),
        audit_events.report_written(SITE, built(), ISSUED),
        audit_events.report_written(SITE, built(), ISSUED, updated=True),
        *audit_events.rest_access(Access()),
        *audit_events.rest_access(Access(interaction="vread", patients=())),
        *audit_events.rest_access(Access(interaction="history-instance")),
        *audit_events.rest_access(Access(person="Doe, Jane\x00")),
        *audit_events.rest_access(
            Access(interaction="search-type", query="patient=p", patients=("p1", "p2"))
        ),
        *audit_events.rest_access(
            Access(interaction="search-type", query="\ud800<", patients=(), succeeded=False)
        ),
        *audit_events.rest_access(Access(agent="", request_id="", patients=())),
        *audit_events.rest_access(Access(resource_id="<a>/b", patients=(), succeeded=False)),
        *audit_events.rest_access(
            Access(resource_type="Bogus", resource_id="", patients=(), succeeded=False)
        ),
    ]


@pytest.mark.parametrize("event", every_event(), ids=lambda event: event["type"]["code"])
def test_event_passes_both_validations(event: dict[str, Any]) -> None:
    validate_body(event)
    assert sum(agent["requestor"] for agent in event["agent"]) == 1


@pytest.mark.parametrize("event", every_event(), ids=lambda event: event["type"]["code"])
def test_dicom_codes_are_those_of_the_standard(event: dict[str, Any]) -> None:
    meanings = {
        (code, meaning[0]) for codes in cast(Any, concepts["DCM"]).values() for code, meaning in codes.items()
    }
    held = [event["type"], *event.get("subtype", ()), *(one["type"]["coding"][0] for one in event["agent"])]
    for one in held:
        if one["system"] == DICOM:
            assert (one["code"], one["display"]) in meanings


@pytest.mark.parametrize("code", ARCHIVE_EVENTS)
def test_archive_events_carry_their_dicom_code(code: str) -> None:
    assert ARCHIVE_EVENTS[code]["type"]["code"] == code


def test_transfers_name_the_study_and_who_was_the_source() -> None:
    event = ARCHIVE_EVENTS["110104"]
    roles = {one["type"]["coding"][0]["code"]: one["who"]["identifier"]["value"] for one in event["agent"]}
    assert roles == {"110153": "main", "110152": "Firstread"}
    assert event["entity"][0]["what"]["identifier"]["value"] == f"urn:oid:{STUDY}"
    assert event["entity"][1]["what"]["reference"] == f"Patient/{body(built(), 'Patient')['id']}"


def test_failure_is_told_by_outcome_and_code() -> None:
    failed = audit_events.study_settled(SITE, CLAIM, LedgerState.FAILED, "undecodable", ISSUED)
    assert (failed["outcome"], failed["outcomeDesc"]) == ("4", "failed: undecodable")
    assert ARCHIVE_EVENTS["110100"]["outcome"] == "0"
    assert audit_events.archive_query(SITE, "", ISSUED, succeeded=False)["outcome"] == "4"


@pytest.mark.parametrize(
    ("updated", "code", "action", "profile"),
    [(False, "create", "C", "PatientCreate"), (True, "update", "U", "PatientUpdate")],
)
def test_report_written_is_a_balp_create_or_update(
    updated: bool, code: str, action: str, profile: str
) -> None:
    resources = built()
    event = audit_events.report_written(SITE, resources, ISSUED, updated=updated)
    assert (event["subtype"][0]["code"], event["action"]) == (code, action)
    assert event["meta"]["profile"] == [BALP + profile]
    typed = [one["type"]["code"] for one in event["entity"] if "type" in one]
    assert sorted(typed) == ["1", "2"]
    assert (
        event["entity"][0]["what"]["reference"]
        == f"DiagnosticReport/{body(resources, 'DiagnosticReport')['id']}"
    )
    assert all("network" in one for one in event["agent"])


def test_a_search_gives_one_event_per_patient_with_the_query_and_no_results() -> None:
    access = Access(interaction="search-type", resource_id="", query="status=partial", patients=("p1", "p2"))
    events = audit_events.rest_access(access)
    shown = [
        one["what"]["reference"]
        for event in events
        for one in event["entity"]
        if one.get("role", {}).get("code") == "1"
    ]
    assert shown == ["Patient/p1", "Patient/p2"]
    for event in events:
        query = event["entity"][0]
        assert base64.b64decode(query["query"]) == b"DiagnosticReport?status=partial"
        assert "what" not in query
        assert event["meta"]["profile"] == [BALP + "PatientQuery"]
        assert [one["type"]["coding"][0]["code"] for one in event["agent"]] == ["110153", "110152"]


def test_a_read_turns_the_roles_round() -> None:
    (event,) = audit_events.rest_access(Access())
    assert [one["type"]["coding"][0]["code"] for one in event["agent"]] == ["110152", "110153"]
    assert event["agent"][0]["network"] == {"address": "127.0.0.1", "type": "2"}
    assert event["entity"][-1]["what"]["identifier"]["value"] == "abc-1"
    assert event["meta"]["profile"] == [BALP + "PatientRead"]


@pytest.mark.parametrize(
    ("access", "profile"),
    [
        (Access(patients=()), "Read"),
        (Access(interaction="search-type", patients=()), "Query"),
        (Access(succeeded=False), None),
        (Access(interaction="history-instance"), None),
    ],
)
def test_a_profile_is_claimed_only_where_it_holds(access: Access, profile: str | None) -> None:
    (event,) = audit_events.rest_access(access)
    assert event.get("meta", {}).get("profile") == ([BALP + profile] if profile else None)
    assert event["outcome"] == ("0" if access.succeeded else "4")


def test_events_are_told_in_utc() -> None:
    event = audit_events.application_started("H", replace(Access()).recorded)
    assert event["recorded"] == "2026-03-01T09:30:00.250Z"
