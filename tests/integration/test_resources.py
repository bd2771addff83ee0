"""FHIR resources in Postgres: versions, the status machine, and history."""

from collections.abc import Iterator
from typing import Any

import orjson
import psycopg
import pytest
from psycopg.types.json import Jsonb

from pipeline.errors import FailStudy
from pipeline.ledger import Resource
from pipeline.lookup import (
    HistorySearch,
)
from pipeline.store.store import Store
from tests.store_samples import (
    ARCHIVE,
    RECIPE,
    claim,
    discover,
    found,
    outcome,
    resources,
)

Connection = psycopg.Connection[tuple[Any, ...]]
MACHINE, SIGNER, OWNER = "firstread_machine", "firstread_signer", "firstread_owner"


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with Store(database_url) as opened:
        yield opened


def put(
    connection: Connection, role: str, status: str | None, kind: str = "DiagnosticReport", **more: Any
) -> None:
    """PUT one resource directly in SQL under ``role``."""
    body = {"resourceType": kind, "id": "r1", "conclusion": "text", **more}
    if status is not None:
        body["status"] = status
    connection.execute(f"SET ROLE {role}")
    try:
        known = connection.execute("SELECT FROM resource WHERE resource_id = 'r1'").fetchone() is not None
        if known:
            connection.execute("UPDATE resource SET body = %s WHERE resource_id = 'r1'", [Jsonb(body)])
        else:
            connection.execute(
                "INSERT INTO resource (resource_type, resource_id, version_id, last_updated, body, written_by) "
                "VALUES (%s, 'r1', 99, now(), %s, 'signer')",
                [kind, Jsonb(body)],
            )
    finally:
        connection.execute("RESET ROLE")


def refusal(connection: Connection, *arguments: Any, **more: Any) -> str | None:
    with pytest.raises(psycopg.Error) as refused:
        put(connection, *arguments, **more)
    return refused.value.sqlstate


@pytest.mark.parametrize("role", [MACHINE, OWNER])
@pytest.mark.parametrize("kind", ["DiagnosticReport", "Observation"])
def test_nobody_but_a_signer_writes_a_finished_report(database: Connection, role: str, kind: str) -> None:
    forbidden = ("final", "amended", "corrected", "appended", "unknown", "anything", None)
    for status in (*forbidden, "entered-in-error"):
        assert refusal(database, role, status, kind) == "FR002", status
    put(database, role, "preliminary", kind)
    for status in forbidden:
        assert refusal(database, role, status, kind, note="as an update") == "FR002", status


@pytest.mark.parametrize("role", [MACHINE, OWNER])
def test_a_machine_finishes_nothing_wherever_it_is_written(database: Connection, role: str) -> None:
    signed = {"resourceType": "DiagnosticReport", "status": "final"}
    assert refusal(database, role, "partial", contained=[signed]) == "FR002"
    for kind, more in (
        ("Composition", {"status": "final"}),
        ("Composition", {"status": "amended"}),
        ("DocumentReference", {"status": "current", "docStatus": "final"}),
        ("Bundle", {"entry": [{"resource": signed}]}),
        ("Bundle", {"entry": [{"resource": {"resourceType": "Bundle", "entry": [{"resource": signed}]}}]}),
        ("Basic", {"contained": [{"resourceType": "Composition", "status": "corrected"}]}),
    ):
        status = more.pop("status", None)
        assert refusal(database, role, status, kind, **more) == "FR002", kind
    put(database, role, "partial", contained=[{"resourceType": "Observation", "status": "preliminary"}])


def test_the_machine_takes_its_own_withdrawal_back_and_never_a_persons(database: Connection) -> None:
    put(database, MACHINE, "partial")
    put(database, MACHINE, "entered-in-error")
    assert refusal(database, MACHINE, "registered") == "FR002"
    put(database, MACHINE, "partial")
    put(database, SIGNER, "entered-in-error")
    assert refusal(database, MACHINE, "partial") == "FR001"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("registered", "partial"),
        ("partial", "preliminary"),
        ("preliminary", "partial"),
        ("partial", "cancelled"),
    ],
)
def test_the_machine_moves_drafts(database: Connection, before: str, after: str) -> None:
    put(database, MACHINE, before)
    put(database, MACHINE, after)
    row = database.execute("SELECT status, version_id, written_by FROM resource").fetchone()
    assert row == (after, 2, "machine"), "version and writer are the trigger's, not the client's"


def test_a_radiologist_signs_and_nobody_goes_back(database: Connection) -> None:
    put(database, MACHINE, "partial")
    put(database, SIGNER, "final")
    for status in ("partial", "preliminary", "registered", "cancelled", "final"):
        assert refusal(database, SIGNER, status, note="changed") == "FR002"
    assert refusal(database, MACHINE, "partial") == "FR001"
    put(database, SIGNER, "corrected")
    assert refusal(database, SIGNER, "final") == "FR002"
    put(database, SIGNER, "entered-in-error")
    assert refusal(database, SIGNER, "amended") == "FR002"
    rows = database.execute(
        "SELECT version_id, body ->> 'status', written_by FROM resource_history ORDER BY 1"
    )
    assert rows.fetchall() == [
        (1, "partial", "machine"),
        (2, "final", "signer"),
        (3, "corrected", "signer"),
        (4, "entered-in-error", "signer"),
    ]


def test_a_signer_starts_from_a_draft(database: Connection) -> None:
    assert refusal(database, SIGNER, "final") == "FR002"


@pytest.mark.parametrize("touch", ["partial", "final"])
def test_the_machine_never_overwrites_a_person(store: Store, database: Connection, touch: str) -> None:
    discover(store, 1)
    saved = store.save(outcome(claim(store)[0]))
    database.execute("SET ROLE firstread_signer")
    database.execute(
        "UPDATE resource SET body = body || jsonb_build_object('status', %s::text) WHERE resource_id = %s",
        [touch, saved.report_id],
    )
    database.execute("RESET ROLE")
    store.record_found(ARCHIVE, RECIPE, [found(0, demographics_digest="late")])
    with pytest.raises(FailStudy) as refused:
        store.save(outcome(claim(store)[0], manifest="n" * 64))
    assert refused.value.code == "report-signed"
    current = store.read("DiagnosticReport", saved.report_id)
    assert current is not None
    assert (current.version_id, orjson.loads(current.body)["status"]) == (2, touch)


@pytest.mark.parametrize("role", [MACHINE, SIGNER, OWNER])
def test_resources_and_their_history_stay(database: Connection, role: str) -> None:
    put(database, MACHINE, "partial")
    database.execute(f"SET ROLE {role}")
    for sql in (
        "DELETE FROM resource",
        "TRUNCATE resource",
        "UPDATE resource_history SET body = '{}'",
        "DELETE FROM resource_history",
        "TRUNCATE resource_history",
    ):
        with pytest.raises(psycopg.Error) as refused:
            database.execute(sql)
        assert refused.value.sqlstate == ("FR004" if role == OWNER else "42501"), sql


def test_a_body_of_another_resource_is_refused(database: Connection) -> None:
    assert refusal(database, MACHINE, "partial", id="another") == "FR005"
    assert refusal(database, MACHINE, "partial", resourceType="Patient") == "FR005"


def test_a_resource_comes_back_as_it_was(store: Store) -> None:
    discover(store, 1)
    (held,) = claim(store)
    hostile = {
        "resourceType": "Patient",
        "id": "patient-1000",
        "name": [{"text": "Robert'); DROP TABLE ledger; -- <script>%s%%\\u0041 虚构 \U0001f600"}],
        "multipleBirthInteger": 2,
        "extension": [{"url": "urn:x", "valueDecimal": 1.5}],
    }
    sent = tuple(r for r in resources(held.study_instance_uid) if r.resource_type != "Patient")
    store.save(outcome(held, resources=(*sent, Resource("Patient", "patient-1000", hostile))))
    got = store.read("Patient", "patient-1000")
    assert got is not None
    body = orjson.loads(got.body)
    meta = body.pop("meta")
    assert body == hostile
    assert meta == {
        "versionId": "1",
        "lastUpdated": got.last_updated.isoformat(timespec="milliseconds")[:-6] + "Z",
    }
    assert store.vread("Patient", "patient-1000", 1) == got
    assert store.vread("Patient", "patient-1000", 2) is None
    assert store.vread("Patient", "patient-1000", 2**70) is None
    assert store.read("Patient", "x" * 65) is None
    assert store.history(HistorySearch(("Patient",), "none")).resources == ()
