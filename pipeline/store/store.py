"""The store: everything Firstread keeps in Postgres, behind one class that threads share.

Each call is its own transaction, but for ``settle_many``, which has one for each study. A call survives a restart of
the server: it tries again for ``patience_seconds`` and then raises RetryLater("database-away"). What a repeated call
could do twice is made harmless by fencing tokens, call numbers and deterministic ids.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

from pipeline.errors import FirstreadError
from pipeline.ledger import (
    Claim,
    Completeness,
    LedgerState,
    ReportOutcome,
    SettledOutcome,
    StoredResource,
    WorkFilter,
)
from pipeline.lookup import (
    EVERY_REPORT,
    HistorySearch,
    ListOrder,
    ReadMask,
    ReportDetail,
    ReportFilter,
    ReportPage,
    ResourcePage,
    ResourceSearch,
)
from pipeline.store import audit, claims, histories, listing, outcomes, reading, searching
from pipeline.store.connections import MACHINE, VIEWER, Connection, Connections
from pipeline.store.failures import Failures
from pipeline.store.inbox import Inbox
from pipeline.store.knowledge_base import KnowledgeBase
from pipeline.store.presence import LOCK_CLASS, Presence
from pipeline.store.rights import excess_rights
from pipeline.store.schema_revision import require_revision
from pipeline.store.standing import StandingDrafts
from pipeline.store.statements import statement
from pipeline.store.sweeps import Sweeps
from pipeline.store.values import (
    AuditVerdict,
    ChainHead,
    FoundCounts,
    Processes,
    SavedVersion,
    SettledStudy,
    StatusCount,
    StatusFilter,
    StatusRow,
    StoredDraft,
    StudyRow,
)
from pipeline.study import FoundStudy

Answer = TypeVar("Answer")

RESTART_SETTLE_SECONDS = 15.0


class Store:
    """The database at ``url``; a context manager.

    ``revision`` is the schema's revision that this program needs ("" asks for none): another one is StopRun on entry.
    ``settle_seconds`` is how long after a restart of the server other processes may take to show that they live.
    """

    def __init__(
        self,
        url: str,
        *,
        revision: str = "",
        owner: str = "",
        role: str = MACHINE,
        most_connections: int = 8,
        patience_seconds: float = 60.0,
        connect_seconds: int = 10,
        settle_seconds: float = RESTART_SETTLE_SECONDS,
    ) -> None:
        self._connections = Connections(
            url,
            name=f"firstread {owner}".strip(),
            role=role,
            most=most_connections,
            patience_seconds=patience_seconds,
            connect_seconds=connect_seconds,
        )
        self._presence = Presence(self._connections)
        self.sweeps = Sweeps(self._connections)
        self.inbox = Inbox(self._connections)
        self.knowledge = KnowledgeBase(self._connections)
        self.failures = Failures(self._connections)
        self.standing = StandingDrafts(self._connections)
        self._revision = revision
        self._settle_seconds = settle_seconds

    def __enter__(self) -> Self:
        try:
            if self._revision:
                self._run(lambda c: require_revision(c, self._revision))
        except BaseException:
            self._connections.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._presence.close()
        self._connections.close()

    # -- discovering

    def record_found(self, archive: str, recipe: str, found: Sequence[FoundStudy]) -> FoundCounts:
        """Write a page of found studies as work.

        A known study whose demographics or announced count changed goes back to ``discovered``, at once when it
        rests, else when its claim ends; others stay as they are. Give pages of hundreds, not single studies.
        """
        return self._run(lambda c: claims.record_found(c, archive, recipe, found))

    def needs_listing(
        self, archive: str, recipe: str, found: Sequence[FoundStudy]
    ) -> tuple[SettledStudy, ...]:
        """Those of ``found`` that rest and whose archive announces no counts, or whose study date is of the last days:
        a film that was replaced leaves the count as it is. List their instances, then ``record_announced``."""
        uids = [study.study_instance_uid for study in found]
        return self._run(lambda c: claims.resting_among(c, archive, recipe, uids)) if uids else ()

    def record_announced(self, ledger_id: int, announced_digest: str, count: int) -> bool:
        """Note the image-level list; True when it changed, and the study is to be done again."""
        return self._run(lambda c: claims.record_announced(c, ledger_id, announced_digest, count))

    def ledger_ids(self, archive: str, recipe: str, study_instance_uids: Sequence[str]) -> tuple[int, ...]:
        """The ledger rows of these studies; studies that are not known are left out."""
        values = {"archive": archive, "recipe": recipe, "uids": list(study_instance_uids)}
        rows = self._run(lambda c: c.execute(statement("ledger", "ledger_ids"), values).fetchall())
        return tuple(ledger_id for (ledger_id,) in rows)

    # -- claiming

    def claim(
        self,
        recipe: str,
        wanted: WorkFilter = WorkFilter(),  # noqa: B008 - frozen
        *,
        owner: str,
        limit: int,
        lease_seconds: float,
    ) -> list[Claim]:
        """Claim up to ``limit`` rows, oldest first, and move them to ``retrieving``.

        Claimable are discovered rows, failed ones whose time has come, and rows whose lease ran out or whose process is
        gone, of those that ``wanted`` names. No row is ever given to two callers.
        """
        call, tries = uuid.uuid4(), 0

        def work(connection: Connection) -> list[Claim]:
            nonlocal tries
            tries += 1
            return claims.claim(
                connection, call, self._presence.hold(), self._settle_seconds, wanted, recipe=recipe, owner=owner,
                limit=limit, lease_seconds=lease_seconds, again=tries > 1,
            )  # fmt: skip

        return self._run(work)

    def suspects(self, recipe: str, wanted: WorkFilter) -> tuple[int, ...]:
        """Rows over which a process died, those first that died least; claim each with ``alone``. Rows that another
        process works on now are among them, and ``claim`` does not give them.
        """
        return self._run(lambda c: claims.suspects(c, recipe, wanted))

    def note_work(self, begun: Sequence[Claim], ended: Sequence[Claim] = ()) -> None:
        """Note which claims are worked on from now on and which no longer, for whoever finds this process dead."""
        self._run(lambda c: claims.note_work(c, begun, ended))

    def renew(self, held: Sequence[Claim], lease_seconds: float) -> tuple[Claim, ...]:
        """Extend the leases; returns the claims that were lost. Call it at least three times a lease."""
        return self._run(lambda c: claims.renew(c, held, self._presence.hold(), lease_seconds))

    def advance(self, held: Sequence[Claim], state: LedgerState) -> tuple[Claim, ...]:
        """Move claims on (``complete``, ``drafted``); returns the claims that were lost."""
        return self._run(lambda c: claims.advance(c, held, state))

    def record_complete(self, held: Claim, completeness: Completeness) -> None:
        """Move one claim to ``complete`` with what is held and what is missing. Raises LostClaim."""
        self._run(lambda c: claims.record_complete(c, held, completeness))

    def release(self, held: Sequence[Claim]) -> tuple[Claim, ...]:
        """Give claims back untouched, their attempt not counted; returns those that were lost."""
        return self._run(lambda c: claims.release(c, held))

    def processes(self) -> Processes:
        """Who works on this ledger; this process shows that it lives from now on."""

        def work(connection: Connection) -> Processes:
            ours = self._presence.hold()
            row = connection.execute(statement("ledger", "processes"), {"class": LOCK_CLASS}).fetchone()
            assert row is not None
            ledger, living = row
            return Processes(ledger, ours, frozenset(living) | {ours})

        return self._run(work)

    def until_free(self) -> float:
        """Seconds until claims of dead processes can be had: a server that has just started holds them back."""
        values = {"settle": self._settle_seconds, "living": list(self.processes().living)}
        row = self._run(lambda c: c.execute(statement("ledger", "until_free"), values).fetchone())
        return row[0] if row is not None else 0.0

    def now(self) -> datetime:
        """The server's clock, by which leases and retries are told."""
        row = self._run(lambda c: c.execute(statement("ledger", "now")).fetchone())
        assert row is not None
        moment: datetime = row[0]
        return moment

    def wait_for_work(self, seconds: float) -> bool:
        """Sleep until a row becomes ``discovered``, at most ``seconds``; True when one did."""

        def work(connection: Connection) -> bool:
            connection.execute("LISTEN firstread_work")
            try:
                return any(True for _ in connection.notifies(timeout=seconds, stop_after=1))
            finally:
                if not connection.closed:
                    connection.execute("UNLISTEN firstread_work")

        return self._run(work)

    def rested(self, tokens: Mapping[int, int]) -> tuple[LedgerState, ...]:
        """The states of those rows, of those named, that rest since the claim with this token and no later one."""
        return self._run(lambda c: claims.rested(c, tokens)) if tokens else ()

    # -- outcomes

    def save(self, outcome: ReportOutcome) -> SavedVersion:
        """Store one drafted study: ledger, resources, report, previews and audit in one transaction.

        Saving the same outcome again gives the same version. Raises LostClaim, FailStudy("report-signed") when a person
        has taken over the report, FailStudy("store-refused" or "not-storable").
        """
        saved = self.save_many([outcome])[0]
        if isinstance(saved, Exception):
            raise saved
        return saved

    def save_many(self, many: Sequence[ReportOutcome]) -> list[SavedVersion | FirstreadError]:
        """``save`` each; returns each one's version or error, in order, once all are durable.

        Several are one transaction where none of them is refused, else each is one of its own.

        Raises RetryLater and StopRun for what is wrong with the database itself.
        """
        return self._run(lambda c: outcomes.each(c, many, outcomes.SAVING))

    def settle(self, outcome: SettledOutcome) -> None:
        """Record that a study ends without a new report, with its audit, in one transaction. Raises LostClaim."""
        refused = self.settle_many([outcome])[0]
        if refused is not None:
            raise refused

    def settle_many(self, many: Sequence[SettledOutcome]) -> list[FirstreadError | None]:
        """``settle`` each in its own transaction; returns None or the error of each, in order."""
        return self._run(lambda c: outcomes.each(c, many, outcomes.SETTLING))

    # -- the audit

    def append_audit(self, events: Sequence[Mapping[str, Any]], chain: str = audit.ACCESS_CHAIN) -> None:
        """Append AuditEvents that belong to no study's transaction (reads, searches, starts)."""
        if events:
            self._run(lambda c: audit.append(c, chain, events, viewing=self._connections.role == VIEWER))

    def excess_rights(self) -> tuple[str, ...]:
        """In words, what the login in use may do and need not."""
        return self._run(lambda c: excess_rights(c, self._connections.role))

    def audit_verify(self, *, content: bool = False, noted: Sequence[ChainHead] = ()) -> AuditVerdict:
        """Prove every audit chain and name the first broken row.

        ``content`` proves the report rows against the digests in their events, ``noted`` are heads kept elsewhere.
        """
        return self._run(lambda c: audit.verify(c, content=content, noted=noted))

    def audit_export(self, out: BinaryIO) -> int:
        """Write the audit as JSON lines; returns the number of rows. Not repeated when the database goes away."""
        with self._connections.borrow() as connection:
            return audit.export(connection, out)

    # -- reading

    def read(self, resource_type: str, resource_id: str) -> StoredResource | None:
        """The current version of a FHIR resource, or None."""
        return self._run(lambda c: reading.read(c, resource_type, resource_id))

    def vread(self, resource_type: str, resource_id: str, version_id: int) -> StoredResource | None:
        """One version of a FHIR resource, or None."""
        return self._run(lambda c: reading.vread(c, resource_type, resource_id, version_id))

    def history(self, wanted: HistorySearch) -> ResourcePage:
        """One page of versions, the last written first. Raises ValueError for a foreign page token."""
        return self._run(lambda c: histories.history(c, wanted))

    def count_history(self, wanted: HistorySearch) -> int:
        """How many versions there are, whatever ``limit`` and ``after`` say."""
        return self._run(lambda c: histories.count_history(c, wanted))

    def search(self, search: ResourceSearch) -> ResourcePage:
        """One page of matches. Raises ValueError for a page token that this store did not write."""
        return self._run(lambda c: searching.search(c, search))

    def count(self, search: ResourceSearch) -> int:
        """How many resources match, whatever ``limit`` and ``after`` say."""
        return self._run(lambda c: searching.count(c, search))

    def report_rows(self, limit: int, after: str = "", wanted: ReportFilter = EVERY_REPORT) -> ReportPage:
        """One page of reports in the order that is wanted. Raises ValueError for a foreign page token."""
        return self._run(lambda c: listing.report_rows(c, limit, after, wanted))

    def report_detail(self, report_id: str, order: ListOrder = ListOrder.NEWEST) -> ReportDetail | None:
        """One report with its draft, checks, previews and versions, or None."""
        return self._run(lambda c: reading.report_detail(c, report_id, order))

    def mask(self, sop_instance_uid: str) -> ReadMask | None:
        """A segmentation of ours by its UID, or None; none of a withdrawn report."""
        return self._run(lambda c: reading.mask(c, sop_instance_uid))

    def masks_of(self, report_id: str, version: int) -> tuple[tuple[str, bytes], ...]:
        """The segmentations that a version of a report names, each with its SOP Instance UID."""
        return self._run(lambda c: reading.masks_of(c, report_id, version))

    def studies(self, archive: str | None = None, *, limit: int = 100) -> tuple[StudyRow, ...]:
        """Ledger rows, newest first."""
        return self._run(lambda c: reading.studies(c, archive, None, limit))

    def study(self, ledger_id: int) -> StudyRow | None:
        """One ledger row, or None."""
        rows = self._run(lambda c: reading.studies(c, None, [ledger_id], 1))
        return rows[0] if rows else None

    def status_counts(self, wanted: StatusFilter = StatusFilter()) -> tuple[StatusCount, ...]:  # noqa: B008 - frozen
        """How many studies of each archive stand in each state, and why."""
        return self._run(lambda c: reading.status_counts(c, wanted))

    def status_rows(self, wanted: StatusFilter) -> tuple[StatusRow, ...]:
        """Ledger rows, last changed first."""
        return self._run(lambda c: reading.status_rows(c, wanted))

    def drafts_page(
        self,
        archive: str | None = None,
        *,
        since: date | None = None,
        until: date | None = None,
        after: str = "",
        limit: int = 200,
    ) -> tuple[StoredDraft, ...]:
        """Reports in force in the order of their ids, those behind ``after``; dates are StudyDates, inclusive."""
        return self._run(lambda c: reading.drafts_page(c, archive, since, until, after, limit))

    def _run(self, work: Callable[[Connection], Answer]) -> Answer:
        return self._connections.run(work)
