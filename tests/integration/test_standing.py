"""One truth of a study: superseded results are withdrawn, the recipe in force stands, a way back, no twins."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import psycopg
import pytest

from pipeline.errors import FailStudy, SkipStudy
from pipeline.ledger import Claim, LedgerState, ReportOutcome, Resource, WorkFilter
from pipeline.lookup import Criterion, HistorySearch, PatientIn, ResourceSearch, StatusIn
from pipeline.store.connections import libpq_url
from pipeline.store.store import Store
from pipeline.store.values import SettledFilter, SettledRow
from tests.memberships import let_act_as
from tests.store_samples import (
    ARCHIVE,
    RECIPE,
    completeness,
    discover,
    found,
    outcome,
    resources,
    settled,
    study_uid,
)
from tests.store_samples import claim as claim_sample

UID = study_uid(0)
OTHER = "z" * 64
EVENT = {"resourceType": "AuditEvent", "action": "U"}


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with Store(database_url) as opened:
        yield opened


def claim(store: Store, recipe: str = RECIPE, archive: str | None = None) -> Claim:
    (held,) = store.claim(recipe, WorkFilter(archive), owner="o", limit=10, lease_seconds=60)
    return held


def drafted(held: Claim, run: str, *, patient: str = "patient-1000", **changes: Any) -> ReportOutcome:
    """A drafted study whose Observations belong to ``run``, as those of ``pipeline.fhir`` do."""
    bodies = [
        dict(one.body) for one in resources(held.study_instance_uid, impression=f"Impression of {run}.")
    ]
    for body in bodies:
        if body["resourceType"] == "Observation":
            body["id"] = f"{run}-{body['id'].rsplit('-', 1)[1]}"
            body["valueString"] = run
        if "subject" in body:
            body["subject"] = {"reference": f"Patient/{patient}"}
    results = [
        {"reference": f"Observation/{body['id']}"} for body in bodies if body["resourceType"] == "Observation"
    ]
    for body in bodies:
        if body["resourceType"] == "DiagnosticReport":
            body["result"] = results
            body["id"] = f"report-{held.archive}"
    target = [{"reference": f"DiagnosticReport/report-{held.archive}"}, *results]
    bodies.append({"resourceType": "Provenance", "id": f"provenance-{run}", "target": target})
    values: dict[str, Any] = {
        "resources": tuple(Resource(body["resourceType"], body["id"], body) for body in bodies),
        "diagnostic_report_id": f"report-{held.archive}",
        "manifest": run * 8,
    } | changes
    return outcome(held, **values)


def observations(store: Store, *criteria: Criterion) -> dict[str, str]:
    """Status of each current Observation by its id."""
    found_ones = store.search(ResourceSearch("Observation", criteria, limit=50)).resources
    return {one.resource_id: orjson.loads(one.body)["status"] for one in found_ones}


def in_force(store: Store) -> set[str]:
    """Runs whose Observations are in force."""
    return {name.split("-")[0] for name, status in observations(store).items() if status == "preliminary"}


def redraft(store: Store, run: str, **changes: Any) -> None:
    store.record_found(ARCHIVE, RECIPE, [found(0, demographics_digest=run)])
    store.save(drafted(claim(store), run, **changes))


def rows(store: Store, *states: LedgerState, **which: Any) -> tuple[SettledRow, ...]:
    return store.standing.settled(SettledFilter(states or (LedgerState.REPORTED,), **which))


def test_what_a_new_version_no_longer_has_is_withdrawn(store: Store) -> None:
    discover(store, 1)
    store.save(drafted(claim(store), "first"))
    redraft(store, "second")
    assert in_force(store) == {"second"}
    assert {status for name, status in observations(store).items() if name.startswith("first")} == {
        "entered-in-error"
    }
    former = store.vread("Observation", "first-0", 1)
    assert former is not None
    assert orjson.loads(former.body)["status"] == "preliminary", "history keeps it"


def test_nothing_in_force_stays_on_a_former_patient(store: Store) -> None:
    discover(store, 1)
    store.save(drafted(claim(store), "wrong", patient="former"))
    redraft(store, "right", patient="corrected")
    former = observations(store, PatientIn(("former",)))
    assert set(former.values()) == {"entered-in-error"}
    assert len(former) == 4
    assert observations(store, PatientIn(("former",)), StatusIn(("preliminary",))) == {}
    assert set(observations(store, PatientIn(("corrected",))).values()) == {"preliminary"}


def test_the_same_outcome_again_withdraws_nothing(store: Store) -> None:
    discover(store, 1)
    held = claim(store)
    first, again = store.save(drafted(held, "first")), store.save(drafted(held, "first"))
    assert (first, in_force(store)) == (again, {"first"})


def test_provenance_names_the_versions_it_is_about(store: Store) -> None:
    discover(store, 1)
    store.save(drafted(claim(store), "first"))
    redraft(store, "second")
    for run, version in (("first", 1), ("second", 2)):
        stored = store.read("Provenance", f"provenance-{run}")
        assert stored is not None
        targets = [one["reference"] for one in orjson.loads(stored.body)["target"]]
        assert targets[0] == f"DiagnosticReport/report-{ARCHIVE}/_history/{version}"
        assert targets[1] == f"Observation/{run}-0/_history/1"


def test_a_study_skipped_after_it_was_reported_keeps_no_draft_in_force(store: Store) -> None:
    discover(store, 1)
    store.save(drafted(claim(store), "first"))
    store.record_found(ARCHIVE, RECIPE, [found(0, demographics_digest="a hand now")])
    store.settle(settled(claim(store)))
    assert in_force(store) == set()
    report = store.read("DiagnosticReport", f"report-{ARCHIVE}")
    assert report is not None
    assert orjson.loads(report.body)["status"] == "entered-in-error"
    assert store.report_rows(10).rows == (), "the work list shows what is in force"
    assert store.audit_verify().ok


def test_a_study_gone_from_its_archive_keeps_no_draft_in_force(store: Store) -> None:
    discover(store, 1)
    store.save(drafted(claim(store), "first"))
    store.record_found(ARCHIVE, RECIPE, [found(0, demographics_digest="x")])
    store.settle(settled(claim(store), code="study-gone", completeness=None))
    assert in_force(store) == set()


def test_the_draft_of_the_recipe_in_force_stands(store: Store, database_url: str) -> None:
    """Language en, then zh, then en again: the English draft is current again, and nothing is drafted."""
    (english,) = discover(store, 1)
    outlined = drafted(claim(store), "english")
    outlined = replace(outlined, previews=(replace(outlined.previews[0], overlay=b"outlines"),))
    store.save(outlined)
    store.record_found(ARCHIVE, OTHER, [found(0)])
    store.save(drafted(claim(store, OTHER), "chinese"))
    assert in_force(store) == {"chinese"}
    assert rows(store, hidden=True, recipe=RECIPE) == (), "not asked for again yet"

    counts = store.record_found(ARCHIVE, RECIPE, [found(0)])
    assert counts.ledger_ids_to_do == ()
    (hidden,) = rows(store, hidden=True, recipe=RECIPE)
    assert hidden.ledger_id == english
    assert store.standing.reinstate(english, EVENT)
    assert in_force(store) == {"english"}
    assert rows(store, hidden=True, recipe=RECIPE) == ()
    report = store.read("DiagnosticReport", f"report-{ARCHIVE}")
    assert report is not None
    assert (report.version_id, orjson.loads(report.body)["conclusion"]) == (3, "Impression of english.")
    detail = store.report_detail(f"report-{ARCHIVE}")
    assert detail is not None
    assert (detail.row.version, len(detail.previews), len(detail.versions)) == (3, 1, 3)
    assert detail.previews[0].overlay == b"outlines"
    provenance = store.read("Provenance", "provenance-english")
    assert provenance is not None
    assert orjson.loads(provenance.body)["target"][0]["reference"].endswith("/_history/3")
    assert store.audit_verify().ok
    with psycopg.connect(libpq_url(database_url)) as connection:
        select = (
            "SELECT version, recipe, reinstated_from, current FROM firstread.report_versions ORDER BY version"
        )
        assert connection.execute(select).fetchall() == [
            (1, RECIPE, None, False),
            (2, OTHER, None, False),
            (3, RECIPE, 1, True),
        ]
    assert store.standing.reinstate(english, EVENT), "asked again it changes nothing"
    assert store.count_history(HistorySearch(("DiagnosticReport",), f"report-{ARCHIVE}")) == 3


def test_a_person_who_has_taken_over_is_not_overwritten_by_a_former_draft(
    store: Store, database_url: str
) -> None:
    (english,) = discover(store, 1)
    store.save(drafted(claim(store), "english"))
    store.record_found(ARCHIVE, OTHER, [found(0)])
    store.save(drafted(claim(store, OTHER), "chinese"))
    sign(database_url, f"report-{ARCHIVE}")
    store.record_found(ARCHIVE, RECIPE, [found(0)])
    assert rows(store, hidden=True, recipe=RECIPE) == ()
    assert not store.standing.reinstate(english, EVENT)
    with pytest.raises(FailStudy, match="person"):
        store.standing.retire(store.studies()[0].ledger_id, EVENT)


def test_studies_are_counted_once_whatever_the_recipes(store: Store, database_url: str) -> None:
    store.record_found(ARCHIVE, RECIPE, [found(0), found(1)])
    for held in claim_sample(store):
        store.save(outcome(held))
    for recipe in (OTHER, "y" * 64):
        store.record_found(ARCHIVE, recipe, [found(0), found(1)])
    (discovered, reported) = store.status_counts()
    assert (discovered.studies, discovered.older) == (2, 2)
    assert (reported.studies, reported.older) == (0, 2)
    store.record_found(ARCHIVE, RECIPE, [found(0), found(1)])
    with psycopg.connect(libpq_url(database_url)) as connection:
        joined = connection.execute(
            "SELECT count(*), count(DISTINCT r.study_instance_uid) FROM firstread.reports AS r "
            "JOIN firstread.studies AS s USING (study_instance_uid)"
        ).fetchone()
        assert joined == (2, 2)
        every = "SELECT count(*) FROM firstread.studies"
        assert connection.execute(every).fetchone() == (2,)


def test_a_wrong_draft_is_retired_and_stays_so(store: Store) -> None:
    (number,) = discover(store, 1)
    store.save(drafted(claim(store), "wrong"))
    assert store.standing.retire(number, EVENT)
    assert in_force(store) == set()
    row = store.study(number)
    assert row is not None
    assert (row.state, row.code) == (LedgerState.SKIPPED, "retired")
    store.record_found(ARCHIVE, RECIPE, [found(0)])
    assert rows(store, hidden=True) == ()
    assert not store.standing.retire(number, EVENT), "there is nothing left to retire"
    store.record_found(ARCHIVE, RECIPE, [found(0, demographics_digest="new film")])
    assert claim(store).reported_manifest == "", "the retired draft is no draft of the same images"


def test_a_reopened_study_says_that_a_person_wants_it_again(store: Store) -> None:
    (number,) = discover(store, 1)
    store.save(drafted(claim(store), "first"))
    assert store.standing.reopen([number], [EVENT], again=True) == (number,)
    held = claim(store)
    assert held.again
    assert store.standing.reopen([number], [EVENT], again=True) == (), "what is being worked on is left alone"
    store.save(drafted(held, "second"))
    assert in_force(store) == {"second"}
    assert not store.claim(RECIPE, owner="o", limit=1, lease_seconds=9)
    assert store.audit_verify().ok


KEY = "k" * 64


def seen(store: Store, archive: str) -> Claim:
    store.record_found(archive, RECIPE, [found(0)])
    return claim(store, archive=archive)


def films(held: Claim, run: str, count: int) -> ReportOutcome:
    base = drafted(held, run, patient_key=KEY)
    return replace(base, completeness=replace(completeness(UID, run * 8), films=count, films_digest=run))


def test_one_study_of_two_archives_has_one_report(store: Store) -> None:
    store.save(films(seen(store, "ct"), "ct", 2))
    second = seen(store, "vna")
    assert second.elsewhere
    other = store.standing.elsewhere("vna", UID, KEY)
    assert other is not None
    assert (other.archive, other.films) == ("ct", 2)
    with pytest.raises(SkipStudy) as refused:
        store.save(films(second, "vna", 2))
    assert refused.value.code == "duplicate-study"
    assert in_force(store) == {"ct"}


def test_the_archive_with_more_films_takes_the_report_over(store: Store) -> None:
    store.save(films(seen(store, "ct"), "ct", 1))
    store.save(films(seen(store, "vna"), "vna", 2))
    assert in_force(store) == {"vna"}
    (former,) = [row for row in store.studies() if row.archive == "ct"]
    assert (former.state, former.code) == (LedgerState.SKIPPED, "duplicate-study")
    assert [one.archive for one in store.report_rows(10).rows] == ["vna"]
    assert store.audit_verify().ok


def test_the_same_uid_of_another_patient_is_another_study(store: Store) -> None:
    store.save(films(seen(store, "ct"), "ct", 2))
    store.save(replace(films(seen(store, "vna"), "vna", 2), patient_key="other"))
    assert in_force(store) == {"ct", "vna"}
    assert store.standing.elsewhere("vna", UID, "unknown") is None


def sign(database_url: str, report: str) -> None:
    with psycopg.connect(libpq_url(database_url)) as connection:
        let_act_as(connection, "firstread_signer")
        connection.execute("SET ROLE firstread_signer")
        connection.execute(
            """UPDATE firstread.resource SET body = body || '{"status": "final"}' WHERE resource_id = %s""",
            [report],
        )


def test_a_study_that_a_person_signed_elsewhere_is_not_drafted_again(store: Store, database_url: str) -> None:
    store.save(films(seen(store, "ct"), "ct", 2))
    sign(database_url, "report-ct")
    with pytest.raises(SkipStudy):
        store.save(films(seen(store, "vna"), "vna", 2))
