"""Every interleaving of receive, hand over, claim, fetch, draft, save, settle, forget and crash, on a real Postgres.

The promise (docs/decisions, inbox and ledger): no acknowledged instance without a report that rests on it, a named
reason, or its file in the inbox; and when everything has come to rest, a draft rests on each.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from flows.received import link_received, remove_received, used
from pipeline.errors import LostClaim
from pipeline.ledger import Claim, LedgerState, UsedInstance, WorkFilter
from pipeline.store.connections import libpq_url
from pipeline.store.store import Store
from pipeline.study import (
    AnnouncedInstance,
    FetchedStudy,
    FoundStudy,
    HeldInstance,
    InstanceRef,
    digest_lines,
)
from tests.store_samples import ARCHIVE, RECIPE, completeness, outcome, settled

STUDIES = count(50_000)
NUMBERS = st.integers(0, 3)


class Crash(Exception):
    """A process dies here."""


@dataclass
class Worker:
    """One claim in the hands of a process; a claim may be taken from it, since leases of no length run out at once."""

    claim: Claim
    rests_on: tuple[UsedInstance, ...] | None = None
    study: FetchedStudy | None = field(default=None)


class Inbox(RuleBasedStateMachine):
    """One study, one inbox, an archive that comes to know some of its instances, and processes that die."""

    store: Store
    url: str

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.uid = f"2.25.{next(STUDIES)}"
        self.acknowledged: set[tuple[str, str]] = set()
        self.archived: set[int] = set()
        self.reported: set[tuple[str, str]] = set()
        self.skipped: set[tuple[str, str]] = set()
        self.workers: list[Worker] = []
        self.fetches = count()
        self.waiting = False

    # -- the parts of the world

    def ref(self, number: int) -> InstanceRef:
        return InstanceRef(self.uid, f"{self.uid}.1", f"{self.uid}.1.{number}")

    def place(self, number: int, variant: int) -> HeldInstance | None:
        """As the Storage SCP places a file; None where it refuses other bytes."""
        content = f"{number}/{variant}".encode()
        path = self.folder / "inbox" / self.uid / f"{self.ref(number).sop_instance_uid}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.read_bytes() != content:
            return None
        path.write_bytes(content)
        return HeldInstance(
            self.ref(number), path, digest(content), len(content), "1.2", "1.2.840.10008.1.2.1"
        )

    @rule(number=NUMBERS, variant=st.integers(0, 1))
    def receive(self, number: int, variant: int) -> None:
        held = self.place(number, variant)
        if held is not None:
            self.store.inbox.record(ARCHIVE, [held], "PACS")
            self.acknowledged.add((held.ref.sop_instance_uid, held.sha256))
            self.waiting = True

    @initialize(number=NUMBERS, archived=st.booleans())
    def a_study_is_received(self, number: int, archived: bool) -> None:
        self.receive(number, 0)
        if archived:
            self.archive_files_it(number)
        self.hand_over()
        self.claim()

    @rule(number=NUMBERS)
    def crash_before_the_acknowledgement(self, number: int) -> None:
        self.place(number, 0)

    @rule(number=NUMBERS)
    def archive_files_it(self, number: int) -> None:
        self.archived.add(number)

    @precondition(lambda self: self.waiting)
    @rule()
    def hand_over(self) -> None:
        self.waiting = False
        for quiet in self.store.inbox.quiet_studies(0, ARCHIVE):
            if quiet.study_instance_uid == self.uid:
                if not self.store.ledger_ids(ARCHIVE, RECIPE, [self.uid]):
                    self.store.record_found(ARCHIVE, RECIPE, [FoundStudy(self.uid, None, (), "", None, "")])
                self.store.inbox.hand_over(ARCHIVE, self.uid, quiet.newest)

    @precondition(lambda self: len(self.workers) < 3)
    @rule()
    def claim(self) -> None:
        rows = self.store.ledger_ids(ARCHIVE, RECIPE, [self.uid])
        held = (
            self.store.claim(
                RECIPE, WorkFilter(ledger_ids=tuple(rows)), owner="o", limit=1, lease_seconds=0.0
            )
            if rows
            else []
        )
        self.workers += [Worker(one) for one in held]

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 5))
    def fetch(self, which: int) -> None:
        worker = self.workers[which % len(self.workers)]
        folder = self.folder / f"work-{next(self.fetches)}"
        link_received(self.store, worker.claim, folder)
        held = (
            {path.stem: digest(path.read_bytes()) for path in folder.glob("*.dcm")} if folder.exists() else {}
        )
        announced = [self.ref(number) for number in sorted(self.archived)]
        for number in self.archived:
            held.setdefault(self.ref(number).sop_instance_uid, digest(f"{number}/0".encode()))
        instances = tuple(
            HeldInstance(InstanceRef(self.uid, "", sop), folder, sha, 3, "1.2", "")
            for sop, sha in sorted(held.items())
        )
        worker.study = FetchedStudy(
            self.uid, tuple(AnnouncedInstance(ref) for ref in announced), instances, (), folder
        )
        worker.rests_on = used(worker.study, known=bool(announced))

    def ended(self, which: int, end: Callable[[Worker], None]) -> bool:
        """Bring a fetched claim to its outcome; False where a newer claim has taken it."""
        ready = [worker for worker in self.workers if worker.rests_on]
        if not ready:
            return False
        worker = ready[which % len(ready)]
        self.workers.remove(worker)
        try:
            end(worker)
        except LostClaim:
            return False
        return True

    @precondition(lambda self: any(worker.rests_on for worker in self.workers))
    @rule(which=st.integers(0, 2))
    def save(self, which: int) -> None:
        self.ended(which, self._save)

    def _save(self, worker: Worker) -> None:
        rests_on = worker.rests_on or ()
        manifest = digest_lines(f"{one.sop} {one.sha256}" for one in rests_on)
        drafted = outcome(worker.claim, received=rests_on, previews=(), manifest=manifest)
        self.store.save(replace(drafted, resources=drafted.resources[:4]))
        self.reported |= {(one.sop, one.sha256) for one in rests_on}

    @precondition(lambda self: any(worker.rests_on for worker in self.workers))
    @rule(which=st.integers(0, 2))
    def skip(self, which: int) -> None:
        def end(worker: Worker) -> None:
            rests_on = worker.rests_on or ()
            self.store.settle(settled(worker.claim, received=rests_on, completeness=completeness(self.uid)))
            self.skipped.update((one.sop, one.sha256) for one in rests_on)

        self.ended(which, end)

    @precondition(lambda self: any(worker.rests_on for worker in self.workers))
    @rule(which=st.integers(0, 2))
    def fail(self, which: int) -> None:
        def end(worker: Worker) -> None:
            soon = self.store.now()
            failed = settled(
                worker.claim, LedgerState.FAILED, next_attempt_at=soon, received=worker.rests_on or ()
            )
            self.store.settle(failed)

        self.ended(which, end)

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 2))
    def crash_while_drafting(self, which: int) -> None:
        self.workers.pop(which % len(self.workers))

    @precondition(lambda self: self.reported | self.skipped)
    @rule()
    def remove(self) -> None:
        remove_received(self.store, ARCHIVE, [self.uid])

    @precondition(lambda self: self.reported | self.skipped)
    @rule(before=st.booleans())
    def crash_while_removing(self, before: bool) -> None:
        def dies(path: Path) -> None:
            if before:
                raise Crash
            path.unlink(missing_ok=True)
            raise Crash

        with suppress(Crash):
            self.store.inbox.remove_released(dies, ARCHIVE, [self.uid])

    # -- the promise

    def settled(self) -> dict[tuple[str, str], str]:
        with psycopg.connect(libpq_url(self.url)) as connection:
            rows = connection.execute(
                "SELECT sop_instance_uid, sha256, settled_code FROM firstread.instance WHERE study_instance_uid = %s",
                [self.uid],
            ).fetchall()
        return {(sop, sha): code for sop, sha, code in rows}

    @invariant()
    def no_acknowledged_instance_is_lost(self) -> None:
        if not self.acknowledged:
            return
        settled = self.settled()
        for sop, sha in self.acknowledged:
            path = self.folder / "inbox" / self.uid / f"{sop}.dcm"
            on_disk = path.exists() and digest(path.read_bytes()) == sha
            named = (sop, sha) in self.reported | self.skipped
            assert on_disk or named, "acknowledged, and neither on the disk nor named by a stored outcome"
            code = settled[sop, sha]
            assert not code or named, f"settled as {code} by no outcome"

    def teardown(self) -> None:
        """Nothing more comes: every process is well from here on."""
        self.workers.clear()
        try:
            for _ in range(12):
                remove_received(self.store, ARCHIVE, [self.uid])
                self.hand_over()
                self.claim()
                if not self.workers:
                    break
                self.fetch(0)
                worker = self.workers.pop()
                assert worker.rests_on, "claimed, and nothing of it is here"
                self._save(worker)
            else:
                raise AssertionError("the study does not come to rest")
            assert self.acknowledged <= self.reported | self.skipped
            self.no_acknowledged_instance_is_lost()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("examples", [15])
def test_no_acknowledged_instance_is_lost_in_any_order(database_url: str, examples: int) -> None:
    with Store(database_url, settle_seconds=0.0) as store:

        def machine() -> Inbox:
            one = Inbox()
            one.store, one.url = store, database_url
            return one

        run_state_machine_as_test(
            cast(Any, machine),  # any maker of a machine will do
            settings=settings(
                max_examples=examples, stateful_step_count=30, deadline=None, derandomize=True, database=None,
                suppress_health_check=list(HealthCheck), phases=[Phase.generate],
            ),
        )  # fmt: skip
