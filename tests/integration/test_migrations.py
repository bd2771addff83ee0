"""Migrations on a real server: empty, twice, by two at once, and a schema that is newer than the program."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pipeline.errors import RetryLater, StopRun
from pipeline.store.connections import libpq_url
from pipeline.store.migrations import head, upgrade
from pipeline.store.store import Store


def test_up_on_empty_and_twice(empty_database_url: str) -> None:
    assert upgrade(empty_database_url) == head()
    assert upgrade(empty_database_url) == head()
    with Store(empty_database_url, revision=head()) as store:
        assert store.studies() == ()


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


def test_an_absent_server_is_retry_later() -> None:
    with pytest.raises(RetryLater):
        upgrade("postgresql+psycopg://firstread:x@127.0.0.1:9/none")
