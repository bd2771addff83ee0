"""Studies stored in one transaction: each its own answer, and of sets is kept what is kept of rows."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from pipeline.errors import LostClaim
from pipeline.ledger import Claim, ReportOutcome, Resource
from pipeline.store import saving
from pipeline.store.connections import libpq_url
from pipeline.store.statements import statement
from pipeline.store.store import Store
from pipeline.store.values import SavedVersion
from tests.store_samples import claim, discover, outcome, resources

Connection = psycopg.Connection[tuple[Any, ...]]
INSERT = (
    "INSERT INTO firstread.resource (resource_type, resource_id, version_id, last_updated, body, written_by) "
    "VALUES ('DiagnosticReport', %s, 1, now(), %s, 'machine')"
)
UNKEPT = (
    "SELECT count(*) FROM firstread.resource AS r LEFT JOIN firstread.resource_history AS h "
    "USING (resource_type, resource_id, version_id) "
    "WHERE h.body IS DISTINCT FROM r.body OR h.last_updated <> r.last_updated"
)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with Store(database_url) as opened:
        yield opened


@pytest.fixture
def session(database_url: str) -> Iterator[Connection]:
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        connection.execute("SET search_path TO firstread, pg_temp")
        yield connection


def claimed(store: Store, count: int) -> list[Claim]:
    discover(store, count)
    return claim(store)


def call(connection: Connection, *drafted: ReportOutcome) -> tuple[Any, ...] | None:
    """What the database itself answers, whatever the store would have sent together."""
    values = {**saving.values([saving.prepared(one) for one in drafted]), "commit": "on"}
    return connection.execute(statement("ledger", "save_reports"), values).fetchone()


def body(name: str, **more: str) -> Jsonb:
    return Jsonb({"resourceType": "DiagnosticReport", "id": name, "status": "partial", **more})


def number_of(connection: Connection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM firstread.{table}").fetchone()
    assert row is not None
    return int(row[0])


def test_a_batch_is_kept_and_chained_as_rows_are(store: Store, session: Connection) -> None:
    drafted = [outcome(one) for one in claimed(store, 5)]
    together, alone = drafted[:4], drafted[4:]
    assert all(isinstance(one, SavedVersion) for one in store.save_many(together))
    store.save(alone[0])
    assert session.execute(UNKEPT).fetchone() == (0,)
    assert store.audit_verify(content=True).ok
    assert store.audit_verify().rows == 5 * len(drafted[0].audit)
    named = session.execute(
        "SELECT ledger_id, count(*) FROM audit_event, json_array_elements(event -> 'entity') AS e "
        "WHERE e ->> 'detail' IS NOT NULL GROUP BY 1 ORDER BY 1"
    ).fetchall()
    # seven resources, the row of the version, and with the first study what all share
    assert [count for _, count in named] == [9, 8, 8, 8, 8]
    times = session.execute(
        "SELECT DISTINCT last_updated FROM resource_history WHERE resource_type = 'Observation'"
    ).fetchall()
    assert len(times) == 2, "one transaction, one time"


def test_one_that_is_lost_costs_its_batch_nothing(store: Store, session: Connection) -> None:
    held = claimed(store, 3)
    drafted = [outcome(one) for one in held]
    drafted[1] = outcome(replace(held[1], token=held[1].token - 1))
    assert call(session, *drafted) == (None, None)
    assert number_of(session, "resource") == number_of(session, "audit_event") == 0
    results = store.save_many(drafted)
    assert [type(one) for one in results] == [SavedVersion, LostClaim, SavedVersion]
    assert call(session, drafted[0]) == (["saved"], [1]), "the same answer again"
    assert store.audit_verify().rows == 2 * len(drafted[0].audit)


def test_studies_that_mean_different_things_by_one_name_are_written_one_after_the_other(
    store: Store, session: Connection
) -> None:
    held = claimed(store, 3)
    patients = [
        {"resourceType": "Patient", "id": "shared", "gender": sex} for sex in ("female", "male", "male")
    ]
    drafted = [
        outcome(one, resources=(*resources(one.study_instance_uid), Resource("Patient", "shared", patient)))
        for one, patient in zip(held, patients, strict=True)
    ]
    with pytest.raises(psycopg.errors.CardinalityViolation):
        call(session, *drafted)
    assert number_of(session, "report_version") == 0
    assert all(isinstance(one, SavedVersion) for one in store.save_many(drafted))
    versions = session.execute(
        "SELECT version_id, body ->> 'gender' FROM resource_history WHERE resource_id = 'shared' ORDER BY 1"
    ).fetchall()
    assert versions == [(1, "female"), (2, "male")]
    assert store.audit_verify(content=True).ok


def test_one_study_twice_is_written_once(store: Store, session: Connection) -> None:
    (held,) = claimed(store, 1)
    assert call(session, outcome(held), outcome(held)) == (None, None)
    results = store.save_many([outcome(held), outcome(held)])
    assert [one.version for one in results if isinstance(one, SavedVersion)] == [1, 1]
    assert number_of(session, "report_version") == 1


def test_what_was_committed_meanwhile_is_earlier(
    store: Store, session: Connection, database_url: str
) -> None:
    """The batch begins to write, another commits, the batch settles on a later time: in rows and history alike."""
    held = claimed(store, 2)
    with psycopg.connect(libpq_url(database_url)) as slow:
        slow.execute("SET search_path TO firstread, pg_temp")
        slow.execute(INSERT, ["early", body("early")])
        session.execute(INSERT, ["between", body("between")])
        call(slow, *(outcome(one) for one in held))
        slow.commit()
    assert session.execute(UNKEPT).fetchone() == (0,)
    rows = session.execute("SELECT resource_id, last_updated FROM resource").fetchall()
    times = {str(name): moment for name, moment in rows}
    between = times.pop("between")
    assert set(times.values()) == {times["early"]}
    assert times["early"] > between
    versions = session.execute("SELECT max(version_id) FROM resource").fetchone()
    assert versions == (1,), "to settle a time makes no version"


def test_batches_at_once_that_share_resources(store: Store, session: Connection) -> None:
    held = claimed(store, 24)
    with ThreadPoolExecutor(3) as pool:
        done = [*pool.map(lambda at: store.save_many([outcome(one) for one in held[at::3]]), range(3))]
    assert all(isinstance(one, SavedVersion) for some in done for one in some)
    assert session.execute(UNKEPT).fetchone() == (0,)
    assert store.audit_verify(content=True).ok
