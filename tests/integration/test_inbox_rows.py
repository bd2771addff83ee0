"""Received instances in Postgres: durable, duplicates and conflicts, quiet studies, late images."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.ledger import LedgerState
from pipeline.store.store import Store
from pipeline.store.values import Received
from pipeline.study import HeldInstance, InstanceRef
from tests.store_samples import ARCHIVE, RECIPE, claim, discover, found, outcome, study_uid

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
    assert store.record_received(ARCHIVE, [held(1)], "PACS") == (
        Received(sop, duplicate=False, conflict=False),
    )
    assert store.record_received(ARCHIVE, [held(1)], "PACS") == (
        Received(sop, duplicate=True, conflict=False),
    )
    assert store.record_received(ARCHIVE, [held(1, "d2")], "PACS") == (
        Received(sop, duplicate=False, conflict=True),
    )
    assert store.record_received("another", [held(1, "d2")]) == (
        Received(sop, duplicate=False, conflict=False),
    )
    assert store.received_instances(ARCHIVE, UID) == (held(1),), (
        "of other bytes under one UID the first is used"
    )


def test_two_versions_in_one_call_are_a_conflict(store: Store) -> None:
    store.record_received(ARCHIVE, [held(1), held(1, "d2"), held(2)])
    assert [one.sha256 for one in store.received_instances(ARCHIVE, UID)] == ["d1", "d1"]


def test_a_study_is_quiet_when_nothing_came_for_a_while(store: Store) -> None:
    store.record_received(ARCHIVE, [held(1), held(2)])
    assert store.quiet_studies(60) == ()
    time.sleep(0.05)
    (quiet,) = store.quiet_studies(0.02, ARCHIVE)
    assert (quiet.study_instance_uid, quiet.instances) == (UID, 2)
    assert store.quiet_studies(0.02, "another") == ()
    store.record_received(ARCHIVE, [held(3)])
    store.hand_over(ARCHIVE, UID, quiet.newest)
    (again,) = store.quiet_studies(0)
    assert again.instances == 1, "what came after the look is not handed over by it"


def test_late_images_reopen_a_reported_study(store: Store) -> None:
    (ledger_id,) = discover(store, 1)
    store.save(outcome(claim(store)[0]))
    store.record_received(ARCHIVE, [held(1)])
    (quiet,) = store.quiet_studies(0)
    store.record_found(ARCHIVE, RECIPE, [found(0)])
    store.hand_over(ARCHIVE, UID, quiet.newest)
    row = store.study(ledger_id)
    assert row is not None
    assert row.state == LedgerState.DISCOVERED
    store.hand_over(ARCHIVE, UID, quiet.newest)
    store.save(outcome(claim(store)[0]))
    store.hand_over(ARCHIVE, UID, quiet.newest)
    assert claim(store) == [], "handing over nothing opens nothing"


def test_forgotten_files_may_come_again(store: Store) -> None:
    store.record_received(ARCHIVE, [held(1)])
    store.forget_received(ARCHIVE, UID)
    assert store.received_instances(ARCHIVE, UID) == ()
    assert store.quiet_studies(0) == ()
    store.record_received(ARCHIVE, [held(1)])
    assert store.received_instances(ARCHIVE, UID) == (held(1),)
    assert len(store.quiet_studies(0)) == 1
