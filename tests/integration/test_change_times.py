"""A consumer that asks for what changed after the newest it has seen misses nothing that is committed late."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from pipeline.lookup import DateIs, HistorySearch, Prefix, ResourceSearch
from pipeline.store.connections import libpq_url
from pipeline.store.store import Store

MILLISECOND = timedelta(milliseconds=1)
WRITE = (
    "INSERT INTO firstread.resource (resource_type, resource_id, version_id, last_updated, body, written_by) "
    "VALUES ('DiagnosticReport', %s, 1, now(), %s, 'machine')"
)


def write(connection: psycopg.Connection[tuple[object, ...]], name: str) -> None:
    body = {"resourceType": "DiagnosticReport", "id": name, "status": "partial"}
    connection.execute(WRITE, [name, Jsonb(body)])


def newest(store: Store) -> datetime:
    return store.search(ResourceSearch("DiagnosticReport", limit=1)).resources[0].last_updated


def later_than(store: Store, moment: datetime) -> set[str]:
    wanted = DateIs(Prefix.GREATER, moment, moment + MILLISECOND, changed=True)
    return {one.resource_id for one in store.search(ResourceSearch("DiagnosticReport", (wanted,))).resources}


def test_what_is_committed_late_is_later(database_url: str) -> None:
    """Two writers at once: the first writes, the second writes and commits first, a consumer asks in between."""
    url = libpq_url(database_url)
    with Store(database_url) as store, psycopg.connect(url) as slow, psycopg.connect(url) as quick:
        write(slow, "slow")
        time.sleep(0.01)
        write(quick, "quick")
        quick.commit()
        seen = newest(store)
        slow.commit()
        assert later_than(store, seen) == {"slow"}
        write(quick, "third")
        quick.commit()
        found = store.history(HistorySearch(("DiagnosticReport",))).resources
        assert [one.resource_id for one in found] == ["third", "slow", "quick"]
        for one in found:
            current = store.read("DiagnosticReport", one.resource_id)
            assert current is not None
            assert current.last_updated == one.last_updated, "history and current version have one time"
            assert (
                json.loads(current.body)["meta"]["lastUpdated"] == json.loads(one.body)["meta"]["lastUpdated"]
            )


def test_a_poller_beside_many_writers_sees_each_report(database_url: str) -> None:
    url, done = libpq_url(database_url), threading.Event()
    count, writers = 40, 4

    def writer(number: int) -> None:
        with psycopg.connect(url) as connection:
            for place in range(count):
                write(connection, f"w{number}-{place}")
                if place % 7 == number:
                    time.sleep(0.003)
                connection.commit()

    threads = [threading.Thread(target=writer, args=(number,)) for number in range(writers)]
    seen: set[str] = set()
    last = datetime(2000, 1, 1, tzinfo=UTC)
    with Store(database_url) as store:
        for thread in threads:
            thread.start()
        while not done.is_set():
            if not any(thread.is_alive() for thread in threads):
                done.set()
            wanted = DateIs(Prefix.GREATER, last, last + MILLISECOND, changed=True)
            found = store.search(ResourceSearch("DiagnosticReport", (wanted,), limit=1000)).resources
            seen |= {one.resource_id for one in found}
            last = max([last, *(one.last_updated for one in found)])
    assert len(seen) == writers * count


def test_a_clock_that_is_set_back_changes_no_order(database_url: str) -> None:
    with (
        Store(database_url) as store,
        psycopg.connect(libpq_url(database_url), autocommit=True) as connection,
    ):
        write(connection, "first")
        ahead = int((newest(store).timestamp() + 3600) * 1000)
        held = connection.execute("SELECT last_value FROM firstread.resource_clock").fetchone()
        connection.execute("SELECT setval('firstread.resource_clock', %s)", [ahead])
        try:
            write(connection, "second")
            write(connection, "third")
            times = [
                one.last_updated for one in store.history(HistorySearch(("DiagnosticReport",))).resources
            ]
            assert times[0] > times[1] > times[2]
        finally:
            connection.execute("SELECT setval('firstread.resource_clock', %s)", [held[0] if held else 1])


def test_a_writer_that_never_ends_holds_up_nobody(database_url: str) -> None:
    url = libpq_url(database_url)
    with psycopg.connect(url) as stuck, Store(database_url) as store, psycopg.connect(url) as other:
        write(stuck, "stuck")
        write(other, "other")
        other.commit()
        seen = newest(store)
        stuck.commit()
        assert later_than(store, seen) == {"stuck"}


def test_a_commit_that_cannot_be_settled_is_refused_in_time(database_url: str) -> None:
    """Who settles holds a lock for the moment of its commit; where that does not end, others give up and try again."""
    url = libpq_url(database_url)
    with psycopg.connect(url) as stuck, psycopg.connect(url, autocommit=True) as other:
        stuck.execute("SELECT pg_advisory_xact_lock(hashtextextended('firstread change time', 0))")
        row = other.execute(
            "SELECT proconfig FROM pg_proc WHERE oid = 'firstread.change_time(boolean)'::regprocedure"
        ).fetchone()
        assert row is not None
        assert "lock_timeout=20s" in row[0]
        other.execute("ALTER FUNCTION firstread.change_time(boolean) SET lock_timeout = '200ms'")
        try:
            with pytest.raises(psycopg.errors.LockNotAvailable):
                write(other, "other")
        finally:
            other.execute("ALTER FUNCTION firstread.change_time(boolean) SET lock_timeout = '20s'")
        stuck.rollback()
        write(other, "other")


def test_nobody_but_the_database_settles_a_time(database_url: str) -> None:
    """A change of the time alone is a new version like any other, with a time of its own."""
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        write(connection, "one")
        connection.execute("SET ROLE firstread_machine")
        connection.execute(
            "UPDATE firstread.resource SET last_updated = '2001-01-01' WHERE resource_id = 'one'"
        )
        rows = connection.execute(
            "SELECT r.version_id, r.last_updated > '2020-01-01', count(*) FROM firstread.resource AS r "
            "JOIN firstread.resource_history AS h USING (resource_type, resource_id) "
            "WHERE r.resource_id = 'one' GROUP BY 1, 2"
        ).fetchall()
        assert rows == [(2, True, 2)]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keep=st.lists(st.booleans(), min_size=1, max_size=6))
def test_a_transaction_has_one_time_and_savepoints_do_not_break_it(
    database_url: str, keep: list[bool]
) -> None:
    mark = str(time.time_ns())
    with psycopg.connect(libpq_url(database_url)) as connection, connection.transaction():
        for number, kept in enumerate(keep):
            with connection.transaction() as part:
                write(connection, f"s{mark}-{number}")
                if not kept:
                    raise psycopg.Rollback(part)
            with psycopg.connect(libpq_url(database_url), autocommit=True) as other:
                write(other, f"o{mark}-{number}")
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        rows = connection.execute(
            "SELECT DISTINCT r.last_updated, h.last_updated FROM firstread.resource AS r "
            "JOIN firstread.resource_history AS h USING (resource_type, resource_id) WHERE resource_id LIKE %s",
            [f"s{mark}-%"],
        ).fetchall()
        assert len(rows) == any(keep)
        others = connection.execute(
            "SELECT max(last_updated) FROM firstread.resource WHERE resource_id LIKE %s", [f"o{mark}-%"]
        ).fetchone()
        assert others is not None
        assert not rows or (rows[0][0] == rows[0][1] > others[0]), "it committed after all others"
