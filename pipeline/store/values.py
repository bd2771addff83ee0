"""Values that the store gives back, beside those of ``pipeline.ledger`` and ``pipeline.lookup``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from pipeline.ledger import Circumstances, LedgerState


@dataclass(frozen=True, slots=True)
class FoundCounts:
    """What recording a page of found studies came to; ``ledger_ids_to_do`` are its rows that do not rest.

    ``failed`` rows were known, are as they were, and failed: for good, or waiting for their next attempt. They are not
    in ``unchanged``.
    """

    new: int
    changed: int
    unchanged: int
    ledger_ids_to_do: tuple[int, ...]
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Processes:
    """Who works on a ledger: ``ledger`` tells it from others (hex), ``ours`` is our number, ``living`` all of them."""

    ledger: str
    ours: int
    living: frozenset[int]


@dataclass(frozen=True, slots=True)
class SettledStudy:
    """A study at rest in an archive that announces no counts: only its image-level list tells whether it changed."""

    ledger_id: int
    study_instance_uid: str


@dataclass(frozen=True, slots=True)
class SettledFilter:
    """Which rows at rest: all conditions hold, an empty or missing one asks nothing. Dates are StudyDates, inclusive.

    Without a ``recipe`` it is the one in force for each study. ``hidden`` asks for drafts of the machine that another
    recipe's draft hides, ``standing`` for rows whose draft is the current one, whatever the recipe.
    """

    states: tuple[LedgerState, ...] = (LedgerState.FAILED,)
    archive: str | None = None
    recipe: str | None = None
    study_instance_uids: tuple[str, ...] = ()
    ledger_ids: tuple[int, ...] | None = None
    codes: tuple[str, ...] = ()
    since: date | None = None
    until: date | None = None
    hidden: bool = False
    standing: bool = False


@dataclass(frozen=True, slots=True)
class SettledRow:
    """A row at rest, with its report's Patient and status where there is one. Patient data."""

    ledger_id: int
    archive: str
    study_instance_uid: str
    state: LedgerState
    code: str
    reason: str
    next_attempt_at: datetime | None
    failed_at: datetime | None
    failed_under: Circumstances
    stands: bool
    report_id: str
    patient: str


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The report of the same study that stands from another archive, and how many films it was judged on."""

    archive: str
    ledger_id: int
    films: int


@dataclass(frozen=True, slots=True)
class SavedVersion:
    """A stored report: ``version`` is that of its DiagnosticReport."""

    ledger_id: int
    report_id: str
    version: int


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One ledger row, with the text of its latest report where it has one. Patient data."""

    ledger_id: int
    archive: str
    study_instance_uid: str
    recipe: str
    state: LedgerState
    code: str
    reason: str
    attempts: int
    next_attempt_at: datetime | None
    study_date: date | None
    accession_number: str
    announced: int | None
    held: int | None
    report_id: str
    report_version: int | None
    findings: str
    impression: str
    updated_at: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", LedgerState(self.state))


@dataclass(frozen=True, slots=True)
class StatusFilter:
    """Which ledger rows: all conditions hold, an empty or missing one asks nothing. Dates are StudyDates, inclusive.

    ``older`` asks for rows of recipes that are no longer in force too; counts have both.
    """

    archive: str | None = None
    states: tuple[LedgerState, ...] = ()
    codes: tuple[str, ...] = ()
    study_instance_uids: tuple[str, ...] = ()
    accession_numbers: tuple[str, ...] = ()
    since: date | None = None
    until: date | None = None
    older: bool = False


@dataclass(frozen=True, slots=True)
class StatusCount:
    """How many studies of an archive stand in a state, by the recipe in force; ``older`` rows are of former recipes.

    ``code`` is why they were skipped or failed, else "".
    """

    archive: str
    state: LedgerState
    studies: int
    older: int = 0
    code: str = ""


@dataclass(frozen=True, slots=True)
class StatusRow:
    """One ledger row as ``firstread status`` lists it. Patient data: the UID and the accession number."""

    ledger_id: int
    archive: str
    study_instance_uid: str
    accession_number: str
    study_date: date | None
    state: LedgerState
    code: str
    reason: str
    attempts: int
    next_attempt_at: datetime | None
    updated_at: datetime
    in_force: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", LedgerState(self.state))


@dataclass(frozen=True, slots=True)
class StoredDraft:
    """The report of one study that is in force, with its statements and the body of its Patient. Patient data.

    ``found`` are the rows of the view ``findings``: kind, side, present, confidence, box and so on.
    """

    report_id: str
    ledger_id: int
    archive: str
    study_instance_uid: str
    accession_number: str
    study_date: date | None
    modalities: tuple[str, ...]
    status: str
    written_by: str
    language: str
    model_id: str
    recipe: str
    version: int
    created_at: datetime
    findings: str
    impression: str
    patient: Mapping[str, Any]
    found: tuple[Mapping[str, Any], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "modalities", tuple(self.modalities))
        object.__setattr__(self, "found", tuple(self.found))


@dataclass(frozen=True, slots=True)
class Received:
    """What became of one received instance: ``conflict`` where its UID had come before with other bytes."""

    sop_instance_uid: str
    duplicate: bool
    conflict: bool


@dataclass(frozen=True, slots=True)
class ReceivedOrigin:
    """One instance in the inbox and where it came from; ``peer`` is "AE title@address" as it was called from there.

    ``unsettled``: no outcome names its bytes yet.
    """

    sop_instance_uid: str
    sha256: str
    peer: str
    received_at: datetime
    unsettled: bool


@dataclass(frozen=True, slots=True)
class QuietStudy:
    """A study of which nothing has come for a while; ``newest`` is when its last instance came."""

    archive: str
    study_instance_uid: str
    instances: int
    newest: datetime


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The end of one audit chain; noted outside the database it proves later that no row before it was removed."""

    chain: str
    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """Whether the audit is whole. ``first_broken`` is the ``seq`` of the first row that is not as it was written.

    It is None where the chain is whole, and where everything of a chain was removed (``reason`` says so).
    """

    ok: bool
    rows: int
    first_broken: int | None
    reason: str
    heads: tuple[ChainHead, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class SweepBegun:
    """A sweep of an archive as it begins: study dates asked for, both inclusive, None without that bound.

    ``onward``: it goes on from what was covered before. ``whole_until`` is the last asked day that is over, in the
    archive's time zone, so that nothing new can be dated on it or before. ``undated``: it asks for studies without a
    date, too.
    """

    archive: str
    recipe: str
    since: date | None
    until: date | None
    onward: bool
    whole_until: date
    begun_at: datetime
    undated: bool = False


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """What became no study: by the last search of an archive ("search"), or by the listener, with who sent it.

    ``last_at`` is when it was last so; ``source`` is a search, or AE title and address of a sender.
    """

    archive: str
    source: str
    reason: str
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Pause:
    """A stop by hand: since when, by whom and why."""

    paused_at: datetime
    paused_by: str
    reason: str
