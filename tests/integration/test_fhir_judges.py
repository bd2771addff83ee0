"""Judges that nobody here wrote, over what is stored, served and published.

fhirpath.js evaluates each constraint of the R4 StructureDefinitions (tests/npm/judge.cjs), jsonschema HL7's schema, and
@medplum/core its own validation. Each is shown to refuse what is wrong first.
"""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from pipeline.fhir.audit_events import rest_access
from pipeline.fhir.published import published
from pipeline.store.store import Store
from pipeline.web import Access, create_app, serving
from pipeline.web.reader import DoorEvent
from pipeline.web.searchable import INCLUDES, SEARCHABLE
from tests.fhir_peers import judged, r4_definitions
from tests.invented_outcomes import invented_outcome, save_as_flows
from tests.unit.fhir_samples import ANSWERED, CHINESE, CONTEXT, OF_PLANES, SHORT, SITE, STARTED, built

Resource = dict[str, Any]
UNASKED = {"txt-1", "txt-2", "eld-16", "eld-19"}
"""What fhirpath.js cannot be asked: findings/fhirpath-js-asks-the-rules-of-r4.sh."""


@cache
def _schema(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((r4_definitions(folder) / "fhir.schema.json").read_text())
    return {"definitions": read["definitions"]}


def _schema_faults(folder: Path, resource: Resource) -> list[str]:
    whole = _schema(folder) | {"$ref": f"#/definitions/{resource['resourceType']}"}
    return [error.message[:120] for error in Draft202012Validator(whole).iter_errors(resource)]


def assert_sound(folder: Path, resources: list[Resource]) -> None:
    """All three judges find nothing."""
    for resource, verdict in zip(resources, judged(folder, resources), strict=True):
        named = f"{resource['resourceType']}/{resource.get('id')}"
        assert verdict["broken"] == [], named
        assert verdict["refused"] == "", named
        assert verdict["asked"] > 2, named
        assert set(verdict["unasked"]) <= UNASKED, named
        assert _schema_faults(folder, resource) == [], named


def _observation() -> Resource:
    return copy.deepcopy(next(dict(one.body) for one in built() if one.resource_type == "Observation"))


def _changed(**changes: Any) -> Callable[[], Resource]:
    return lambda: _observation() | changes


FAULTS: dict[str, tuple[Callable[[], Resource], str]] = {
    "value and reason of absence": (_changed(dataAbsentReason={"text": "x"}), "obs-6"),
    "extension with value and parts": (
        _changed(
            extension=[{"url": "urn:x", "valueString": "a", "extension": [{"url": "b", "valueCode": "c"}]}]
        ),
        "ext-1",
    ),
    "reference into nothing": (_changed(specimen={"reference": "#none"}), "ref-1"),
    "quantity with a code and no system": (
        _changed(component=[{"code": {"text": "x"}, "valueQuantity": {"value": 1, "code": "mm"}}]),
        "qty-3",
    ),
    "an element that is none": (_changed(colour="red"), "unknown element"),
    "period that ends before it begins": (
        _changed(performer=[{"identifier": {"period": {"start": "2026-03-01", "end": "2026-02-01"}}}]),
        "per-1",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_judges_see_what_is_wrong(npm_folder: Path, fault: str) -> None:
    make, key = FAULTS[fault]
    (verdict,) = judged(npm_folder, [make()])
    assert any(one.startswith(key) for one in verdict["broken"]), verdict


def test_the_schema_sees_what_is_wrong(npm_folder: Path) -> None:
    assert _schema_faults(npm_folder, _observation()) == []
    for wrong in (
        {"status": "fine"},
        {"issued": "2026-03-01"},
        {"colour": "red"},
        {"code": {"colour": "red"}},
    ):
        assert _schema_faults(npm_folder, _observation() | wrong), wrong


def test_what_the_pipeline_writes_is_sound(npm_folder: Path) -> None:
    undated = replace(CONTEXT, started=None)
    in_a_zone = replace(CONTEXT, started=STARTED.replace(tzinfo=None))
    studies = (
        built(),
        built(draft=CHINESE, completeness=SHORT),
        built(draft=ANSWERED),
        built(draft=OF_PLANES),
        built(context=undated),
        built(context=in_a_zone, site=replace(SITE, time_zone="America/New_York")),
    )
    every = {json.dumps(one.body, sort_keys=True): dict(one.body) for study in studies for one in study}
    assert_sound(npm_folder, [*every.values()])


def test_what_is_published_is_sound_and_is_what_the_documents_say(npm_folder: Path) -> None:
    told = [dict(one) for one in published()]
    assert_sound(npm_folder, told)
    used = {
        one["url"]
        for study in (built(), built(draft=ANSWERED), built(draft=OF_PLANES))
        for body in study
        for one in _extensions(body.body)
    }
    ours = {url for url in used if url.startswith("urn:firstread:")}
    assert ours == {one["url"] for one in told if one["resourceType"] == "StructureDefinition"}
    folder = Path(__file__).parents[2] / "docs" / "definitions"
    written = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    assert written == {f"{one['resourceType']}-{one['id']}": one for one in told}


def _extensions(element: Any) -> Iterator[dict[str, Any]]:
    if isinstance(element, list):
        for one in element:
            yield from _extensions(one)
    elif isinstance(element, dict):
        yield from (one for one in element.get("extension", ()) if ":" in one["url"])
        for one in element.values():
            yield from _extensions(one)


@pytest.fixture
def served(database_url: str) -> Iterator[tuple[httpx.Client, list[Access | DoorEvent]]]:
    resources = built()
    with ExitStack() as stack:
        store = stack.enter_context(Store(database_url))
        report = next(one.resource_id for one in resources if one.resource_type == "DiagnosticReport")
        save_as_flows(store, [replace(invented_outcome(9), resources=resources, diagnostic_report_id=report)])
        accesses: list[Access | DoorEvent] = []
        app = create_app(
            store, token="", audit=accesses.extend, clock=lambda: datetime.now(UTC), published=published()
        )
        url = stack.enter_context(serving(app))
        yield stack.enter_context(httpx.Client(base_url=f"{url}fhir", timeout=30)), accesses


def test_what_the_server_answers_is_sound(
    npm_folder: Path, served: tuple[httpx.Client, list[Access | DoorEvent]]
) -> None:
    client, accesses = served
    asked = [
        "metadata",
        *SEARCHABLE,
        "DiagnosticReport?_summary=count",
        "DiagnosticReport?_elements=status&_total=accurate",
        "DiagnosticReport?_include=DiagnosticReport:result&_revinclude=Provenance:target",
        "_history",
        "Observation/_history?_count=1",
        "StructureDefinition",
        "StructureDefinition?url=urn:firstread:StructureDefinition:region",
        "DiagnosticReport?nonsense=1",
        "Patient/nobody",
    ]
    answers = [client.get(f"/{one}").json() for one in asked]
    assert_sound(npm_folder, answers)
    assert_sound(
        npm_folder, [dict(event) for one in accesses if isinstance(one, Access) for event in rest_access(one)]
    )


def test_claims_about_searches_are_those_of_hl7(npm_folder: Path) -> None:
    """Each parameter that is claimed exists in R4 for its type, as a search of that kind; includes go by references."""
    bundle = json.loads((r4_definitions(npm_folder) / "search-parameters.json").read_text())
    known: dict[tuple[str, str], str] = {}
    for entry in bundle["entry"]:
        one = entry["resource"]
        known |= {(base, one["code"]): one["type"] for base in one.get("base", ())}
    for kind, parameters in SEARCHABLE.items():
        for name, of in parameters.items():
            if name == "study-uid" or "." in name:
                continue  # our own, and a chain
            assert (known.get((kind, name)) or known[("Resource", name)]) == of, (kind, name)
        for name in INCLUDES.get(kind, {}):
            assert known[(kind, name)] == "reference", (kind, name)
