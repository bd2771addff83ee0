"""Values of reading back what is stored: searches over FHIR resources, and rows for the review page.

``store`` answers them, ``web`` and the command line ask. Everything here is patient data.
"""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Final

from pipeline.ledger import Completeness, Preview, StoredResource
from pipeline.report import CheckOutcome, DraftReport
from pipeline.study import LeftOut


@dataclass(frozen=True, slots=True)
class Token:
    """A FHIR token (R4 section 3.1.1.4.10): ``system|value``.

    ``system`` None accepts any system, "" accepts only those without one. An empty ``value`` accepts everything of the
    system.
    """

    system: str | None
    value: str


class Prefix(StrEnum):
    """How a date is compared with the range that a value names (R4 section 3.1.1.4.6)."""

    EQUAL = "eq"
    NOT_EQUAL = "ne"
    GREATER = "gt"
    LESS = "lt"
    GREATER_OR_EQUAL = "ge"
    LESS_OR_EQUAL = "le"
    STARTS_AFTER = "sa"
    ENDS_BEFORE = "eb"
    APPROXIMATELY = "ap"


@dataclass(frozen=True, slots=True)
class IdIn:
    """The logical id is one of ``ids``."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PatientIn:
    """``subject`` or ``patient`` is one of these Patients, given by logical id."""

    patients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenIn:
    """One of ``tokens`` matches ``parameter``: identifier, code, category, modality or gender."""

    parameter: str
    tokens: tuple[Token, ...]


class NameMatch(StrEnum):
    """How a text is found (R4 section 3.1.1.4.8): at the beginning or anywhere, both without regard to case and
    accents, or letter by letter.
    """

    STARTS = "starts"
    CONTAINS = "contains"
    EXACT = "exact"


@dataclass(frozen=True, slots=True)
class NameIs:
    """A part of a Patient's name begins with, holds or is one of ``texts``.

    ``part`` is family, given, or name, which is any part and any word of the whole name.
    """

    part: str
    texts: tuple[str, ...]
    match: NameMatch = NameMatch.STARTS


@dataclass(frozen=True, slots=True)
class StudyIn:
    """It belongs to the study of one of these Study Instance UIDs."""

    uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StatusIn:
    """``status`` is one of ``codes``."""

    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TargetIn:
    """A Provenance that speaks of any version of one of ``references``, each as "Type/id"."""

    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DateIs:
    """A date compared with ``start <= instant < end``.

    The date is when the resource last changed if ``changed``, when it was issued if ``issued``, else the one by which
    its type is searched: effective time, start of the study, birth date, or when a Provenance was recorded. It is a
    range too, as exact as it is written. ``start`` and ``end`` without a zone are compared with what the clock on the
    wall said, and with a zone as instants (R4 section 3.1.1.4.6). Undated resources never match.
    """

    prefix: Prefix
    start: datetime
    end: datetime
    changed: bool = False
    issued: bool = False


@dataclass(frozen=True, slots=True)
class IsMissing:
    """The resource has no value of ``parameter``; any value where ``missing`` is False (R4 section 3.1.1.4.5)."""

    parameter: str
    missing: bool


@dataclass(frozen=True, slots=True)
class IsNot:
    """``criterion`` is not met; a resource without a value does not meet it (R4 section 3.1.1.4.10)."""

    criterion: "IdIn | TokenIn | StudyIn | StatusIn"


Criterion = IdIn | PatientIn | TokenIn | NameIs | StudyIn | StatusIn | TargetIn | DateIs | IsMissing | IsNot
"""What a resource must meet. One that names no alternative is met by nothing."""


class Order(StrEnum):
    """By what a search is ordered; undated resources count as the oldest."""

    CHANGED = "changed"
    DATED = "dated"
    ID = "id"


@dataclass(frozen=True, slots=True)
class SortKey:
    """One key of an order, the latest first unless ``ascending``."""

    order: Order = Order.CHANGED
    ascending: bool = False


LAST_PAGE: Final = "b."
"""The token of the last page of every search."""


@dataclass(frozen=True, slots=True)
class ResourceSearch:
    """Current resources of one type that meet all ``criteria``, in the order of ``keys``, then by id as the last key.

    ``limit`` bounds one page; ``page`` is ``next`` or ``previous`` of another, ``LAST_PAGE``, or "" for the first.
    """

    resource_type: str
    criteria: tuple[Criterion, ...] = ()
    keys: tuple[SortKey, ...] = (SortKey(),)
    limit: int = 50
    page: str = ""


@dataclass(frozen=True, slots=True)
class ResourcePage:
    """One page of a search; ``next`` is an opaque token for the following page, or "" on the last one.

    ``previous`` is that of the page before, "" on the first one; histories have none. Order and tokens are stable under
    new writes: paging neither repeats a resource nor skips one that did not change meanwhile.
    """

    resources: tuple[StoredResource, ...]
    next: str = ""
    previous: str = ""


@dataclass(frozen=True, slots=True)
class HistorySearch:
    """Versions, the last written first: of one resource, of a type (``resource_id`` is ""), or of ``resource_types``.

    ``since`` keeps those written at that instant or later. ``limit`` bounds one page; ``after`` is
    ``ResourcePage.next`` of the page before, or "".
    """

    resource_types: tuple[str, ...]
    resource_id: str = ""
    since: datetime | None = None
    limit: int = 50
    after: str = ""


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One report in the list of the review page.

    ``patient`` is the logical id of the Patient resource, for the audit. ``warnings`` counts checks that
    did not pass, ``gap`` the announced instances that were not held. ``sex`` and ``birth_date`` are those of the FHIR
    Patient, as written there; "" where it has none. ``critical``: the draft states a finding that cannot wait
    (``report_version.critical``), and no person has taken it over. ``changed_since``: a person has, and the study has
    changed since.
    """

    report_id: str
    patient: str
    patient_name: str
    patient_id: str
    accession_number: str
    study_instance_uid: str
    study_date: date | None
    status: str
    language: str
    model_id: str
    version: int
    created_at: datetime
    warnings: int = 0
    gap: int = 0
    archive: str = ""
    impression: str = ""
    sex: str = ""
    birth_date: str = ""
    critical: bool = False
    changed_since: bool = False


class ListOrder(StrEnum):
    """In which order the list shows reports.

    ``NEWEST``: the last written first. ``CRITICAL``: drafts that state a critical finding before all others, the last
    written first among them and among the others.
    """

    CRITICAL = "critical"
    NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class ReportFilter:
    """Which reports the list shows, in which order: all that are in force, but for what is named here.

    ``text`` is a part of the patient's name or number or of the accession number, without regard to case. ``attention``
    asks for reports with remarks of checks, missing instances, or a study that has changed since it was signed alone.
    """

    text: str = ""
    study_date: date | None = None
    status: str = ""
    attention: bool = False
    order: ListOrder = ListOrder.NEWEST


EVERY_REPORT = ReportFilter()
"""The list as it is without a search."""


@dataclass(frozen=True, slots=True)
class ReportPage:
    """One page of reports; ``next`` is an opaque token, or "" on the last page."""

    rows: tuple[ReportRow, ...]
    next: str = ""


@dataclass(frozen=True, slots=True)
class FailedStudy:
    """A study that no draft could be made of, as the review page lists it.

    ``reason`` is the error in words, ``attempts`` how often it was tried, ``failed_at`` when it last failed.
    ``next_attempt_at`` is when it is tried again by itself; None where it rests. ``signed``: a person has taken over a
    report of it. ``report_id`` is an earlier draft of it that stands, ``patient`` the logical id of its Patient; both
    are "" where there is none.
    """

    ledger_id: int
    archive: str
    study_instance_uid: str
    accession_number: str
    study_date: date | None
    code: str
    reason: str
    attempts: int
    failed_at: datetime
    next_attempt_at: datetime | None
    signed: bool = False
    report_id: str = ""
    patient: str = ""


@dataclass(frozen=True, slots=True)
class FailedPage:
    """One page of studies that failed; ``next`` is an opaque token, or "" on the last page."""

    studies: tuple[FailedStudy, ...]
    next: str = ""


@dataclass(frozen=True, slots=True)
class ReportVersion:
    """One stored version of a report; the texts are "" where no model wrote it, or where it withdrew another."""

    version: int
    status: str
    created_at: datetime
    model_id: str
    findings: str = ""
    impression: str = ""


@dataclass(frozen=True, slots=True)
class EarlierStudy:
    """The report in force of the study that a draft compares with, of the same patient, and its pictures."""

    report_id: str
    study_date: date | None
    previews: tuple[Preview, ...]


@dataclass(frozen=True, slots=True)
class ReadMask:
    """A segmentation of ours as a DICOM file, with the report that names it and the Patient whose it is."""

    content: bytes
    report_id: str
    patient: str


@dataclass(frozen=True, slots=True)
class ReportDetail:
    """All that the review page shows of one report.

    Its current version, and the versions before, newest first. ``newer`` and ``older`` are the reports above and below
    it in the list of all, "" at its ends.
    """

    row: ReportRow
    draft: DraftReport
    checks: tuple[CheckOutcome, ...]
    left_out: tuple[LeftOut, ...]
    completeness: Completeness
    previews: tuple[Preview, ...]
    versions: tuple[ReportVersion, ...]
    newer: str = ""
    older: str = ""
    earlier: EarlierStudy | None = None
