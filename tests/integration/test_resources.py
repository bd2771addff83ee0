"""FHIR resources in Postgres: versions, the status machine, history, search and the review page's rows."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
import psycopg
import pytest
from psycopg.types.json import Jsonb

from pipeline.errors import FailStudy
from pipeline.ledger import Resource
from pipeline.lookup import (
    Criterion,
    DateIs,
    HistorySearch,
    IdIn,
    IsMissing,
    IsNot,
    ListOrder,
    PatientIn,
    Prefix,
    ReportFilter,
    ResourceSearch,
    StatusIn,
    StudyIn,
    Token,
    TokenIn,
)
from pipeline.report import Finding, Side
from pipeline.store.connections import libpq_url
from pipeline.store.store import Store
from tests.memberships import let_act_as
from tests.store_samples import (
    ARCHIVE,
    RECIPE,
    claim,
    completeness,
    discover,
    draft,
    found,
    outcome,
    report_id,
    resources,
    study_uid,
)

Connection = psycopg.Connection[tuple[Any, ...]]
MACHINE, SIGNER, OWNER = "firstread_machine", "firstread_signer", "firstread_owner"


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with Store(database_url) as opened:
        yield opened


@pytest.fixture
def database(database_url: str) -> Iterator[Connection]:
    """A plain session, as the login that migrated; it may take every role but the signer's."""
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        let_act_as(connection, "firstread_signer")
        connection.execute("SET search_path TO firstread")
        yield connection


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


@pytest.fixture
def archive_of_five(store: Store) -> Store:
    discover(store, 5)
    for held in claim(store):
        store.save(outcome(held))
    return store


NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def when(prefix: str, start: datetime, end: datetime, *, changed: bool = False) -> DateIs:
    return DateIs(Prefix(prefix), start, end, changed)


TAKEN = datetime(2026, 2, 28, 13, 5, 6, tzinfo=UTC)
"""effectiveDateTime of the sample: exact to the second."""
SECOND = timedelta(seconds=1)
SEARCHES: list[tuple[tuple[Criterion, ...], int]] = [
    ((), 5),
    ((IdIn((report_id(study_uid(1)), report_id(study_uid(3)), "none")),), 2),
    ((PatientIn(("patient-1002",)),), 1),
    ((PatientIn(("Patient/patient-1002",)),), 0),
    ((TokenIn("identifier", (Token("urn:site:report", "R1001"),)),), 1),
    ((TokenIn("identifier", (Token("urn:site:other", "R1001"),)),), 0),
    ((TokenIn("identifier", (Token(None, "R1001"), Token(None, "R1002"))),), 2),
    ((TokenIn("identifier", (Token("", "R1001"),)),), 0),
    ((TokenIn("identifier", (Token("urn:site:report", ""),)),), 5),
    ((StudyIn((study_uid(4),)),), 1),
    ((StatusIn(("final", "partial")),), 5),
    ((StatusIn(("final",)),), 0),
    ((when("eq", TAKEN - DAY, TAKEN + DAY),), 5),
    ((when("eq", TAKEN, TAKEN + SECOND),), 5),
    ((when("eq", TAKEN, TAKEN + SECOND / 2),), 0),
    ((when("ne", TAKEN, TAKEN + SECOND),), 0),
    ((when("ne", TAKEN + DAY, TAKEN + 2 * DAY),), 5),
    ((when("gt", TAKEN, TAKEN + SECOND),), 0),
    ((when("gt", TAKEN - DAY, TAKEN),), 5),
    ((when("ge", TAKEN, TAKEN + SECOND),), 5),
    ((when("ge", TAKEN + SECOND, TAKEN + DAY),), 0),
    ((when("lt", TAKEN, TAKEN + SECOND),), 0),
    ((when("lt", TAKEN + SECOND, TAKEN + DAY),), 5),
    ((when("le", TAKEN, TAKEN + SECOND),), 5),
    ((when("le", TAKEN - DAY, TAKEN),), 0),
    ((when("sa", TAKEN - DAY, TAKEN),), 5),
    ((when("eb", TAKEN + SECOND, TAKEN + DAY),), 5),
    ((when("lt", TAKEN, TAKEN + DAY), when("gt", TAKEN - DAY, TAKEN)), 0),
    ((when("eq", NOW - DAY, NOW + DAY, changed=True),), 5),
    ((when("ne", NOW + DAY, NOW + 2 * DAY, changed=True),), 5),
    ((when("gt", NOW + DAY, NOW + 2 * DAY, changed=True),), 0),
    ((when("ge", NOW - DAY, NOW - DAY, changed=True),), 5),
    ((PatientIn(("patient-1002",)), StatusIn(("final",))), 0),
    ((IdIn(()),), 0),
    ((PatientIn(()),), 0),
    ((TokenIn("identifier", ()),), 0),
    ((TokenIn("code", ()),), 0),
    ((StatusIn(()),), 0),
    ((IsMissing("status", missing=True),), 0),
    ((IsMissing("status", missing=False),), 5),
    ((IsMissing("issued", missing=True), IsMissing("date", missing=False)), 5),
    ((IsNot(StatusIn(("partial",))),), 0),
    ((IsNot(StatusIn(("final",))),), 5),
    ((IsNot(TokenIn("identifier", (Token(None, "R1001"), Token(None, "R1002")))),), 3),
    ((IsNot(IdIn((report_id(study_uid(1)),))),), 4),
    ((IsNot(StudyIn((study_uid(4),))), IsNot(TokenIn("category", (Token(None, "RAD"),)))), 4),
]


def test_search(archive_of_five: Store) -> None:
    for criteria, matches in SEARCHES:
        wanted = ResourceSearch("DiagnosticReport", criteria)
        assert len(archive_of_five.search(wanted).resources) == matches, criteria
        assert archive_of_five.count(wanted) == matches, criteria


def test_pages_are_stable_while_new_reports_arrive(archive_of_five: Store) -> None:
    store = archive_of_five
    before = [one.resource_id for one in store.search(ResourceSearch("DiagnosticReport")).resources]
    seen: list[str] = []
    after, number = "", 100
    while True:
        page = store.search(ResourceSearch("DiagnosticReport", limit=2, page=after))
        seen += [one.resource_id for one in page.resources]
        number += 1
        store.record_found(ARCHIVE, RECIPE, [found(number)])
        store.save(outcome(claim(store)[0]))
        after = page.next
        if not after:
            break
    assert seen == before


def test_a_foreign_page_token_is_refused(store: Store) -> None:
    for token in ("x", "1.2", "zz.zz.id", "f" * 40 + ".1.id", "'; DROP TABLE ledger"):
        with pytest.raises(ValueError):  # noqa: PT011 - any ValueError is what the caller is promised
            store.search(ResourceSearch("DiagnosticReport", page=token))
        with pytest.raises(ValueError):  # noqa: PT011
            store.report_rows(10, token)


def test_critical_drafts_lead_the_list_page_by_page_until_a_person_took_them_over(
    store: Store, database: Connection
) -> None:
    discover(store, 6)
    for number, held in enumerate(claim(store)):
        known = draft(held.study_instance_uid)
        found_there = Finding("pneumothorax", number in (0, 3, 4), Side.LEFT, sentence="Pneumothorax.")
        store.save(outcome(held, draft=replace(known, findings=(known.findings[0], found_there))))
    of = {report_id(study_uid(number)): number for number in range(6)}

    def listed(limit: int, **asked: Any) -> list[int]:
        rows: list[int] = []
        after = ""
        while True:
            page = store.report_rows(limit, after, ReportFilter(order=ListOrder.CRITICAL, **asked))
            rows += [of[row.report_id] for row in page.rows]
            assert len(page.rows) <= limit
            if not (after := page.next):
                return rows

    def walked(order: ListOrder) -> list[int]:
        beside = {n: store.report_detail(report_id(study_uid(n)), order) for n in of.values()}
        below = {n: of.get(one.older) for n, one in beside.items() if one}
        above = {n: of.get(one.newer) for n, one in beside.items() if one}
        path = [n for n, one in above.items() if one is None]
        assert len(path) == 1
        while (following := below[path[-1]]) is not None:
            assert above[following] == path[-1]
            path.append(following)
        return path

    for limit in range(1, 8):
        assert listed(limit) == [4, 3, 0, 5, 2, 1]
    assert listed(2, study_date=date(2026, 2, 4)) == [3]
    assert walked(ListOrder.CRITICAL) == [4, 3, 0, 5, 2, 1]
    assert walked(ListOrder.NEWEST) == [5, 4, 3, 2, 1, 0]
    with pytest.raises(ValueError, match="token"):
        store.report_rows(2, store.report_rows(2).next, ReportFilter(order=ListOrder.CRITICAL))
    database.execute("SET ROLE firstread_signer")
    database.execute(
        "UPDATE resource SET body = body || jsonb_build_object('status', 'final') WHERE resource_id = %s",
        [report_id(study_uid(4))],
    )
    assert listed(2) == [3, 0, 4, 5, 2, 1]


def test_rows_and_detail_for_the_review_page(archive_of_five: Store) -> None:
    store = archive_of_five
    first = store.report_rows(3)
    rest = store.report_rows(3, first.next)
    assert [row.report_id for row in (*first.rows, *rest.rows)] == [
        report_id(study_uid(number)) for number in reversed(range(5))
    ]
    assert rest.next == ""
    row = first.rows[0]
    assert (row.patient, row.patient_name, row.patient_id) == ("patient-1004", "Invented 1004", "P1004")
    assert (row.status, row.version, row.warnings, row.gap) == ("partial", 1, 1, 0)

    detail = store.report_detail(row.report_id)
    assert detail is not None
    assert detail.row == row
    assert detail.draft == draft(study_uid(4))
    assert detail.completeness == completeness(study_uid(4))
    assert [check.check for check in detail.checks] == ["laterality", "classifier"]
    assert detail.left_out[0].code == "lateral-view"
    (preview,) = detail.previews
    assert (len(preview.jpeg), preview.original_rows, preview.original_columns) == (20_002, 2048, 2000)
    assert preview.ref.study_instance_uid == study_uid(4)
    assert [(one.version, one.status, one.model_id) for one in detail.versions] == [
        (1, "partial", "firstread-mini")
    ]
    assert store.report_detail("none") is None
