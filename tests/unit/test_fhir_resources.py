"""The resources of a drafted study: golden files, ids, labels, banners, statuses, what a reader is told."""

import base64
import hashlib
import json
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from pipeline.errors import ConfigurationError, FailStudy
from pipeline.fhir import transaction_bundle, validate
from pipeline.fhir.elements import (
    AI_ASSERTED,
    AI_CONFIDENCE,
    INLINE_LABEL,
    TZ_CODE,
    clean,
    date_time,
    instant,
)
from pipeline.fhir.narrative import words
from pipeline.fhir.observations import REGION
from pipeline.fhir.patient import patient_key
from pipeline.fhir.site import Site
from pipeline.report import CheckOutcome, Finding, Language, Region, Verdict
from pipeline.study_context import PatientIdentity
from tests.unit.fhir_samples import (
    CHECKS,
    CHINESE,
    COMPLETE,
    CONTEXT,
    DRAFT,
    FRONTAL,
    GOLDEN,
    GOLDEN_STUDIES,
    ISSUED,
    PATIENT,
    SHORT,
    SITE,
    STARTED,
    STUDY,
    body,
    built,
    golden_text,
)

BANNERS = {
    Language.ENGLISH: "Machine-made draft, not read by a radiologist",
    Language.CHINESE: "机器生成的草稿",
}


def page_of(report: Any) -> str:
    return base64.b64decode(report["presentedForm"][0]["data"], validate=True).decode("utf-8")


@pytest.mark.parametrize("name", GOLDEN_STUDIES)
def test_resources_are_those_of_the_golden_file(name: str) -> None:
    assert golden_text(name) == (GOLDEN / name).read_text("utf-8")


@pytest.mark.parametrize("name", GOLDEN_STUDIES)
def test_golden_resources_pass_both_validations(name: str) -> None:
    validate(built(**GOLDEN_STUDIES[name]))


def test_every_resource_comes_after_those_it_refers_to() -> None:
    kinds = [one.resource_type for one in built()]
    assert kinds[:4] == ["Organization", "Patient", "Device", "ImagingStudy"]
    assert kinds[4:] == ["Observation"] * 5 + ["DiagnosticReport", "Provenance"]


def test_report_keeps_its_id_over_runs_and_observations_do_not() -> None:
    first, late = built(), built(completeness=replace(COMPLETE, manifest_digest="n" * 64))
    assert body(first, "DiagnosticReport")["id"] == body(late, "DiagnosticReport")["id"]
    assert body(first, "Observation")["id"] != body(late, "Observation")["id"]
    assert body(first, "Provenance")["id"] != body(late, "Provenance")["id"]
    other_site = built(site=replace(SITE, archive="second"))
    assert body(first, "DiagnosticReport")["id"] != body(other_site, "DiagnosticReport")["id"]


def test_ids_are_unique_and_the_same_twice() -> None:
    first, again = built(), built()
    assert first == again
    assert len({(one.resource_type, one.resource_id) for one in first}) == len(first)


def test_two_equal_findings_are_two_observations() -> None:
    finding = Finding("nodule", True, sentence="A nodule.")
    validate(built(draft=replace(DRAFT, findings=(finding, finding))))


@pytest.mark.parametrize("status", ["partial", "preliminary"])
def test_draft_status_is_the_sites_and_observations_are_preliminary(status: str) -> None:
    resources = built(site=replace(SITE, draft_status=status))
    assert body(resources, "DiagnosticReport")["status"] == status
    assert {one.body["status"] for one in resources if one.resource_type == "Observation"} == {"preliminary"}
    validate(resources)


@pytest.mark.parametrize("status", ["final", "amended", "corrected", "appended", "registered", ""])
def test_no_site_may_call_a_draft_anything_else(status: str) -> None:
    with pytest.raises(ConfigurationError):
        replace(SITE, draft_status=status)


def test_identifier_system_must_be_a_uri() -> None:
    with pytest.raises(ConfigurationError):
        Site("main", "Hospital", "our numbers")


def test_identifier_systems_of_urls_and_urns() -> None:
    assert SITE.system("accession") == "urn:firstread:site:main:accession"
    assert (
        Site("a b", "H", "https://h.example/ids/").system("patient", "X/Y")
        == "https://h.example/ids/a%20b/patient/X%2FY"
    )


def test_machine_written_resources_are_labelled_and_copied_ones_are_not() -> None:
    labelled = {
        one.resource_type for one in built() if AI_ASSERTED in one.body.get("meta", {}).get("security", ())
    }
    assert labelled == {"Observation", "DiagnosticReport", "Provenance"}


def test_conclusion_is_the_impression_and_carries_its_own_label() -> None:
    report = body(built(), "DiagnosticReport")
    assert report["conclusion"] == DRAFT.impression_text
    assert report["_conclusion"]["extension"] == [{"url": INLINE_LABEL, "valueCoding": AI_ASSERTED}]


@pytest.mark.parametrize("draft", [DRAFT, CHINESE], ids=["en", "zh"])
def test_banner_stands_in_every_text_people_read(draft: Any) -> None:
    banner = BANNERS[draft.language]
    resources = built(draft=draft)
    for one in resources:
        if one.resource_type in ("Observation", "DiagnosticReport"):
            assert banner in one.body["text"]["div"]
            assert one.body["language"] == draft.language.value
    report = body(resources, "DiagnosticReport")
    assert page_of(report).index(banner) < page_of(report).index(draft.findings_text)


def test_presented_form_tells_its_size_and_hash() -> None:
    form = body(built(), "DiagnosticReport")["presentedForm"][0]
    raw = base64.b64decode(form["data"], validate=True)
    assert (form["contentType"], form["size"]) == ("text/html", len(raw))
    assert base64.b64decode(form["hash"]) == hashlib.sha1(raw).digest()
    for shown in (DRAFT.findings_text, DRAFT.impression_text, "TEST-7", "1971-03-14", "ACC-7", "2026-02-28"):
        assert shown in raw.decode("utf-8")


def test_reader_is_told_of_gaps_left_out_instances_and_warnings() -> None:
    report = body(built(draft=replace(DRAFT, truncated=True), completeness=SHORT), "DiagnosticReport")
    for text in (report["text"]["div"], page_of(report)):
        assert "1 of 3 announced instances were not received" in text
        assert "1 object(s) received damaged: file ends early" in text
        assert "1 instance(s) not used: lateral view not used by this model" in text
        assert "Check classifier: the classifier sees a nodule" in text
        assert "may be cut short" in text
        assert "Check laterality" not in text
    complete = body(built(checks=()), "DiagnosticReport")["text"]["div"]
    assert "not received" not in complete
    assert "Check" not in complete


def test_both_languages_have_the_same_words() -> None:
    english, chinese = words(Language.ENGLISH), words(Language.CHINESE)
    assert english.keys() == chinese.keys()
    assert not set(english.values()) & set(chinese.values())


def test_finding_has_place_side_severity_confidence_and_region() -> None:
    effusion = body(built(), "Observation", 2)
    assert effusion["code"]["coding"][0] == {
        "system": "urn:firstread:finding",
        "code": "pleural_effusion",
        "display": "Pleural effusion",
    }
    assert effusion["code"]["coding"][1]["code"] == "60046008"
    assert effusion["bodySite"]["text"] == "left pleura"
    said = {
        one["code"].get("text", "laterality"): one["valueCodeableConcept"]["text"]
        for one in effusion["component"]
    }
    assert said == {"laterality": "left", "Severity": "moderate"}
    extensions = {one["url"]: one for one in effusion["extension"]}
    assert extensions[AI_CONFIDENCE]["valueDecimal"] == 0.9312
    parts = {one["url"]: one for one in extensions[REGION]["extension"]}
    assert parts["sopInstanceUid"]["valueId"] == FRONTAL.sop_instance_uid
    assert parts["frame"]["valuePositiveInt"] == 1
    assert [parts[edge]["valueDecimal"] for edge in ("x0", "y0", "x1", "y1")] == [
        1203.25,
        1400.0,
        1700.5,
        1900.75,
    ]
    assert body(built(), "Observation", 3)["bodySite"]["text"] == "right lung upper zone"


def test_only_findings_present_become_observations_and_all_are_results() -> None:
    resources = built()
    codes = [one.body["code"]["coding"][0]["code"] for one in resources if one.resource_type == "Observation"]
    assert codes == ["59776-5", "19005-8", "pleural_effusion", "nodule", "cardiomegaly"]
    results = [one["reference"] for one in body(resources, "DiagnosticReport")["result"]]
    assert results == [
        f"Observation/{one.resource_id}" for one in resources if one.resource_type == "Observation"
    ]


def test_performer_is_the_organization_and_the_device_is_the_agent() -> None:
    resources = built()
    assert body(resources, "DiagnosticReport")["performer"][0]["type"] == "Organization"
    made = body(resources, "Provenance")
    assert made["agent"][0]["who"]["reference"] == f"Device/{body(resources, 'Device')['id']}"
    targets = {one["reference"] for one in made["target"]}
    assert targets == {
        f"{one.resource_type}/{one.resource_id}"
        for one in resources
        if one.resource_type in ("Observation", "DiagnosticReport")
    }


def test_patient_is_told_as_it_came() -> None:
    patient = body(built(), "Patient")
    assert patient["identifier"][0]["value"] == "TEST-7"
    assert patient["identifier"][0]["system"].endswith(":patient:INVENTED")
    assert [one["extension"][0]["valueCode"] for one in patient["name"]] == ["ABC", "IDE"]
    assert patient["name"][0]["given"] == ["Ada", "B"]
    assert (patient["gender"], patient["birthDate"]) == ("female", "1971-03-14")


@pytest.mark.parametrize(("sex", "gender"), [("M", "male"), ("o", "other"), ("U", "unknown"), ("", None)])
def test_gender_of_patient_sex(sex: str, gender: str | None) -> None:
    resources = built(context=replace(CONTEXT, patient=replace(PATIENT, sex=sex)))
    assert body(resources, "Patient").get("gender") == gender


def test_ideographs_in_the_first_group_are_not_called_alphabetic() -> None:
    named = replace(PATIENT, name_groups=("王^小东",))
    name = body(built(context=replace(CONTEXT, patient=named)), "Patient")["name"][0]
    assert name == {"text": "王 小东", "family": "王", "given": ["小东"]}


@pytest.mark.parametrize("number", ["", "0", "UNKNOWN", "9999"])
def test_patients_without_a_number_are_not_one_patient(number: str) -> None:
    nobody = replace(CONTEXT, patient=PatientIdentity(patient_id=number, issuer="INVENTED"))
    other = replace(nobody, study_instance_uid="2.25.999")
    first = built(context=nobody)
    second = built(context=other, draft=replace(DRAFT, study_instance_uid="2.25.999"))
    validate(first)
    assert body(first, "Patient")["id"] != body(second, "Patient")["id"]
    assert "identifier" not in body(first, "Patient"), "a number that identifies nobody is no identifier"
    assert patient_key(nobody) == ""


def test_bare_study_is_told_without_inventing() -> None:
    bare = replace(
        CONTEXT,
        patient=PatientIdentity(),
        accession_number="",
        started=None,
        description="",
        procedure_codes=(),
        instances=(),
    )
    resources = built(context=bare, checks=())
    validate(resources)
    report = body(resources, "DiagnosticReport")
    assert report["_effectiveDateTime"]["extension"][0]["valueCode"] == "unknown"
    assert "basedOn" not in report
    assert "series" not in body(resources, "ImagingStudy")


def test_time_without_a_zone_is_cut_to_its_day() -> None:
    assert date_time(datetime(2026, 2, 3, 4, 5)) == "2026-02-03"  # noqa: DTZ001
    assert instant(ISSUED) == "2026-03-01T09:30:00.250Z"
    with pytest.raises(ValueError, match="zone"):
        instant(datetime(2026, 2, 3))  # noqa: DTZ001


def test_text_keeps_what_fhir_allows() -> None:
    assert clean(" a\x00b\x1b[0m\ud800\tc\nd \u3000") == "ab[0m\tc\nd"
    assert clean("مريض 🙂") == "مريض 🙂"


@pytest.mark.parametrize(
    "changes",
    [
        {"findings_text": " \x00"},
        {"impression_text": ""},
        {"findings": (Finding("nodule", True, confidence=1.5),)},
        {"findings": (Finding("nodule", True, confidence=float("nan")),)},
        {"findings": (Finding("nodule", True, region=Region(FRONTAL, 0, 5, 5, 5, 9)),)},
        {"findings": (Finding("nodule", True, region=Region(FRONTAL, 0, 5, 5, float("inf"), 9)),)},
        {"study_instance_uid": "2.25.1"},
    ],
)
def test_drafts_that_cannot_be_told_fail_the_study(changes: dict[str, Any]) -> None:
    with pytest.raises(FailStudy) as caught:
        built(draft=replace(DRAFT, **changes))
    assert STUDY not in str(caught.value)


def test_draft_that_failed_a_hard_check_is_not_a_report() -> None:
    with pytest.raises(FailStudy, match="laterality"):
        built(checks=(*CHECKS, CheckOutcome("laterality", Verdict.FAILED, "left and right")))


def test_transaction_puts_every_resource_and_asks_for_versions() -> None:
    resources = built()
    report = body(resources, "DiagnosticReport")
    key = f"DiagnosticReport/{report['id']}"
    bundle = transaction_bundle(resources, "https://fhir.example.org/r4/", {key: 3})
    assert (bundle["type"], len(bundle["entry"])) == ("transaction", len(resources))
    entry = next(one for one in bundle["entry"] if one["request"]["url"] == key)
    assert entry["fullUrl"] == f"https://fhir.example.org/r4/{key}"
    assert entry["request"] == {"method": "PUT", "url": key, "ifMatch": 'W/"3"'}
    json.dumps(bundle, allow_nan=False)


def test_birth_of_long_ago_and_moments_with_odd_offsets_stay_valid() -> None:
    old = replace(PATIENT, birth_date=date(1, 1, 1))
    validate(built(context=replace(CONTEXT, patient=old, started=datetime(2026, 1, 1, tzinfo=UTC))))


def test_a_day_says_whose_day_it_is_where_the_site_knows() -> None:
    """R4 extension tz-code; a time that has a zone needs none."""
    naive = replace(CONTEXT, started=STARTED.replace(tzinfo=None))
    there = replace(SITE, time_zone="America/New_York")
    resources = built(context=naive, site=there)
    validate(resources)
    told = {"extension": [{"url": TZ_CODE, "valueCode": "America/New_York"}]}
    for kind, element in (
        ("DiagnosticReport", "effectiveDateTime"),
        ("Observation", "effectiveDateTime"),
        ("ImagingStudy", "started"),
    ):
        one = body(resources, kind)
        assert (one[element], one[f"_{element}"]) == ("2026-02-28", told)
        assert f"_{element}" not in body(built(context=naive), kind)
        assert f"_{element}" not in body(built(site=there), kind)
