"""The audit chain: whatever is changed behind the application's back is found and named."""

import hashlib
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import orjson
import psycopg
import pytest

from pipeline.store.connections import libpq_url
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.store import Store
from pipeline.store.values import ChainHead
from tests.conftest import SHARED
from tests.store_samples import audit_events, claim, discover, outcome, settled

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """Two chains: 12 rows of four studies' work, and 3 of reading."""
    with Store(database_url) as opened:
        discover(opened, 4)
        opened.save_many([outcome(one) for one in claim(opened)])
        opened.append_audit(audit_events("reading", 3))
        yield opened


@contextmanager
def owner_session(database_url: str) -> Iterator[Connection]:
    """The owner, who can switch the triggers off, and does."""
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        connection.execute("SET ROLE firstread_owner")
        connection.execute("SET search_path TO firstread")
        for table in ("audit_event", "audit_chain"):
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        try:
            yield connection
        finally:
            for table in ("audit_event", "audit_chain"):
                connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


@pytest.fixture
def tamper(database_url: str) -> Iterator[Connection]:
    with owner_session(database_url) as connection:
        yield connection


def test_a_whole_chain_is_whole(store: Store) -> None:
    verdict = store.audit_verify()
    assert (verdict.ok, verdict.rows, verdict.first_broken) == (True, 15, None)
    assert {(one.chain, one.rows) for one in verdict.heads} == {("archive:main", 12), ("access", 3)}


SWAP = """
UPDATE audit_event AS a SET event = b.event, ledger_id = b.ledger_id
FROM audit_event AS b WHERE (a.seq, b.seq) IN ((5, 6), (6, 5))
"""
SWAP_WHOLE = """
UPDATE audit_event AS a
SET event = b.event, ledger_id = b.ledger_id, recorded = b.recorded, previous_hash = b.previous_hash,
    row_hash = b.row_hash
FROM audit_event AS b WHERE (a.seq, b.seq) IN ((5, 6), (6, 5))
"""
REHASH = """
UPDATE audit_event SET event = '{}', row_hash = audit_hash(previous_hash, chain, place, recorded, ledger_id, '{}')
WHERE seq = 5
"""


CHANGES: list[tuple[str, int | None, str]] = [
    ("UPDATE audit_event SET event = '{}' WHERE seq = 5", 5, "changed"),
    ("UPDATE audit_event SET event = (event::text || ' ')::json WHERE seq = 5", 5, "changed"),
    ("UPDATE audit_event SET recorded = recorded + interval '1 us' WHERE seq = 5", 5, "changed"),
    ("UPDATE audit_event SET ledger_id = 1 WHERE seq = 5", 5, "changed"),
    (REHASH, 6, "follow"),
    ("DELETE FROM audit_event WHERE seq = 5", 6, "removed"),
    ("DELETE FROM audit_event WHERE seq = 1", 2, "removed"),
    ("DELETE FROM audit_event WHERE seq = 12", 11, "removed"),
    ("DELETE FROM audit_event WHERE seq IN (11, 12)", 10, "removed"),
    ("DELETE FROM audit_event WHERE chain = 'access'", None, "all 3 rows"),
    (SWAP, 5, "changed"),
    (SWAP_WHOLE, 5, "changed"),
    ("UPDATE audit_event SET place = place + 1 WHERE seq = 12", 12, "removed"),
    ("UPDATE audit_chain SET place = place + 1", 12, "removed"),
    ("UPDATE audit_chain SET row_hash = '' WHERE chain = 'access'", 15, "last"),
]


@pytest.mark.parametrize(("change", "first_broken", "words"), CHANGES)
def test_tampering_is_named(
    store: Store, tamper: Connection, change: str, first_broken: int | None, words: str
) -> None:
    tamper.execute(change)
    verdict = store.audit_verify()
    assert not verdict.ok
    assert verdict.first_broken == first_broken
    assert words in verdict.reason


def test_a_changed_function_cannot_vouch_for_itself(own_database_url: str) -> None:
    with Store(own_database_url) as store:
        store.append_audit(audit_events("reading", 3))
        with owner_session(own_database_url) as tamper:
            tamper.execute("UPDATE audit_event SET event = '{}' WHERE seq = 2")
            tamper.execute(
                "CREATE OR REPLACE FUNCTION audit_hash(previous bytea, chain text, place bigint, "
                "recorded timestamptz, ledger_id bigint, event text) RETURNS bytea LANGUAGE sql IMMUTABLE AS "
                "$$ SELECT row_hash FROM firstread.audit_event AS e WHERE e.place = audit_hash.place $$"
            )
        assert store.audit_verify().first_broken == 2


def test_writers_at_once_leave_one_chain(store: Store) -> None:
    with ThreadPoolExecutor(6) as pool:
        for number in range(30):
            pool.submit(store.append_audit, audit_events(str(number), 2))
    verdict = store.audit_verify()
    assert (verdict.ok, verdict.rows) == (True, 75)


def test_what_failed_leaves_no_row_and_no_gap(store: Store) -> None:
    discover(store, 5)
    (held,) = claim(store)
    store.settle(settled(held))
    assert store.audit_verify().rows == 16


def test_the_export_can_be_proved_without_us(store: Store) -> None:
    out = io.BytesIO()
    assert store.audit_export(out) == 15
    previous: dict[str, str] = {}
    for line in out.getvalue().splitlines():
        row = orjson.loads(line)
        event = line.split(b'"event":', 1)[1][:-1].decode()
        assert row["previousHash"] == previous.get(row["chain"], "")
        ledger_id = "" if row["ledgerId"] is None else str(row["ledgerId"])
        text = "\n".join(
            (row["previousHash"], row["chain"], str(row["place"]), row["recorded"], ledger_id, event)
        )
        assert hashlib.sha256(text.encode()).hexdigest() == row["hash"]
        previous[row["chain"]] = row["hash"]
    assert len(previous) == 2


CONTENT = {
    "report text": "UPDATE resource_history SET body = jsonb_set(body, '{conclusion}', '\"Normal.\"') "
    "WHERE resource_type = 'DiagnosticReport' AND resource_id = 'report-1001'",
    "current version alone": "UPDATE resource SET body = jsonb_set(body, '{conclusion}', '\"Normal.\"') "
    "WHERE resource_type = 'DiagnosticReport' AND resource_id = 'report-1001'",
    "status alone": "UPDATE resource SET status = 'final' WHERE resource_id = 'report-1001'",
    "report deleted with its history": "DELETE FROM resource_history WHERE resource_id = 'report-1001'; "
    "DELETE FROM resource WHERE resource_id = 'report-1001'",
    "an Observation's history": "DELETE FROM resource_history WHERE resource_id = 'observation-1001-2'",
    "the text of the views": "UPDATE report_version SET findings = 'Normal.' WHERE report_id = 'report-1001'",
    "the checks": "UPDATE report_version SET checks = '[]' WHERE report_id = 'report-1001'",
    "the row of a version": "DELETE FROM preview WHERE report_id = 'report-1001'; "
    "DELETE FROM report_version WHERE report_id = 'report-1001'",
}


@pytest.mark.parametrize("change", CONTENT.values(), ids=CONTENT.keys())
def test_a_changed_or_removed_report_row_is_found(
    store: Store, postgres_server: EmbeddedPostgres, change: str
) -> None:
    assert store.audit_verify(content=True).ok
    with psycopg.connect(postgres_server.admin_conninfo(SHARED), autocommit=True) as connection:
        connection.execute("SET session_replication_role TO replica")  # a superuser, whom no trigger stops
        connection.execute("SET search_path TO firstread")
        connection.execute(change)
    assert store.audit_verify().ok, "the chain itself was not touched"
    verdict = store.audit_verify(content=True)
    assert not verdict.ok
    assert "1001" in verdict.reason


def test_heads_noted_elsewhere_find_a_chain_that_was_cut_with_its_head(
    store: Store, database_url: str
) -> None:
    noted = store.audit_verify().heads
    assert store.audit_verify(noted=noted).ok
    store.append_audit(audit_events("later", 2))
    assert store.audit_verify(noted=noted).ok, "a chain may go on"
    with owner_session(database_url) as tamper:
        tamper.execute("DELETE FROM audit_event WHERE chain = 'archive:main' AND place > 10")
        tamper.execute(
            "UPDATE audit_chain AS c SET place = e.place, row_hash = e.row_hash, previous_hash = e.previous_hash "
            "FROM audit_event AS e WHERE c.chain = 'archive:main' AND e.chain = c.chain AND e.place = 10"
        )
    assert store.audit_verify().ok, "a database alone cannot tell"
    cut = store.audit_verify(noted=noted)
    assert (cut.ok, cut.first_broken) == (False, None)
    assert "row 12" in cut.reason
    rewritten = [ChainHead("access", 3, "0" * 64)]
    assert not store.audit_verify(noted=rewritten).ok
