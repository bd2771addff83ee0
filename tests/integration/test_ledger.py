"""The ledger on a real server: discovery, claims, leases, fencing, and outcomes."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from pipeline.errors import FailStudy, LostClaim
from pipeline.ledger import LedgerState
from pipeline.lookup import HistorySearch
from pipeline.store.connections import libpq_url
from pipeline.store.migrations import head
from pipeline.store.statements import statement
from pipeline.store.store import Store
from pipeline.store.values import SavedVersion, StatusFilter
from tests.store_samples import (
    ARCHIVE,
    RECIPE,
    claim,
    completeness,
    discover,
    found,
    outcome,
    resources,
    settled,
    study_uid,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with Store(database_url, revision=head(), settle_seconds=0.0, patience_seconds=20.0) as opened:
        yield opened


def state(store: Store, ledger_id: int) -> LedgerState:
    row = store.study(ledger_id)
    assert row is not None
    return row.state


def test_found_studies_are_counted_once(store: Store) -> None:
    first = store.record_found(ARCHIVE, RECIPE, [found(0), found(1), found(1)])
    again = store.record_found(ARCHIVE, RECIPE, [found(0), found(1), found(2)])
    assert (first.new, first.changed, first.unchanged) == (2, 0, 0)
    assert (again.new, again.changed, again.unchanged) == (1, 0, 2)
    assert len(again.ledger_ids_to_do) == 3
    assert store.ledger_ids(ARCHIVE, RECIPE, [study_uid(2)]) == again.ledger_ids_to_do[2:]


def test_a_reported_study_rests_until_it_changes(store: Store) -> None:
    (ledger_id,) = discover(store, 1)
    store.save(outcome(claim(store)[0]))
    assert store.record_found(ARCHIVE, RECIPE, [found(0)]).ledger_ids_to_do == ()
    assert claim(store) == []

    changed = store.record_found(ARCHIVE, RECIPE, [found(0, demographics_digest="other")])
    assert (changed.changed, changed.ledger_ids_to_do) == (1, (ledger_id,))
    assert claim(store)[0].reported_manifest == "m" * 64


def test_more_announced_instances_reopen_a_study(store: Store) -> None:
    discover(store, 1)
    store.settle(settled(claim(store)[0]))
    assert store.record_found(ARCHIVE, RECIPE, [found(0, announced_instances=None)]).changed == 0
    assert store.record_found(ARCHIVE, RECIPE, [found(0, announced_instances=3)]).changed == 1


def test_a_change_during_work_is_not_lost(store: Store) -> None:
    (ledger_id,) = discover(store, 1)
    (held,) = claim(store)
    store.record_found(ARCHIVE, RECIPE, [found(0, demographics_digest="corrected")])
    assert state(store, ledger_id) == LedgerState.RETRIEVING
    store.save(outcome(held))
    assert state(store, ledger_id) == LedgerState.DISCOVERED
    assert len(claim(store)) == 1


def test_an_uncounted_archive_is_judged_by_its_instance_list(store: Store) -> None:
    page = [found(0, announced_instances=None), found(1, announced_instances=2)]
    store.record_found(ARCHIVE, RECIPE, page)
    assert store.needs_listing(ARCHIVE, RECIPE, page) == ()
    for held in claim(store):
        store.save(outcome(held))
    (settled_study,) = store.needs_listing(ARCHIVE, RECIPE, page)
    assert settled_study.study_instance_uid == study_uid(0)
    assert not store.record_announced(settled_study.ledger_id, "a" * 64, 2)
    assert store.record_announced(settled_study.ledger_id, "b" * 64, 3)
    assert state(store, settled_study.ledger_id) == LedgerState.DISCOVERED


def test_claims_follow_the_filters(store: Store) -> None:
    ids = discover(store, 6)
    assert claim(store, archive="another") == []
    assert [c.ledger_id for c in claim(store, ledger_ids=[ids[3]])] == [ids[3]]
    assert [c.ledger_id for c in claim(store, since=date(2026, 2, 5), until=date(2026, 2, 5))] == [ids[4]]
    assert [c.ledger_id for c in claim(store, 2)] == [ids[0], ids[1]]


def test_two_claimers_never_share_a_study(store: Store, database_url: str) -> None:
    ids = discover(store, 120)
    claimed: Counter[int] = Counter()
    lock = threading.Lock()

    def work(which: Store, owner: str) -> None:
        while held := claim(which, 7, owner=owner):
            with lock:
                claimed.update(one.ledger_id for one in held)

    with Store(database_url) as other, ThreadPoolExecutor(6) as pool:
        for number in range(6):
            pool.submit(work, (store, other)[number % 2], f"owner-{number}")
    assert claimed == Counter(ids)


def test_what_was_claimed_meanwhile_is_not_taken_for_left_behind(store: Store, database_url: str) -> None:
    """A row that changed while a claim was on its way is looked at anew, and the living processes are not."""
    discover(store, 2)
    values = {
        "class": 1, "recipe": RECIPE, "archive": ARCHIVE, "ledger_ids": None, "since": None, "until": None,
        "begun": None, "alone": False, "received": False, "settle": 0, "limit": 4, "owner": "o", "process": 1,
        "call": uuid.uuid4(), "seconds": 60,
    }  # fmt: skip
    with psycopg.connect(libpq_url(database_url)) as slow:
        slow.execute("SET ROLE firstread_machine")
        slow.execute("SET search_path TO firstread")
        slow.execute("SELECT now()")  # the moment at which its claim begins
        assert len(claim(store, 1)) == 1
        taken = slow.execute(statement("ledger", "claim"), values).fetchall()
        assert len(taken) == 1, "the other one alone"
    with psycopg.connect(libpq_url(database_url)) as later:
        later.execute("SET ROLE firstread_machine")
        later.execute("SET search_path TO firstread")
        again = later.execute(statement("ledger", "claim"), values).fetchall()
        assert len(again) == 2, "asked by locks that nobody holds both processes are gone"


def test_an_expired_lease_is_claimed_again_and_the_old_token_is_refused(store: Store) -> None:
    (ledger_id,) = discover(store, 1)
    (stale,) = claim(store, lease_seconds=0.01)
    time.sleep(0.05)
    (fresh,) = claim(store, owner="next")
    assert (fresh.token, fresh.attempts) == (stale.token + 1, 1), "it was never begun"
    assert store.renew([stale, fresh], 60) == (stale,)
    assert store.advance([stale], LedgerState.COMPLETE) == (stale,)
    before = time.monotonic()
    with pytest.raises(LostClaim):
        store.record_complete(stale, completeness(study_uid(0)))
    assert time.monotonic() - before < 5, "no patience brings a claim back"
    with pytest.raises(LostClaim):
        store.save(outcome(stale))
    with pytest.raises(LostClaim):
        store.settle(settled(stale))
    assert state(store, ledger_id) == LedgerState.RETRIEVING
    assert store.save(outcome(fresh)).version == 1


def test_released_claims_are_as_if_never_taken(store: Store) -> None:
    (ledger_id,) = discover(store, 1)
    (held,) = claim(store)
    assert store.release([held]) == ()
    assert state(store, ledger_id) == LedgerState.DISCOVERED
    (again,) = claim(store)
    assert again.attempts == 1
    assert store.release([held]) == (held,)


def test_saving_again_gives_the_same_version(store: Store) -> None:
    (ledger_id,) = discover(store, 1)
    drafted = outcome(claim(store)[0])
    saved = store.save(drafted)
    rows = store.audit_verify().rows
    assert saved == SavedVersion(ledger_id, drafted.diagnostic_report_id, 1)
    assert store.save(drafted) == saved
    assert store.audit_verify().rows == rows
    assert store.count_history(HistorySearch(("DiagnosticReport",), drafted.diagnostic_report_id)) == 1


def test_a_report_may_come_without_pictures(store: Store) -> None:
    discover(store, 1)
    saved = store.save(outcome(claim(store)[0], previews=(), audit=(), left_out=(), checks=()))
    detail = store.report_detail(saved.report_id)
    assert detail is not None
    assert (detail.previews, detail.checks, store.audit_verify().rows) == ((), (), 0)


def test_a_changed_manifest_makes_the_next_version(store: Store) -> None:
    discover(store, 1)
    drafted = outcome(claim(store)[0])
    store.save(drafted)
    store.record_found(ARCHIVE, RECIPE, [found(0, announced_instances=3)])
    saved = store.save(outcome(claim(store)[0], manifest="n" * 64))
    assert (saved.report_id, saved.version) == (drafted.diagnostic_report_id, 2)
    assert store.count_history(HistorySearch(("Device",), "device-1")) == 1, (
        "the same body is not written again"
    )


def test_a_study_is_stored_whole_or_not_at_all(store: Store) -> None:
    (ledger_id,) = discover(store, 1)
    (held,) = claim(store)
    final = resources(held.study_instance_uid, status="final")
    with pytest.raises(FailStudy) as refused:
        store.save(outcome(held, resources=final))
    assert refused.value.code == "store-refused"
    assert state(store, ledger_id) == LedgerState.RETRIEVING
    assert store.read("Patient", "patient-1000") is None
    assert store.audit_verify().rows == 0
    store.save(outcome(held))


def test_one_bad_study_does_not_stop_its_batch(store: Store) -> None:
    discover(store, 4)
    held = claim(store)
    drafted = [outcome(one) for one in held]
    drafted[1] = replace(drafted[1], resources=resources(held[1].study_instance_uid, status="final"))
    drafted[2] = replace(drafted[2], accession_number="NUL\x00 and \ud800")
    results = store.save_many(drafted)
    assert [type(one) for one in results] == [SavedVersion, FailStudy, FailStudy, SavedVersion]
    assert {one.version for one in results if isinstance(one, SavedVersion)} == {1}
    assert store.audit_verify().rows == 2 * len(drafted[0].audit), (
        "what was sent behind a refused one is written once"
    )
    assert [row.state for row in reversed(store.studies())] == [
        LedgerState.REPORTED,
        LedgerState.RETRIEVING,
        LedgerState.RETRIEVING,
        LedgerState.REPORTED,
    ]
    with Store(store._connections._conninfo) as same:
        assert same._run(lambda c: c.execute("SHOW synchronous_commit").fetchone()) == ("on",)
    assert store._run(lambda c: c.execute("SHOW synchronous_commit").fetchone()) == ("on",)


def test_settled_states(store: Store) -> None:
    discover(store, 3)
    skipped, failed, later = claim(store)
    soon = datetime.now(UTC) + timedelta(seconds=0.2)
    store.settle(settled(skipped))
    store.settle(settled(failed, LedgerState.FAILED, code="decode", message="cannot decode"))
    short = completeness(later.study_instance_uid, missing=("2.25.9",))
    store.settle(settled(later, LedgerState.FAILED, next_attempt_at=soon, completeness=short))
    assert claim(store) == []
    assert {row.code for row in store.status_rows(StatusFilter())} - {""} == {"not-chest", "decode"}
    time.sleep(0.25)
    (again,) = claim(store)
    assert (again.ledger_id, again.attempts) == (later.ledger_id, 2)
    assert again.first_short_at is not None
    events = [{"resourceType": "AuditEvent", "n": number} for number in range(2)]
    assert store.standing.reopen([skipped.ledger_id, later.ledger_id], events) == (skipped.ledger_id,)
    assert store.audit_verify().ok


def test_settle_many_gives_each_its_own_answer(store: Store) -> None:
    discover(store, 2)
    one, other = claim(store)
    answers = store.settle_many([settled(one), settled(replace(other, token=other.token - 1))])
    assert answers[0] is None
    assert isinstance(answers[1], LostClaim)


@pytest.mark.parametrize("target", ["drafted", "reported", "complete"])
def test_the_database_refuses_a_leap_in_the_states(database_url: str, store: Store, target: str) -> None:
    discover(store, 1)
    with psycopg.connect(libpq_url(database_url)) as connection:
        connection.execute("SET ROLE firstread_machine")
        with pytest.raises(psycopg.Error) as refused:
            connection.execute("UPDATE firstread.ledger SET state = %s", [target])
    assert refused.value.sqlstate == "FR003"


def test_a_study_begins_as_discovered(database_url: str) -> None:
    with psycopg.connect(libpq_url(database_url)) as connection:
        connection.execute("SET ROLE firstread_machine")
        with pytest.raises(psycopg.Error) as refused:
            connection.execute(
                "INSERT INTO firstread.ledger (archive, study_instance_uid, recipe, state) "
                "VALUES ('a', '1', 'r', 'reported')"
            )
    assert refused.value.sqlstate == "FR003"


def test_claiming_reads_only_open_rows_however_long_the_ledger(store: Store, database_url: str) -> None:
    discover(store, 3000)
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        connection.execute("SET ROLE firstread_machine")
        connection.execute("SET search_path TO firstread")
        connection.execute("UPDATE ledger SET state = 'skipped' WHERE ledger_id % 300 <> 0")
        connection.execute("RESET ROLE")
        connection.execute("VACUUM ANALYZE ledger")
        connection.execute("SET ROLE firstread_machine")
        values = {
            "class": 1, "recipe": RECIPE, "archive": ARCHIVE, "ledger_ids": None, "since": None, "until": None,
            "begun": None, "alone": False, "received": False, "settle": 0, "limit": 4, "owner": "o", "process": 1,
            "call": uuid.uuid4(), "seconds": 60,
        }  # fmt: skip
        plan = "\n".join(
            line
            for (line,) in connection.execute(
                "EXPLAIN " + statement("ledger", "claim"), values, prepare=False
            )
        )
    assert "Index Scan using ledger_open" in plan, plan
    assert "Seq Scan on ledger" not in plan, plan
    assert len(claim(store, 100)) == 10


def test_new_work_wakes_a_waiting_worker(store: Store) -> None:
    assert not store.wait_for_work(0.05)
    woken: list[bool] = []
    waiting = threading.Thread(target=lambda: woken.append(store.wait_for_work(10)))
    waiting.start()
    number = 0
    while waiting.is_alive():
        number += 1
        store.record_found(ARCHIVE, RECIPE, [found(number)])
        waiting.join(0.05)
    assert woken == [True]
