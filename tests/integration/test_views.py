"""The consumers' views: their columns are a contract, and a signed report never shows the machine's Findings."""

from typing import Any

import psycopg
import pytest

from pipeline.store.connections import libpq_url
from pipeline.store.store import Store
from tests.store_samples import RECIPE, claim, discover, outcome, report_id, resting, study_uid

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
        store.rest(resting(skipped))
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


def test_a_signed_report_shows_the_signed_text(database_url: str) -> None:
    with Store(database_url) as store:
        discover(store, 1)
        store.save(outcome(claim(store)[0]))
    with psycopg.connect(libpq_url(database_url)) as connection:
        connection.execute("GRANT firstread_signer TO CURRENT_USER WITH INHERIT FALSE, SET TRUE")
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
