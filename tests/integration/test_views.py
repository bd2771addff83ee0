"""The consumers' views: their columns are a contract, and a signed report never shows the machine's Findings."""

from typing import Any

import psycopg
import pytest

from pipeline.store.connections import libpq_url
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.store import Store
from tests.conftest import SHARED
from tests.memberships import let_act_as
from tests.store_samples import RECIPE, claim, discover, outcome, report_id, settled, study_uid

REPORTS = [
    "study_instance_uid", "accession_number", "status", "findings", "impression", "language", "model_id", "recipe",
    "version", "created_at", "diagnostic_report", "report_id", "archive", "ledger_id", "patient", "study_date",
    "modalities",
]  # fmt: skip
STUDIES = [
    "ledger_id", "archive", "study_instance_uid", "accession_number", "recipe", "state", "code", "reason", "attempts",
    "next_attempt_at", "announced", "held", "missing", "report_version", "discovered_at", "retrieving_at",
    "complete_at", "drafted_at", "reported_at", "skipped_at", "failed_at", "updated_at", "current", "report_id",
    "study_date", "modalities",
]  # fmt: skip


def columns(connection: psycopg.Connection[Any], view: str) -> list[str]:
    cursor = connection.execute(f"SELECT * FROM firstread.{view}")
    return [column.name for column in cursor.description or ()]


def test_columns_and_rows_for_a_reader(database_url: str) -> None:
    with Store(database_url) as store:
        discover(store, 2)
        reported, skipped = claim(store)
        store.save(outcome(reported))
        store.settle(settled(skipped))
    with psycopg.connect(libpq_url(database_url)) as connection:
        connection.execute("GRANT firstread_reader TO CURRENT_USER")
        connection.execute("SET ROLE firstread_reader")
        assert columns(connection, "reports") == REPORTS
        assert columns(connection, "studies") == STUDIES
        (report,) = connection.execute("SELECT * FROM firstread.reports").fetchall()
        assert report[:5] == (
            study_uid(0),
            "ACC-7",
            "partial",
            "There is a moderate left pleural effusion. No pneumothorax.",
            "Moderate left pleural effusion.",
        )
        assert report[5:9] == ("en", "firstread-mini", RECIPE, 1)
        assert report[10]["meta"]["versionId"] == "1"
        states = connection.execute(
            "SELECT state, reason, attempts FROM firstread.studies ORDER BY ledger_id"
        )
        assert states.fetchall() == [("reported", "", 0), ("skipped", "no chest radiograph", 0)]
        for table in ("ledger", "resource", "report_version", "audit_event", "instance"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(f"SELECT FROM firstread.{table}")


def test_a_read_only_login_reads_the_views_and_nothing_else(
    database_url: str, postgres_server: EmbeddedPostgres
) -> None:
    with Store(database_url) as store:
        discover(store, 1)
        store.save(outcome(claim(store)[0]))
    with psycopg.connect(postgres_server.admin_conninfo(SHARED), autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS test_analyst")
        admin.execute("CREATE ROLE test_analyst LOGIN PASSWORD 'analyst' IN ROLE firstread_reader")
        relations = admin.execute(
            "SELECT relname, relkind::text FROM pg_class WHERE relnamespace = 'firstread'::regnamespace "
            "AND relkind IN ('r', 'v', 'S')"
        ).fetchall()
    server = libpq_url(database_url).split("@", 1)[1]
    readable = {"reports", "studies", "findings", "report_versions"}
    try:
        with psycopg.connect(f"postgresql://test_analyst:analyst@{server}", autocommit=True) as reader:
            for name, kind in relations:
                if name in readable:
                    assert reader.execute(f"SELECT count(*) FROM firstread.{name}").fetchone() is not None
                elif kind != "S":
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        reader.execute(f"SELECT FROM firstread.{name}")
                for change in (f"DELETE FROM firstread.{name}", f"UPDATE firstread.{name} SET archive = ''"):
                    with pytest.raises(psycopg.Error):
                        reader.execute(change)
            (finding,) = reader.execute(
                "SELECT kind, side, present, confidence, x0, y1, study_instance_uid FROM firstread.findings "
                "WHERE present"
            ).fetchall()
            assert finding == ("pleural_effusion", "left", True, 0.93, 1203.25, 1900.75, study_uid(0))
            absent = reader.execute("SELECT kind FROM firstread.findings WHERE NOT present").fetchall()
            assert absent == [("pneumothorax",)]
    finally:
        with psycopg.connect(postgres_server.admin_conninfo(SHARED), autocommit=True) as admin:
            admin.execute("DROP ROLE test_analyst")


def test_a_signed_report_shows_the_signed_text(database_url: str) -> None:
    with Store(database_url) as store:
        discover(store, 1)
        store.save(outcome(claim(store)[0]))
    with psycopg.connect(libpq_url(database_url)) as connection:
        let_act_as(connection, "firstread_signer")
        connection.execute("SET ROLE firstread_signer")
        connection.execute(
            """UPDATE firstread.resource SET body = body || '{"status": "final", "conclusion": "Normal chest."}'
               WHERE resource_id = %s""",
            [report_id(study_uid(0))],
        )
        row = connection.execute(
            "SELECT status, findings, impression, version FROM firstread.reports"
        ).fetchone()
        assert row == ("final", None, "Normal chest.", 2)
