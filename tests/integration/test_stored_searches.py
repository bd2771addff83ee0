"""Searches of stored resources, their pages, and the rows of the review page."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pipeline.lookup import (
    Criterion,
    DateIs,
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
from pipeline.store.store import Store
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
    study_uid,
)

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with Store(database_url) as opened:
        yield opened


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
