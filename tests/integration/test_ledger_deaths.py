"""The ledger when a claimer or its server dies, and a server that is not as it should be."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import FirstreadError, RetryLater, StopRun
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.migrations import head
from pipeline.store.store import Store
from pipeline.store.values import SavedVersion
from tests.store_samples import (
    claim,
    discover,
    outcome,
)

ROOT = Path(__file__).parents[2]
CLAIM_AND_SLEEP = """
import sys, time
from pipeline.store.statements import statement
from pipeline.store.store import Store
from tests.store_samples import claim
with Store(sys.argv[1]) as store:
    print(len(claim(store, 5, lease_seconds=3600, owner="doomed")), flush=True)
    time.sleep(60)
"""


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with Store(database_url, revision=head(), settle_seconds=0.0, patience_seconds=20.0) as opened:
        yield opened


def test_kill_9_frees_the_claims_at_once(store: Store, database_url: str) -> None:
    discover(store, 5)
    doomed = subprocess.Popen(
        [sys.executable, "-c", CLAIM_AND_SLEEP, database_url],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with doomed:
        assert doomed.stdout is not None
        assert doomed.stdout.readline() == "5\n"
        assert claim(store) == [], "the claimer still lives"
        doomed.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    freed: list[Any] = []
    while not freed and time.monotonic() < deadline:
        freed = claim(store)
        time.sleep(0.02)
    assert [(one.attempts, one.deaths) for one in freed] == [(1, 0)] * 5, "none was begun"


def test_after_a_server_restart_claims_wait_for_their_owners(store: Store, database_url: str) -> None:
    discover(store, 1)
    claim(store)
    store._presence.close()
    with Store(database_url, settle_seconds=3600) as cautious:
        assert claim(cautious) == []
    with Store(database_url, settle_seconds=0) as bold:
        assert len(claim(bold)) == 1


def test_an_older_schema_stops_the_run(empty_database_url: str) -> None:
    with pytest.raises(StopRun, match="db upgrade"), Store(empty_database_url, revision=head()):
        pass


def test_a_wrong_password_stops_the_run(database_url: str) -> None:
    wrong = database_url.replace("firstread_migrator:", "firstread_migrator:x", 1)
    with pytest.raises(StopRun, match="refuses"), Store(wrong, revision=head()):
        pass


def test_an_absent_server_is_retry_later() -> None:
    with (
        Store("postgresql+psycopg://firstread:x@127.0.0.1:9/none", patience_seconds=0.2) as absent,
        pytest.raises(RetryLater) as away,
    ):
        absent.studies()
    assert away.value.code == "database-away"


def test_a_restart_in_the_middle_of_saving_loses_nothing(tmp_path: Path) -> None:
    """The postmaster is killed with -9 while studies are saved; its keeper starts it again and the run goes on."""
    from pipeline.store.migrations import upgrade

    folder = tmp_path / "away"
    with EmbeddedPostgres.ensure(folder, {"fsync": "off"}) as server:
        upgrade(server.url)
        with Store(server.url, patience_seconds=60.0, settle_seconds=5.0) as store:
            discover(store, 100)
            claims = claim(store, 100)
            time.sleep(2.5)  # a server that has not settled is not started again
            results: list[SavedVersion | FirstreadError] = []
            saving = threading.Thread(
                target=lambda: results.extend(
                    saved
                    for at in range(0, 100, 10)
                    for saved in store.save_many([outcome(one) for one in claims[at : at + 10]])
                )
            )
            saving.start()
            while not results:
                time.sleep(0.005)
            postmaster = int((server.cluster / "postmaster.pid").read_text().split()[0])
            os.kill(postmaster, signal.SIGKILL)
            saving.join()
            assert [type(one) for one in results] == [SavedVersion] * 100
            assert {one.version for one in results if isinstance(one, SavedVersion)} == {1}
            assert [count.studies for count in store.status_counts()] == [100]
            verdict = store.audit_verify()
            assert (verdict.ok, verdict.rows) == (True, 300)
