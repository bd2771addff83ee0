"""What the web needs of the store, and what it tells the audit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from pipeline.ledger import StoredResource
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


class Reader(Protocol):
    """Stored resources and reports, read only. Methods may be called from several threads.

    All raise RetryLater("database-away") while the database cannot be reached.
    """

    def read(self, resource_type: str, resource_id: str) -> StoredResource | None:
        """The current version, or None where there never was one."""
        ...

    def vread(self, resource_type: str, resource_id: str, version_id: int) -> StoredResource | None:
        """One version, current or past, or None."""
        ...

    def history(self, wanted: HistorySearch) -> ResourcePage:
        """One page of versions. Raises ValueError for a page token that this store did not write."""
        ...

    def count_history(self, wanted: HistorySearch) -> int:
        """How many versions there are, whatever ``limit`` and ``after`` say."""
        ...

    def search(self, search: ResourceSearch) -> ResourcePage:
        """One page of matches. Raises ValueError for a page token that this store did not write."""
        ...

    def count(self, search: ResourceSearch) -> int:
        """How many resources match, whatever ``limit`` and ``after`` say."""
        ...

    def report_rows(self, limit: int, after: str = "", wanted: ReportFilter = EVERY_REPORT) -> ReportPage:
        """One page of reports for the list, of those that are wanted.

        Raises ValueError for a page token that this store did not write.
        """
        ...

    def report_detail(self, report_id: str, order: ListOrder = ListOrder.NEWEST) -> ReportDetail | None:
        """One report with its draft, checks, previews and versions, or None.

        The reports beside it are those of the list of all in ``order``.
        """
        ...

    def mask(self, sop_instance_uid: str) -> ReadMask | None:
        """A segmentation of ours by its UID, or None; none of a withdrawn report."""
        ...


class Interaction(StrEnum):
    """FHIR restful interactions that the web offers (http://hl7.org/fhir/restful-interaction)."""

    READ = "read"
    VREAD = "vread"
    HISTORY = "history-instance"
    HISTORY_OF_TYPE = "history-type"
    HISTORY_OF_ALL = "history-system"
    SEARCH = "search-type"
    EXPORT = "operation"


@dataclass(frozen=True, slots=True)
class Access:
    """One read or search, for the audit (BALP): who asked for what, when, and whose records were shown.

    ``query`` is the raw query string of a search or a history, never its results. ``patients`` are logical ids of the
    Patients whose resources were shown; the audit holds one event per patient. ``agent`` is the peer's
    network address, ``person`` whom a trusted proxy has signed in, or "".
    """

    interaction: Interaction
    resource_type: str
    resource_id: str
    query: str
    patients: tuple[str, ...]
    agent: str
    recorded: datetime
    succeeded: bool
    request_id: str
    person: str = ""


class DoorKind(StrEnum):
    """What happened at the door."""

    SIGNED_IN = "signed-in"
    SIGNED_OUT = "signed-out"
    WRONG_TOKEN = "wrong-token"  # noqa: S105 - no password
    WRONG_BEARER = "wrong-bearer"
    """A read that was refused for the token it brought."""
    FOREIGN_PEER = "foreign-peer"
    """Without a token only this machine is answered."""


@dataclass(frozen=True, slots=True)
class DoorEvent:
    """A sign-in or sign-out, or ``count`` refusals of one address, for the audit."""

    kind: DoorKind
    agent: str
    count: int
    recorded: datetime


Audit = Callable[[Sequence[Access | DoorEvent]], None]
"""Writes accesses and doors to the audit before the answer is sent; an answer that cannot be audited is not given."""
Clock = Callable[[], datetime]
"""The time now, with a zone."""
