"""Who may do what: rights of the application roles, tried one by one in SQL."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pipeline.store.connections import libpq_url
from pipeline.store.store import Store
from tests.memberships import let_act_as
from tests.store_samples import claim, discover, outcome

APPLICATION = ("firstread_machine", "firstread_signer", "firstread_reader", "firstread_viewer")


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with Store(database_url) as store:
        discover(store, 1)
        store.save(outcome(claim(store)[0]))
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        for role in APPLICATION:
            let_act_as(connection, role)
        yield connection


FORBIDDEN = (
    "UPDATE firstread.audit_event SET event = '{}'",
    "DELETE FROM firstread.audit_event",
    "TRUNCATE firstread.audit_event",
    "UPDATE firstread.audit_chain SET place = 0",
    "INSERT INTO firstread.audit_chain (chain) VALUES ('mine')",
    "DELETE FROM firstread.audit_chain",
    "INSERT INTO firstread.resource_history SELECT * FROM firstread.resource_history",
    "DELETE FROM firstread.ledger",
    "TRUNCATE firstread.ledger CASCADE",
    "DELETE FROM firstread.report_version",
    "UPDATE firstread.report_version SET findings = ''",
    "ALTER TABLE firstread.audit_event DISABLE TRIGGER ALL",
    "DROP TRIGGER append_only ON firstread.audit_event",
    "CREATE TABLE firstread.mine ()",
    "DROP VIEW firstread.failed_study",
    "CREATE OR REPLACE VIEW firstread.failed_study AS SELECT 1 AS ledger_id",
    "SET session_replication_role = replica",
)


def test_no_application_role_may(database: psycopg.Connection[Any]) -> None:
    for role in APPLICATION:
        database.execute(f"SET ROLE {role}")
        for sql in FORBIDDEN:
            with pytest.raises(psycopg.Error) as refused:
                database.execute(sql)
            assert refused.value.sqlstate == "42501", f"{role}: {sql}"


def test_the_store_works_as_the_machine(database_url: str) -> None:
    with Store(database_url) as store:
        assert store._run(lambda c: c.execute("SELECT current_user").fetchone()) == ("firstread_machine",)


def test_the_owner_meets_the_triggers(database: psycopg.Connection[Any]) -> None:
    database.execute("SET ROLE firstread_owner")
    for sql in (
        "UPDATE firstread.audit_event SET event = '{}'",
        "DELETE FROM firstread.audit_event",
        "TRUNCATE firstread.audit_event",
        "DELETE FROM firstread.audit_chain",
        "TRUNCATE firstread.audit_chain CASCADE",
    ):
        with pytest.raises(psycopg.Error) as refused:
            database.execute(sql)
        assert refused.value.sqlstate == "FR004", sql
