"""Received instances in Postgres: durable, duplicates and conflicts, quiet studies, late images."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from flows.received import link_received
from pipeline.errors import RetryLater
from pipeline.ledger import LedgerState, UsedInstance
from pipeline.store.connections import libpq_url
from pipeline.store.store import Store
from pipeline.store.values import Received
from pipeline.study import HeldInstance, InstanceRef
from tests.store_samples import ARCHIVE, RECIPE, claim, discover, found, outcome, settled, study_uid

UID = study_uid(0)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with Store(database_url) as opened:
        yield opened


def held(number: int, digest: str = "d1") -> HeldInstance:
    ref = InstanceRef(UID, f"{UID}.1", f"{UID}.1.{number}")
    return HeldInstance(
        ref, Path(f"/inbox/{number}-{digest}.dcm"), digest, 100, "1.2.840.1", "1.2.840.10008.1.2.1"
    )


def test_duplicates_and_conflicts(store: Store) -> None:
    sop = held(1).ref.sop_instance_uid
    assert store.inbox.record(ARCHIVE, [held(1)], "PACS") == (Received(sop, duplicate=False, conflict=False),)
    assert store.inbox.record(ARCHIVE, [held(1)], "PACS") == (Received(sop, duplicate=True, conflict=False),)
    assert store.inbox.record(ARCHIVE, [held(1, "d2")], "PACS") == (
        Received(sop, duplicate=False, conflict=True),
    )
    assert store.inbox.record("another", [held(1, "d2")]) == (Received(sop, duplicate=False, conflict=False),)
    assert store.inbox.instances(ARCHIVE, UID) == (held(1),), "of other bytes under one UID the first is used"


def test_two_versions_in_one_call_are_a_conflict(store: Store) -> None:
    store.inbox.record(ARCHIVE, [held(1), held(1, "d2"), held(2)])
    assert [one.sha256 for one in store.inbox.instances(ARCHIVE, UID)] == ["d1", "d1"]


def test_a_study_is_quiet_when_nothing_came_for_a_while(store: Store) -> None:
    store.inbox.record(ARCHIVE, [held(1), held(2)])
    assert store.inbox.quiet_studies(60) == ()
    time.sleep(0.05)
    (quiet,) = store.inbox.quiet_studies(0.02, ARCHIVE)
    assert (quiet.study_instance_uid, quiet.instances) == (UID, 2)
    assert store.inbox.quiet_studies(0.02, "another") == ()
    store.inbox.record(ARCHIVE, [held(3)])
    store.inbox.hand_over(ARCHIVE, UID, quiet.newest)
    (again,) = store.inbox.quiet_studies(0)
    assert again.instances == 1, "what came after the look is not handed over by it"


def test_late_images_reopen_a_reported_study(store: Store) -> None:
    (ledger_id,) = discover(store, 1)
    store.save(outcome(claim(store)[0]))
    store.inbox.record(ARCHIVE, [held(1)])
    (quiet,) = store.inbox.quiet_studies(0)
    store.record_found(ARCHIVE, RECIPE, [found(0)])
    store.inbox.hand_over(ARCHIVE, UID, quiet.newest)
    row = store.study(ledger_id)
    assert row is not None
    assert row.state == LedgerState.DISCOVERED
    store.inbox.hand_over(ARCHIVE, UID, quiet.newest)
    store.save(outcome(claim(store)[0]))
    store.inbox.hand_over(ARCHIVE, UID, quiet.newest)
    assert claim(store) == [], "handing over nothing opens nothing"


def used(*numbers: int, announced: bool = True) -> tuple[UsedInstance, ...]:
    return tuple(UsedInstance(held(n).ref.sop_instance_uid, held(n).sha256, announced) for n in numbers)


def removed(store: Store) -> list[str]:
    gone: list[str] = []
    store.inbox.remove_released(lambda path: gone.append(path.name))
    return gone


def test_only_what_an_outcome_names_by_digest_is_removed(store: Store) -> None:
    discover(store, 1)
    store.inbox.record(ARCHIVE, [held(1), held(2)])
    (claimed,) = claim(store)
    store.inbox.record(ARCHIVE, [held(3)])  # while the study is drafted
    assert removed(store) == []
    store.save(outcome(claimed, received=used(1)))
    assert removed(store) == ["1-d1.dcm"]
    assert [one.ref.sop_instance_uid for one in store.inbox.instances(ARCHIVE, UID)] == [
        f"{UID}.1.2",
        f"{UID}.1.3",
    ]
    assert store.inbox.quiet_studies(0)[0].instances == 2, "the others wait to be handed over"


def test_other_bytes_under_the_same_uid_are_not_removed_by_it(store: Store) -> None:
    discover(store, 1)
    store.inbox.record(ARCHIVE, [held(1), held(1, "d2")])
    store.save(outcome(claim(store)[0], received=used(1)))
    assert removed(store) == ["1-d1.dcm"]
    assert store.inbox.instances(ARCHIVE, UID) == (held(1, "d2"),)


def test_a_failure_leaves_the_inbox_as_it_is(store: Store) -> None:
    discover(store, 1)
    store.inbox.record(ARCHIVE, [held(1)])
    store.settle(settled(claim(store)[0], LedgerState.FAILED, received=used(1)))
    assert removed(store) == []


def test_what_no_archive_has_is_kept_for_a_late_image_and_then_released(store: Store) -> None:
    discover(store, 1)
    store.inbox.record(ARCHIVE, [held(1)])
    store.save(outcome(claim(store)[0], received=used(1, announced=False)))
    assert removed(store) == []
    assert store.inbox.instances(ARCHIVE, UID) == (held(1),)
    assert store.inbox.quiet_studies(0) == (), "it is settled: nothing waits"
    assert store.inbox.release_kept(1) == 0
    assert store.inbox.release_kept(0) == 1
    assert removed(store) == ["1-d1.dcm"]


def test_removed_files_may_come_again(store: Store) -> None:
    discover(store, 1)
    store.inbox.record(ARCHIVE, [held(1)])
    store.save(outcome(claim(store)[0], received=used(1)))
    assert removed(store) == ["1-d1.dcm"]
    assert store.inbox.instances(ARCHIVE, UID) == ()
    assert store.inbox.quiet_studies(0) == ()
    store.inbox.record(ARCHIVE, [held(1)])
    assert store.inbox.instances(ARCHIVE, UID) == (held(1),)
    assert len(store.inbox.quiet_studies(0)) == 1
    assert removed(store) == []


def test_a_file_that_is_gone_is_settled_by_name(store: Store, database_url: str) -> None:
    discover(store, 1)
    store.inbox.record(ARCHIVE, [held(1), held(2)])
    assert store.inbox.note_missing(ARCHIVE, [held(2)]) == 1
    assert store.inbox.instances(ARCHIVE, UID) == (held(1),)
    with psycopg.connect(libpq_url(database_url)) as connection:
        rows = connection.execute(
            "SELECT settled_code FROM firstread.instance ORDER BY sop_instance_uid"
        ).fetchall()
    assert rows == [("",), ("file-missing",)]


def test_a_work_folder_that_goes_meanwhile_settles_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the chaos run: who had lost its claim took the removal of its folder for the loss of what was pushed."""
    discover(store, 1)
    (ours,) = claim(store)
    here = tmp_path / "received.dcm"
    here.write_bytes(b"an instance")
    store.inbox.record(ARCHIVE, [replace(held(1), path=here), held(2)])
    work, link = tmp_path / "work", os.link

    def link_when_the_folder_is_gone(source: Path, target: Path) -> None:
        if work.exists():
            work.rmdir()
        link(source, target)

    monkeypatch.setattr(os, "link", link_when_the_folder_is_gone)
    with pytest.raises(RetryLater) as raised:
        link_received(store, ours, work)
    assert raised.value.code == "folder-gone"
    assert len(store.inbox.instances(ARCHIVE, UID)) == 2, "what is acknowledged still waits"
    monkeypatch.undo()
    assert link_received(store, ours, work) == 1
    assert [one.path for one in store.inbox.instances(ARCHIVE, UID)] == [here], "that one is gone indeed"


@pytest.mark.parametrize("forget", ["SET path = ''", "SET released = true", "SET path = '', released = true"])
def test_no_program_forgets_what_is_not_settled(store: Store, database_url: str, forget: str) -> None:
    store.inbox.record(ARCHIVE, [held(1)])
    with psycopg.connect(libpq_url(database_url)) as connection:
        connection.execute("SET ROLE firstread_machine")
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(f"UPDATE firstread.instance {forget}")


def test_a_full_inbox_is_not_read_to_add_to_it(own_database_url: str) -> None:
    """Whatever plan was made while the table was empty: each UID is looked up, and nothing else read."""
    read = (
        "SELECT (SELECT seq_scan FROM pg_stat_user_tables WHERE relid = 'firstread.instance'::regclass), "
        "(SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relid = 'firstread.instance'::regclass)"
    )
    with Store(own_database_url, most_connections=1) as store:

        def told() -> tuple[int, int]:
            with store._connections.borrow() as connection:
                connection.execute("SELECT pg_stat_force_next_flush()")
                return tuple(map(int, connection.execute(read).fetchone() or ()))  # type: ignore[return-value]

        for number in range(20):
            store.inbox.record(ARCHIVE, [held(number)])
        store.inbox.record(ARCHIVE, [held(number) for number in range(100, 3100)])
        scans, rows = told()
        for number in range(4000, 4020):
            store.inbox.record(ARCHIVE, [held(number), held(number - 900)])
        after = told()
        assert after[0] == scans
        assert after[1] - rows <= 200
