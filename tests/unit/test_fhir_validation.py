"""What our validation catches: every way in which fhir.resources alone is too kind, and more."""

import base64
import copy
from collections.abc import Callable
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from pipeline.errors import FailStudy
from pipeline.fhir import validate, validate_body
from pipeline.fhir.elements import LOINC, SNOMED
from pipeline.fhir.fragments import validated
from pipeline.fhir.primitives import BrokenRuleError
from pipeline.fhir.structure import resource_checks
from pipeline.ledger import Resource
from tests.unit.fhir_samples import ISSUED, PATIENT, STUDY, body, built

Change = Callable[[dict[str, Any]], None]
RAW = b"<p>report</p>"
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">{}</div>'


def put(value: Any, *path: str | int) -> Change:
    """Sets one element."""

    def change(resource: dict[str, Any]) -> None:
        at: Any = resource
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value

    return change


def drop(name: str) -> Change:
    return lambda resource: resource.pop(name) and None


def changed(resource_type: str, change: Change, position: int = 0) -> dict[str, Any]:
    resource = copy.deepcopy(dict(body(built(), resource_type, position)))
    change(resource)
    return resource


ACCEPTED_BY_THE_LIBRARY_ALONE = {
    "status outside its value set": ("DiagnosticReport", put("bogus", "status")),
    "report partial is no observation status": ("Observation", put("partial", "status")),
    "subject of the wrong type": ("DiagnosticReport", put({"reference": "Observation/1"}, "subject")),
    "device as performer": ("DiagnosticReport", put([{"reference": "Device/1"}], "performer")),
    "type contradicts the target": (
        "Observation",
        put({"identifier": {"value": "1"}, "type": "Patient"}, "device"),
    ),
    "plain text as div": ("DiagnosticReport", put("Findings: none", "text", "div")),
    "script in the div": ("DiagnosticReport", put(DIV.format("<script>1</script>"), "text", "div")),
    "event attribute in the div": (
        "DiagnosticReport",
        put(DIV.format('<p onclick="x()">a</p>'), "text", "div"),
    ),
    "link in the div": ("DiagnosticReport", put(DIV.format('<a href="javascript:x()">a</a>'), "text", "div")),
    "div that is not well-formed": ("DiagnosticReport", put(DIV.format("<p>a"), "text", "div")),
    "div without namespace": ("DiagnosticReport", put("<div><p>a</p></div>", "text", "div")),
    "div with nothing to read": ("DiagnosticReport", put(DIV.format("<p> </p>"), "text", "div")),
    "comment in the div": ("DiagnosticReport", put(DIV.format("a<!-- b -->"), "text", "div")),
    "entities in the div": (
        "DiagnosticReport",
        put('<!DOCTYPE a [<!ENTITY b "c">]>' + DIV.format("&b;"), "text", "div"),
    ),
    "data that is no base64": ("DiagnosticReport", put("###=", "presentedForm", 0, "data")),
    "data that is no base64 and tells no size": (
        "DiagnosticReport",
        put({"contentType": "text/html", "data": "#abcd"}, "presentedForm", 0),
    ),
    "data of another size": (
        "DiagnosticReport",
        put(base64.b64encode(RAW).decode(), "presentedForm", 0, "data"),
    ),
    "hash of something else": (
        "DiagnosticReport",
        put(
            {"contentType": "text/html", "data": base64.b64encode(RAW).decode(), "hash": "AAAA"},
            "presentedForm",
            0,
        ),
    ),
    "data without contentType": (
        "DiagnosticReport",
        put({"data": base64.b64encode(RAW).decode()}, "presentedForm", 0),
    ),
    "control character": ("DiagnosticReport", put("a\x07b", "conclusion")),
    "wrong LOINC check digit": (
        "DiagnosticReport",
        put({"coding": [{"system": LOINC, "code": "18748-5"}]}, "code"),
    ),
    "code that its system has not": (
        "Observation",
        put("imagine", "category", 0, "coding", 0, "code"),
    ),
    "reference to nothing": ("DiagnosticReport", put({"type": "Patient"}, "subject")),
    "reference that is no reference": ("DiagnosticReport", put({"reference": "the patient"}, "subject")),
    "extension with value and extensions": (
        "Observation",
        put(
            [{"url": "urn:x", "valueString": "a", "extension": [{"url": "urn:y", "valueString": "b"}]}],
            "extension",
        ),
    ),
    "extension with neither": ("Observation", put([{"url": "urn:x"}], "extension")),
    "period that ends before it starts": (
        "Provenance",
        put({"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}, "occurredPeriod"),
    ),
    "component that repeats the code": (
        "Observation",
        lambda resource: resource.update(
            valueString="a", component=[{"code": resource["code"], "valueString": "b"}]
        ),
    ),
    "absent reason beside a value": ("Observation", put({"text": "unknown"}, "dataAbsentReason")),
    "empty array": ("DiagnosticReport", put([], "result")),
    "contained resource": ("DiagnosticReport", put([{"resourceType": "Patient", "id": "p"}], "contained")),
}
REFUSED_BY_BOTH = {
    "unknown element": ("DiagnosticReport", put("2.25.1", "study")),
    "missing required element": ("DiagnosticReport", drop("code")),
    "required element set to nothing": ("DiagnosticReport", put(None, "status")),
    "two values of one choice": ("Observation", put("2026-01-01T00:00:00Z", "effectiveInstant")),
    "string for a number": ("ImagingStudy", put("two", "numberOfInstances")),
    "negative count": ("ImagingStudy", put(-1, "numberOfInstances")),
    "one value for an array": ("DiagnosticReport", put({"reference": "Organization/1"}, "performer")),
    "array for one value": ("DiagnosticReport", put([], "subject")),
    "null in an array": ("DiagnosticReport", put([None], "performer")),
    "time without a zone": ("DiagnosticReport", put("2026-03-01T09:30:00", "effectiveDateTime")),
    "issued as a day": ("DiagnosticReport", put("2026-03-01", "issued")),
    "day that is not in the calendar": ("Patient", put("2026-02-30", "birthDate")),
    "code with spaces around": ("Device", put(" active ", "status")),
}


@pytest.mark.parametrize("fault", [*ACCEPTED_BY_THE_LIBRARY_ALONE, *REFUSED_BY_BOTH])
def test_fault_is_refused(fault: str) -> None:
    resource_type, change = (ACCEPTED_BY_THE_LIBRARY_ALONE | REFUSED_BY_BOTH)[fault]
    with pytest.raises(FailStudy) as caught:
        validate_body(changed(resource_type, change))
    assert caught.value.code == "fhir-invalid"
    assert resource_type in caught.value.message


@pytest.mark.parametrize("fault", [*ACCEPTED_BY_THE_LIBRARY_ALONE, *REFUSED_BY_BOTH])
def test_our_definitions_alone_refuse_it_too(fault: str) -> None:
    resource_type, change = (ACCEPTED_BY_THE_LIBRARY_ALONE | REFUSED_BY_BOTH)[fault]
    with pytest.raises(BrokenRuleError):
        resource_checks()[resource_type](changed(resource_type, change), [])


@pytest.mark.parametrize("fault", ACCEPTED_BY_THE_LIBRARY_ALONE)
def test_the_library_alone_accepts_what_the_second_validation_is_for(fault: str) -> None:
    """Where this fails the library has become stricter: move the fault to the other table."""
    resource_type, change = ACCEPTED_BY_THE_LIBRARY_ALONE[fault]
    get_fhir_model_class(resource_type).model_validate(changed(resource_type, change))


@pytest.mark.parametrize("fault", REFUSED_BY_BOTH)
def test_fragments_are_as_strict_as_the_library(fault: str) -> None:
    """Validating from the inside out, with a memory, refuses what validating the whole refuses."""
    resource_type, change = REFUSED_BY_BOTH[fault]
    resource = changed(resource_type, change)
    try:
        get_fhir_model_class(resource_type).model_validate(resource)
    except ValidationError:
        for _ in range(2):
            with pytest.raises(ValidationError):
                validated(resource_type, resource)
    else:
        pytest.fail("the library accepts this: it belongs to the other table")


def test_a_fault_deep_inside_is_named_by_its_path_without_its_value() -> None:
    wrong = changed("Observation", put("Secret Name", "extension", 0, "valueDecimal"), 2)
    with pytest.raises(FailStudy) as caught:
        validate_body(wrong)
    assert "Observation.extension" in caught.value.message
    assert "Secret" not in caught.value.message


@pytest.mark.parametrize("position", [0, 2])
def test_messages_hold_no_patient_data(position: int) -> None:
    secrets = (PATIENT.patient_id, "Fictitious", STUDY, "effusion", ISSUED.isoformat()[:10])
    for name in body(built(), "Observation", position):
        if name != "resourceType":
            with pytest.raises(FailStudy) as caught:
                validate_body(changed("Observation", put({"Fictitious": PATIENT.patient_id}, name), position))
            assert not [secret for secret in secrets if secret in caught.value.message]


def test_an_unknown_property_name_is_not_repeated_when_it_may_be_anything() -> None:
    wrong = changed("Patient", put("x", "Fictitious Ada 1971"))
    with pytest.raises(FailStudy) as caught:
        validate_body(wrong)
    assert "1971" not in caught.value.message


@pytest.mark.parametrize(
    "resource", [{}, {"resourceType": "Bogus"}, {"resourceType": ["Patient"]}, {"resourceType": "Claim"}]
)
def test_unknown_types_are_refused_not_crashed_on(resource: dict[str, Any]) -> None:
    with pytest.raises(FailStudy):
        validate_body(resource)


@pytest.mark.parametrize("identifier", ["", "a b", "x" * 65, "ä", "a/b"])
def test_ids_are_ids(identifier: str) -> None:
    wrong = dict(body(built(), "Patient")) | {"id": identifier}
    with pytest.raises(FailStudy):
        validate_body(wrong)


def test_a_series_uid_longer_than_an_id_is_refused() -> None:
    with pytest.raises(FailStudy):
        validate_body(changed("ImagingStudy", put("2." + "1" * 64, "series", 0, "uid")))


def test_every_reference_must_resolve_inside_the_set() -> None:
    resources = built()
    for left_out in ("Patient", "Device", "Organization", "ImagingStudy", "Observation"):
        with pytest.raises(FailStudy, match="not in the set"):
            validate([one for one in resources if one.resource_type != left_out])


def test_a_resource_comes_once_under_its_own_name() -> None:
    resources = built()
    with pytest.raises(FailStudy, match="twice"):
        validate([*resources, resources[0]])
    with pytest.raises(FailStudy, match="another type or id"):
        validate([Resource("Patient", "other", resources[1].body)])


def test_absolute_references_and_urns_are_allowed_and_checked() -> None:
    validate_body(changed("DiagnosticReport", put({"reference": "https://h.example/Patient/1"}, "subject")))
    validate_body(changed("DiagnosticReport", put({"reference": "urn:uuid:6f1c"}, "subject")))
    with pytest.raises(FailStudy):
        validate_body(changed("DiagnosticReport", put({"reference": "https://h.example/Claim/1"}, "subject")))


def test_a_transaction_bundle_is_valid_too() -> None:
    from pipeline.fhir import transaction_bundle

    bundle = transaction_bundle(built(), "https://fhir.example.org/r4")
    validate_body(bundle)
    bundle["type"] = "bogus"
    with pytest.raises(FailStudy):
        validate_body(bundle)


def test_a_broken_resource_inside_a_bundle_is_found() -> None:
    resources = [{"resource": {"resourceType": "Patient", "id": "a", "gender": "bogus"}}]
    with pytest.raises(FailStudy, match=r"entry\[0\]"):
        validate_body({"resourceType": "Bundle", "type": "collection", "entry": resources})
    with pytest.raises(FailStudy):
        validate_body(
            {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": {"resourceType": "X"}}]}
        )


def test_a_fragment_seen_before_does_not_excuse_a_changed_one() -> None:
    good = changed("Observation", lambda _: None)
    validate_body(good)
    bad = copy.deepcopy(good)
    bad["code"]["coding"][0]["code"] = 17
    with pytest.raises(FailStudy):
        validate_body(bad)
    assert bad["category"][0]["coding"][0]["system"] != SNOMED


@pytest.mark.parametrize("fault", REFUSED_BY_BOTH)
def test_the_first_validation_stands_by_itself(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resource_type, change = REFUSED_BY_BOTH[fault]
    blind = {resource_type: lambda _body, _found: None}
    monkeypatch.setattr("pipeline.fhir.validation.resource_checks", lambda: blind)
    with pytest.raises(FailStudy):
        validate_body(changed(resource_type, change))
