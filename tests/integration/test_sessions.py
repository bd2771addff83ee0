"""What a session with Postgres must be: pinned whatever the server, the database or the environment say, or refused."""

import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pipeline.errors import FirstreadError, RetryLater, StopRun
from pipeline.store.connections import Connection, Connections, libpq_url
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.migrations import head, upgrade
from pipeline.store.store import Store
from tests.debian_postgres import Server, distribution_binaries, distribution_server, pooler
from tests.store_samples import claim, discover, outcome


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that an unprivileged server may reach."""
    made = Path(tempfile.mkdtemp(prefix="firstread-peer-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def odd_database(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """A migrated database whose defaults are as odd as a site's may be."""
    name = f"odd_{secrets.token_hex(4)}"
    url = postgres_server.database_url_for(name, "psycopg")
    upgrade(url)
    with psycopg.connect(postgres_server.admin_conninfo(), autocommit=True) as admin:
        for setting in (
            "datestyle TO 'German'",
            "intervalstyle TO 'iso_8601'",
            "timezone TO 'Asia/Kathmandu'",
            "bytea_output TO 'escape'",
            "client_encoding TO 'LATIN1'",
            "standard_conforming_strings TO off",
            "search_path TO pg_catalog",
            "default_transaction_isolation TO 'serializable'",
        ):
            try:
                admin.execute(f"ALTER DATABASE {name} SET {setting}")
            except psycopg.errors.InvalidParameterValue:
                assert "standard_conforming" in setting  # Postgres 19 takes no other value any more
    yield url
    with psycopg.connect(postgres_server.admin_conninfo(), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_session_means_the_same_whatever_the_database_says(
    odd_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    monkeypatch.setenv("PGDATESTYLE", "SQL, DMY")
    monkeypatch.setenv("PGTZ", "America/Lima")
    with Connections(odd_database) as connections, connections.borrow() as session:
        row = session.execute(
            "SELECT '2026-02-01 03:04:05+00'::timestamptz::text, 'Novák ěščř 张伟'::text, E'\\\\001'::bytea::text, "
            "'a\\b', '1 day'::interval::text, current_setting('transaction_isolation')"
        ).fetchone()
        moment = session.execute("SELECT '2026-02-01 03:04:05+00'::timestamptz").fetchone()
    assert row == ("2026-02-01 03:04:05+00", "Novák ěščř 张伟", "\\x01", "a\\b", "1 day", "read committed")
    assert moment is not None
    assert moment[0].isoformat() == "2026-02-01T03:04:05+00:00"
    assert upgrade(odd_database)


def _who(session: Connection) -> object:
    return session.execute("SELECT current_user::text").fetchone()


def _refusal(url: str) -> FirstreadError:
    with Connections(url, patience_seconds=0.5) as connections, pytest.raises(FirstreadError) as caught:
        connections.run(lambda session: session.execute("SELECT 1").fetchone())
    with pytest.raises(FirstreadError) as again:
        upgrade(url)
    assert again.value.code == caught.value.code
    return caught.value


def test_a_server_that_takes_no_writes_is_named(postgres_server: EmbeddedPostgres, odd_database: str) -> None:
    name = conninfo_to_dict(libpq_url(odd_database))["dbname"]
    with psycopg.connect(postgres_server.admin_conninfo(), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only TO on")
    refusal = _refusal(odd_database)
    assert refusal.code == "database-read-only"
    assert "primary" in refusal.message


def test_writes_refused_in_the_middle_are_waited_for(
    postgres_server: EmbeddedPostgres, odd_database: str
) -> None:
    """A failover: sessions of the pool still lead to the server that was the primary."""
    with Connections(odd_database, patience_seconds=5) as connections:
        calls: list[int] = []

        def work(session: Connection) -> int:
            calls.append(1)
            if len(calls) == 2:
                session.execute("SET default_transaction_read_only TO on")
                session.execute("CREATE TEMPORARY TABLE kept ()")
                session.execute("CREATE TABLE firstread.never ()")
            return len(calls)

        assert connections.run(work) == 1
        assert connections.run(work) == 3


def test_a_database_that_cannot_hold_every_name_is_refused(folder: Path) -> None:
    binaries = distribution_binaries()
    if binaries is None:
        pytest.skip("no Postgres of the distribution is here")
    with distribution_server(binaries, folder, encoding="LATIN1") as server:
        refusal = _refusal(server.url("postgres"))
    assert refusal.code == "database-encoding"
    assert "LATIN1" in refusal.message


def test_the_schema_comes_up_on_the_distributions_server_too(folder: Path) -> None:
    binaries = distribution_binaries()
    if binaries is None:
        pytest.skip("no Postgres of the distribution is here")
    with distribution_server(binaries, folder) as server:
        with server.admin() as admin:
            admin.execute("CREATE ROLE site LOGIN PASSWORD 'site'")
            admin.execute("CREATE DATABASE reports OWNER site")
        url = server.url("reports", user="site", password="site")
        with pytest.raises(StopRun, match="roles\\.sql"):
            upgrade(url)
        _administered(server, "reports", "site")
        assert upgrade(url)
        with Connections(url) as connections:
            assert connections.run(_who) == ("firstread_machine",)


def test_a_backup_is_restored_on_another_server_of_the_distribution(folder: Path) -> None:
    """As docs/running.md has it, by the distribution's own programs; the new server has never seen a role of ours."""
    binaries = distribution_binaries()
    if binaries is None:
        pytest.skip("no Postgres of the distribution is here")

    def tool(server: Server, *words: str, given: bytes = b"") -> bytes:
        done = subprocess.run(
            [binaries / words[0], *words[1:]], input=given, capture_output=True, check=False,
            env={**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": server.user,
                 "PGPASSWORD": server.password},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    (folder / "old").mkdir()
    (folder / "new").mkdir()
    with distribution_server(binaries, folder / "old") as old:
        with old.admin() as admin:
            admin.execute("CREATE DATABASE firstread")
        upgrade(old.url("firstread"))
        with Store(old.url("firstread")) as store:
            discover(store, 2)
            store.save(outcome(claim(store, 1)[0]))
        roles = tool(old, "pg_dumpall", "--roles-only", "--no-role-passwords")
        dump = tool(old, "pg_dump", "--format=custom", "firstread")
    with distribution_server(binaries, folder / "new") as new:
        with new.admin() as admin:
            admin.execute("CREATE DATABASE other")
        kept = b"\n".join(
            line for line in roles.splitlines() if b" postgres" not in line
        )  # the administrator is there
        tool(new, "psql", "--quiet", "--dbname=postgres", "-v", "ON_ERROR_STOP=1", given=kept)
        tool(new, "pg_restore", "--create", "--exit-on-error", "--dbname=postgres", given=dump)
        assert upgrade(new.url("firstread")) == head()
        with Store(new.url("firstread"), revision=head()) as store:
            assert store.audit_verify(content=True).ok
            store.save(outcome(claim(store)[0]))
            assert store.audit_verify(content=True).ok, "it drafts on, and the chains go on"
        with new.admin("firstread") as admin:
            admin.execute("SET ROLE firstread_machine")
            with pytest.raises(psycopg.Error):
                admin.execute('UPDATE firstread.resource SET body = body || \'{"status": "final"}\'')


def test_several_hosts(database_url: str, odd_database: str, postgres_server: EmbeddedPostgres) -> None:
    """libpq tries them in turn; what the last of them says is told, and one that takes writes is found."""
    name = conninfo_to_dict(libpq_url(odd_database))["dbname"]
    port = conninfo_to_dict(libpq_url(database_url))["port"]
    several = database_url.replace(f"@127.0.0.1:{port}", f"@127.0.0.1:1,127.0.0.1:{port}")
    with Connections(several) as connections:
        assert connections.run(_who) == ("firstread_machine",)
    assert _refusal(re.sub("firstread_migrator:", "firstread_migrator:x", several)).code == "database-refused"
    closed = database_url.replace(f"@127.0.0.1:{port}", "@127.0.0.1:1,127.0.0.1:2")
    assert _refusal(closed).code == "database-away"
    with psycopg.connect(postgres_server.admin_conninfo(), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only TO on")
    assert _refusal(f"{odd_database}?target_session_attrs=read-write").code == "database-read-only"


def _administered(server: Server, database: str, login: str) -> None:
    """What an administrator does with sql/roles.sql, by psql."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        ["psql", "-X", "-v", "ON_ERROR_STOP=1", "-v", f"login={login}", "-f", root / "sql" / "roles.sql",
         "-h", "127.0.0.1", "-p", str(server.port), "-U", server.user, database],
        env={**os.environ, "PGPASSWORD": server.password}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="pgbouncer is not here")
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_pooler_that_changes_sessions_is_refused_and_one_that_does_not_works(
    postgres_server: EmbeddedPostgres, odd_database: str, folder: Path, mode: str
) -> None:
    login = conninfo_to_dict(libpq_url(odd_database))
    with ExitStack() as stack:
        port = stack.enter_context(
            pooler(
                folder,
                mode,
                host_port=int(str(login["port"])),
                user=str(login["user"]),
                password=str(login["password"]),
            )
        )
        url = odd_database.replace(f":{login['port']}/", f":{port}/")
        if mode == "transaction":
            assert _refusal(url).code == "database-pooler"
        else:
            with Connections(url) as connections:
                assert connections.run(_who) == ("firstread_machine",)
            assert upgrade(url)
        with psycopg.connect(libpq_url(url)) as other:
            assert other.execute("SELECT current_user::text").fetchone() == (login["user"],), (
                "a role was left behind"
            )


@pytest.mark.parametrize(
    ("before", "after", "code", "words"),
    [
        ("firstread_migrator:", "firstread_migrator:x", "database-refused", "password"),
        (r"/\w+$", "/nowhere", "database-refused", "no such database"),
        ("$", "?sslmode=require", "database-tls", "TLS"),
        ("$", "?sslmode=verify-full&sslrootcert=/nonexistent/root.crt", "database-tls", "sslmode"),
        ("@127.0.0.1", "@p@ss.invalid", "database-host", "percent-encoded"),
        (r":\d+/", ":1/", "database-away", "127.0.0.1:1 "),
    ],
    ids=["password", "database", "no-tls", "no-root", "host", "closed"],
)
def test_why_the_database_refused_us(
    database_url: str, before: str, after: str, code: str, words: str
) -> None:
    secret = str(conninfo_to_dict(libpq_url(database_url))["password"])
    url = re.sub(before, after, database_url, count=1)
    with Connections(url, patience_seconds=0.2) as connections, pytest.raises(FirstreadError) as caught:
        connections.run(lambda session: session.execute("SELECT 1").fetchone())
    assert caught.value.code == code
    assert isinstance(caught.value, RetryLater) is (code == "database-away")
    assert words in caught.value.message
    assert secret not in str(caught.value)
    assert "ss.invalid" not in str(caught.value)
