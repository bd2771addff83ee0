"""Values of reading back what is stored: searches over FHIR resources, and rows for the review page.

``store`` answers them, ``web`` and the command line ask. Everything here is patient data.
"""

from dataclasses import dataclass
from datetime import date, datetime

from pipeline.ledger import Completeness, Preview, StoredResource
from pipeline.report import CheckOutcome, DraftReport
from pipeline.study import LeftOut


@dataclass(frozen=True, slots=True)
class IdentifierToken:
    """A FHIR token over ``identifier`` (R4 section 3.1.1.4.10): ``system|value``.

    ``system`` None accepts any system, "" accepts only identifiers without one. An empty ``value`` accepts
    every identifier of the system.
    """

    system: str | None
    value: str


@dataclass(frozen=True, slots=True)
class InstantRange:
    """``since <= instant < until``, either end open; ``outside`` turns it round (FHIR prefix ``ne``).

    Ends carry a zone.
    """

    since: datetime | None = None
    until: datetime | None = None
    outside: bool = False


@dataclass(frozen=True, slots=True)
class ResourceSearch:
    """Current resources of one type, newest first.

    Within one tuple of ids, patients, identifiers, studies or statuses any value matches (FHIR's comma); an
    empty tuple asks nothing. Every range in ``dates`` (effective time) and ``last_updated`` must hold.
    ``patients`` are logical ids of Patient resources, found in ``subject`` or ``patient``. ``studies`` are
    Study Instance UIDs. ``limit`` bounds one page; ``after`` is ``ResourcePage.next`` of the page before,
    or "".
    """

    resource_type: str
    ids: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    identifiers: tuple[IdentifierToken, ...] = ()
    studies: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    dates: tuple[InstantRange, ...] = ()
    last_updated: tuple[InstantRange, ...] = ()
    limit: int = 50
    after: str = ""


@dataclass(frozen=True, slots=True)
class ResourcePage:
    """One page of a search; ``next`` is an opaque token for the following page, or "" on the last one.

    The order (last change, then id, both descending) and the token are stable under new writes: paging
    neither repeats a resource nor skips one that did not change meanwhile.
    """

    resources: tuple[StoredResource, ...]
    next: str = ""


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One report in the list of the review page.

    ``patient`` is the logical id of the Patient resource, for the audit. ``warnings`` counts checks that
    did not pass, ``gap`` the announced instances that were not held.
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


@dataclass(frozen=True, slots=True)
class ReportPage:
    """One page of reports, newest first; ``next`` is an opaque token, or "" on the last page."""

    rows: tuple[ReportRow, ...]
    next: str = ""


@dataclass(frozen=True, slots=True)
class ReportVersion:
    """One stored version of a report."""

    version: int
    status: str
    created_at: datetime
    model_id: str


@dataclass(frozen=True, slots=True)
class ReportDetail:
    """All that the review page shows of one report.

    Its current version, and the versions before, newest first.
    """

    row: ReportRow
    draft: DraftReport
    checks: tuple[CheckOutcome, ...]
    left_out: tuple[LeftOut, ...]
    completeness: Completeness
    previews: tuple[Preview, ...]
    versions: tuple[ReportVersion, ...]
