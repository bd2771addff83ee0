"""What the program's own login may not do, whatever it says first; and the login of release 0.1.0, brought to that."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from flows.commands import doctor
from pipeline.errors import FailStudy, FirstreadError
from pipeline.lookup import HistorySearch, ResourceSearch
from pipeline.settings import Settings
from pipeline.store import connections
from pipeline.store.connections import VIEWER, Connections, libpq_url
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.migrations import head
from pipeline.store.store import Store
from tests.store_samples import ARCHIVE, claim, discover, outcome

QUICK = {"fsync": "off"}
DRAFT = json.dumps({"resourceType": "DiagnosticReport", "id": "r1", "status": "partial"})
INSERT = (
    "INSERT INTO firstread.resource (resource_type, resource_id, version_id, last_updated, body, written_by) "
    "VALUES ('DiagnosticReport', 'r1', 1, now(), %s, 'machine')"
)
FINAL = """UPDATE firstread.resource SET body = body || '{"status":"final"}' WHERE resource_id = 'r1'"""
FIRST = (
    (),
    ("RESET ROLE",),
    ("SET SESSION AUTHORIZATION DEFAULT",),
    ("RESET ROLE", "SET search_path TO pg_temp, firstread"),
)
FORBIDDEN = (
    FINAL,
    "GRANT firstread_signer TO CURRENT_USER",
    "GRANT firstread_owner TO CURRENT_USER",
    "SET ROLE firstread_signer",
    "SET ROLE firstread_owner",
    "SET ROLE firstread_migrator",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "SET session_replication_role TO replica",
    "CREATE ROLE somebody LOGIN",
    "ALTER ROLE CURRENT_USER CREATEROLE",
    "ALTER ROLE postgres PASSWORD 'x'",
    "CREATE DATABASE another",
    "CREATE SCHEMA mine",
    "CREATE EXTENSION file_fdw",
    "ALTER TABLE firstread.audit_event DISABLE TRIGGER USER",
    "ALTER TABLE firstread.resource DISABLE TRIGGER ALL",
    "ALTER TABLE firstread.resource OWNER TO CURRENT_USER",
    "DROP TABLE firstread.audit_event",
    "TRUNCATE firstread.resource_history",
    "DELETE FROM firstread.audit_event",
    "UPDATE firstread.audit_event SET event = '{}'",
    "UPDATE firstread.audit_chain SET place = 0",
    "DELETE FROM firstread.resource_history",
    "UPDATE firstread.resource_history SET body = '{}'",
    "CREATE OR REPLACE FUNCTION firstread.writing_as() RETURNS text LANGUAGE sql AS $$ SELECT 'signer' $$",
    "DROP FUNCTION firstread.chain_audit() CASCADE",
    "CREATE FUNCTION firstread.mine() RETURNS void LANGUAGE sql AS ''",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY firstread.preview FROM PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/firstread-never'",
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT pg_ls_dir('.')",
    "SELECT lo_import('/etc/hostname')",
    "SELECT pg_reload_conf()",
    "SELECT * FROM pg_authid",
    "ALTER SYSTEM SET fsync TO off",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres.ensure(tmp_path_factory.mktemp("logins"), QUICK) as running:
        yield running


SERVE_FIRST = ((), ("RESET ROLE",), ("SET SESSION AUTHORIZATION DEFAULT",))
SERVE_FORBIDDEN = (
    *FORBIDDEN,
    INSERT.replace("%s", f"'{DRAFT}'"),
    "SET ROLE firstread_machine",
    "INSERT INTO firstread.audit_event (chain, event) VALUES ('archive:main', '{}')",
    "SELECT firstread.append_audit('archive:main', NULL, '[{}]')",
    "SELECT * FROM firstread.audit_event",
    "SELECT * FROM firstread.ledger",
    "UPDATE firstread.ledger SET state = 'failed'",
    "INSERT INTO firstread.pause (paused_by, reason) VALUES ('a', 'b')",
    "SELECT nextval('firstread.process_number')",
    "SELECT firstread.reopen_studies(ARRAY[1::bigint], NULL, true)",
    "SELECT firstread.retire_report(1, '[{}]')",
    "UPDATE firstread.failed_study SET code = ''",
    "DELETE FROM firstread.failed_study",
)


@pytest.mark.parametrize("first", SERVE_FIRST, ids=["viewer", "login", "session"])
def test_the_login_of_serve_reads_and_writes_accesses_alone(
    server: EmbeddedPostgres, first: tuple[str, ...]
) -> None:
    allowed: list[str] = []
    with psycopg.connect(libpq_url(server.serve_url)) as connection:
        connection.execute("SET ROLE firstread_viewer")
        for statement in SERVE_FORBIDDEN:
            try:
                with connection.transaction():
                    for one in (*first, statement):
                        connection.execute(one.encode())
                allowed.append(statement)
            except psycopg.errors.SyntaxError:
                pytest.fail(f"{statement} is no SQL")
            except psycopg.Error:
                continue
        connection.rollback()
    assert allowed == []


def test_serve_reads_what_it_shows_and_its_accesses_are_told(
    server: EmbeddedPostgres, tmp_path: Path
) -> None:
    with Store(server.url) as work:
        discover(work, 1)
        work.save(outcome(claim(work)[0]))
    with Store(server.serve_url, revision=head(), role=VIEWER) as store:
        page = store.report_rows(10)
        assert len(page.rows) == 1
        report = page.rows[0].report_id
        assert store.report_detail(report) is not None
        assert store.read("DiagnosticReport", report) is not None
        assert store.vread("DiagnosticReport", report, 1) is not None
        assert store.history(HistorySearch(("DiagnosticReport",), report)).resources
        assert store.search(ResourceSearch("DiagnosticReport")).resources
        assert store.count(ResourceSearch("Patient")) == 1
        store.append_audit([{"resourceType": "AuditEvent"}])
        assert store.excess_rights() == ()
        asked = {"resourceType": "AuditEvent", "outcomeDesc": "asked on its page"}
        assert store.standing.draft_anew(report, asked)
        assert not store.standing.draft_anew(report, asked), "it waits already"
        assert store.failures.count() == 0
        assert not store.failures.draft_anew(1, asked), "it has not failed"
        with pytest.raises(FirstreadError):
            discover(store, 1)
    with psycopg.connect(server.admin_conninfo("firstread")) as connection:
        last = connection.execute(
            "SELECT chain, event ->> 'outcomeDesc' FROM firstread.audit_event ORDER BY seq DESC LIMIT 2"
        ).fetchall()
    assert last == [(f"archive:{ARCHIVE}", "asked on its page"), ("access", None)]


def test_no_statement_of_serve_takes_for_ever(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "READ_SECONDS", 0.2)
    with (
        Connections(server.serve_url, role=VIEWER) as viewer,
        pytest.raises(FailStudy, match="database-slow"),
    ):
        viewer.run(lambda one: one.execute("SELECT pg_sleep(20)"))


@pytest.mark.parametrize(
    ("grant", "told"),
    [
        ("ALTER ROLE drafts CREATEROLE", "may make roles"),
        ("GRANT firstread_signer TO drafts", "may sign reports"),
        ("GRANT firstread_owner TO drafts", "may own and change the tables"),
        ("GRANT pg_execute_server_program TO drafts", "may start programs on the server"),
        ("ALTER ROLE drafts SUPERUSER", "a superuser"),
    ],
)
def test_doctor_tells_of_a_login_that_can_do_more(server: EmbeddedPostgres, grant: str, told: str) -> None:
    with psycopg.connect(server.admin_conninfo("firstread"), autocommit=True) as administrator:
        administrator.execute("CREATE ROLE drafts LOGIN PASSWORD 'drafts' IN ROLE firstread_machine")
        try:
            url = server.url.replace(server.url.split("//")[1].split("@")[0], "drafts:drafts")
            settings = Settings.model_validate({"database": {"url": url}})
            assert "no more" in doctor._logins(settings)
            administrator.execute(grant.encode())
            with pytest.raises(FirstreadError, match="login-rights") as caught:
                doctor._logins(settings)
            assert told in caught.value.message
            assert "drafts:drafts" not in caught.value.message
        finally:
            administrator.execute("DROP ROLE drafts")


@pytest.mark.parametrize("first", FIRST, ids=["machine", "login", "session", "path"])
def test_the_programs_login_cannot_do_what_it_must_not(
    server: EmbeddedPostgres, first: tuple[str, ...]
) -> None:
    allowed: list[str] = []
    with psycopg.connect(libpq_url(server.url)) as connection:
        connection.execute("SET ROLE firstread_machine")
        connection.execute(INSERT, [DRAFT])
        for statement in FORBIDDEN:
            try:
                with connection.transaction():
                    for one in (*first, statement):
                        connection.execute(one.encode())
                    connection.execute("SET ROLE firstread_machine")
                    connection.execute(FINAL)  # what the statement may have opened
                allowed.append(statement)
            except psycopg.errors.SyntaxError:
                pytest.fail(f"{statement} is no SQL")
            except psycopg.Error:
                continue
        connection.rollback()
    assert allowed == []


def test_no_statement_of_the_kind_is_refused_for_another_reason(server: EmbeddedPostgres) -> None:
    """The same statements as the superuser: all but a few are carried out, so the refusals above mean something."""
    refused: list[str] = []
    with psycopg.connect(server.admin_conninfo("firstread"), autocommit=True) as connection:
        for statement in FORBIDDEN:
            if statement.startswith(
                ("CREATE DATABASE", "ALTER SYSTEM", "ALTER ROLE postgres", "SELECT pg_reload")
            ):
                continue
            try:
                with connection.transaction():
                    connection.execute(statement.encode())
                    raise psycopg.Rollback
            except psycopg.Error:
                refused.append(statement)
    assert {one.partition(" ")[0] for one in refused} <= {
        "UPDATE",
        "DELETE",
        "COPY",
        "TRUNCATE",
        "CREATE",
        "DROP",
    }
    assert len(refused) < len(FORBIDDEN) / 2


def test_the_passwords_are_four(server: EmbeddedPostgres) -> None:
    secrets = {
        str(conninfo_to_dict(libpq_url(url))["password"])
        for url in (server.url, server.serve_url, server.migration_url, server.admin_conninfo())
    }
    assert len(secrets) == 4
    for name in ("password", "serve-password", "migrator-password", "superuser-password"):
        assert (server.folder / name).stat().st_mode & 0o777 == 0o600
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(libpq_url(server.url).replace("//firstread:", "//postgres:"))


def as_released(folder: Path) -> None:
    """Make of a new server what release 0.1.0 left: one password, a login that made the roles and owns all."""
    with EmbeddedPostgres.ensure(folder, QUICK) as server:
        secret = str(conninfo_to_dict(libpq_url(server.url))["password"])
        with psycopg.connect(server.admin_conninfo("firstread"), autocommit=True) as connection:
            for statement in (
                "ALTER ROLE firstread CREATEROLE CREATEDB",
                "GRANT firstread_owner, firstread_machine, firstread_signer, firstread_reader TO firstread "
                "WITH ADMIN OPTION",
                "ALTER DATABASE firstread OWNER TO firstread",
                "ALTER TABLE firstread.alembic_version OWNER TO firstread",
                "REASSIGN OWNED BY firstread_migrator TO firstread",
                "REVOKE firstread_viewer FROM firstread_machine GRANTED BY firstread_migrator",
                "REVOKE firstread_owner, firstread_machine, firstread_signer, firstread_reader, firstread_viewer "
                "FROM firstread_migrator "
                "CASCADE",
                "DROP ROLE firstread_migrator",
            ):
                connection.execute(statement)
            connection.execute(INSERT, [DRAFT])
            connection.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(secret)))
        for name in ("migrator-password", "superuser-password"):
            (server.folder / name).unlink()


def test_a_server_of_the_last_release_is_carried_over(tmp_path: Path) -> None:
    as_released(tmp_path)
    with EmbeddedPostgres.ensure(tmp_path, QUICK) as server:
        test_the_passwords_are_four(server)
        with psycopg.connect(libpq_url(server.url), autocommit=True) as connection:
            connection.execute("SET ROLE firstread_machine")
            row = connection.execute("SELECT body->>'status' FROM firstread.resource").fetchone()
            assert row == ("partial",)
            connection.execute("RESET ROLE")
            for statement in ("SET ROLE firstread_owner", "SET ROLE firstread_signer", "CREATE ROLE another"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement.encode())
        with psycopg.connect(libpq_url(server.migration_url)) as connection:
            connection.execute("SET ROLE firstread_owner")
            connection.execute("ALTER TABLE firstread.ledger ADD COLUMN tried integer")
            connection.rollback()
    with EmbeddedPostgres.ensure(tmp_path, QUICK) as again:
        test_the_passwords_are_four(again)


def test_a_crash_between_the_passwords_is_mended(tmp_path: Path) -> None:
    """The file of the superuser's password is there, and the server was not told yet."""
    as_released(tmp_path)
    (tmp_path / "postgres" / "superuser-password").touch(mode=0o600)
    (tmp_path / "postgres" / "superuser-password").write_text("f" * 48 + "\n")
    with EmbeddedPostgres.ensure(tmp_path, QUICK) as server:
        test_the_passwords_are_four(server)


def test_two_commands_at_once_carry_it_over(tmp_path: Path) -> None:
    as_released(tmp_path)
    use = (
        "import sys, pathlib; from pipeline.store.embedded import EmbeddedPostgres\n"
        "with EmbeddedPostgres.ensure(pathlib.Path(sys.argv[1]), {'fsync': 'off'}) as server: print(server.url)"
    )
    root = Path(__file__).resolve().parents[2]
    commands = [
        subprocess.Popen([sys.executable, "-c", use, tmp_path], cwd=root, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = {one.communicate(timeout=90)[0] for one in commands}
    assert all(one.returncode == 0 for one in commands)
    assert len(said) == 1
