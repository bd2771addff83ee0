"""Values of the ledger: states, claims, and the outcome of one study's work. Values only; ``store`` writes them.

Per (archive, study, recipe) one row: discovered -> retrieving -> complete -> drafted -> reported, or skipped, or
failed with an error code, attempts and the time of the next one (docs/design.md#the-ledger).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from pipeline.report import CheckOutcome, DraftReport
from pipeline.study import DamagedInstance, InstanceRef, LeftOut


class LedgerState(StrEnum):
    """Where a study stands. The last three rest; the others are on their way and held under a lease."""

    DISCOVERED = "discovered"
    RETRIEVING = "retrieving"
    COMPLETE = "complete"
    DRAFTED = "drafted"
    REPORTED = "reported"
    SKIPPED = "skipped"
    FAILED = "failed"


SETTLED = (LedgerState.FAILED, LedgerState.SKIPPED, LedgerState.REPORTED)
"""The states in which a study has stopped; what a person looks at first stands first."""


@dataclass(frozen=True, slots=True)
class WorkFilter:
    """Which ledger rows to work on: of one archive, within study dates (both inclusive), or named by ledger id.

    ``received`` are those of studies that were pushed and handed over, of which something lies in the inbox. What
    failed after ``begun`` (the server's time) waits for another run. ``alone``: rows over which a process died instead
    of all others; to be claimed one by one, with nothing else in work.
    """

    archive: str | None = None
    since: date | None = None
    until: date | None = None
    ledger_ids: tuple[int, ...] | None = None
    begun: datetime | None = None
    alone: bool = False
    received: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on one study until ``expires_at``; ``token`` fences off every older claim of the row.

    ``reported_manifest`` is the manifest digest of the last stored report for this recipe, or "". ``attempts`` counts
    this one. ``first_short_at`` is when the study was first found short of instances, or None. ``reported_films`` is
    the digest of the films that report was judged on; ``again`` says that a person wants a new draft though nothing
    changed; ``elsewhere`` that a report of the same Study Instance UID from another archive stands. ``modalities`` is
    Modalities in Study as the archive told it. ``deaths`` counts processes that died while they worked on it,
    ``patients`` under how many patients the archive lists it.
    """

    ledger_id: int
    archive: str
    study_instance_uid: str
    recipe: str
    owner: str
    token: int
    attempts: int
    expires_at: datetime
    reported_manifest: str = ""
    first_short_at: datetime | None = None
    reported_films: str = ""
    again: bool = False
    elsewhere: bool = False
    modalities: tuple[str, ...] = ()
    deaths: int = 0
    patients: int = 1


@dataclass(frozen=True, slots=True)
class Completeness:
    """Instances announced against instances held, as they were when the study was drafted.

    ``films`` counts the instances that a model may see, ``films_digest`` is over them, the patient and the order: as
    long as it stays, no new draft is due, whatever else is filed in the study. "" where it was not looked at.
    """

    announced: int
    held: int
    missing: tuple[str, ...]
    manifest_digest: str
    announced_digest: str
    damaged: tuple[DamagedInstance, ...] = ()
    films: int = 0
    films_digest: str = ""


@dataclass(frozen=True, slots=True)
class UsedInstance:
    """An instance that an outcome rests on, by digest; ``announced`` says that the archive itself has it."""

    sop: str
    sha256: str
    announced: bool


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Digests of the program and of the settings outside the recipe: a failure under others may be mended by them."""

    program: str = ""
    settings: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """One FHIR resource to be PUT: ``body`` holds ``resourceType`` and ``id``; the store adds meta.versionId and
    lastUpdated.
    """

    resource_type: str
    resource_id: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Preview:
    """A small picture of a frame the model saw, for the review page: JPEG bytes, and the stored image's own size.

    ``overlay`` is a PNG with clear ground of the outlines that a segmentation has there, b"" where it has none.
    """

    ref: InstanceRef
    frame: int
    jpeg: bytes
    original_rows: int
    original_columns: int
    overlay: bytes = b""


@dataclass(frozen=True, slots=True)
class StoredMask:
    """A Segmentation of ours as a DICOM file, kept with the report that names it."""

    ref: InstanceRef
    sop_class_uid: str
    content: bytes


@dataclass(frozen=True, slots=True)
class ReportOutcome:
    """All that one drafted study leaves behind; committed in one transaction.

    ``audit`` holds FHIR AuditEvent bodies in the order in which they are chained; the store writes into the last what
    was written, by version and digest. ``received`` names what of the inbox the draft rests on. ``patient_key`` tells
    the patient's number and issuer, digested; "" where the headers name none.
    """

    claim: Claim
    draft: DraftReport
    checks: tuple[CheckOutcome, ...]
    left_out: tuple[LeftOut, ...]
    completeness: Completeness
    accession_number: str
    diagnostic_report_id: str
    status: str
    resources: tuple[Resource, ...]
    previews: tuple[Preview, ...]
    audit: tuple[Mapping[str, Any], ...]
    received: tuple[UsedInstance, ...] = ()
    patient_key: str = ""
    masks: tuple[StoredMask, ...] = ()


@dataclass(frozen=True, slots=True)
class SettledOutcome:
    """A study that comes to rest without a new report: skipped, failed, or unchanged since its last report.

    ``next_attempt_at`` is set for a failure that will be tried again. ``code`` and ``message`` hold no patient data.
    ``received`` names what of the inbox was looked at; a failure leaves the inbox as it is. A study that is skipped by
    what was held (``completeness``) has its earlier draft withdrawn.
    """

    claim: Claim
    state: LedgerState
    code: str
    message: str
    next_attempt_at: datetime | None
    completeness: Completeness | None
    audit: tuple[Mapping[str, Any], ...]
    left_out: tuple[LeftOut, ...] = ()
    received: tuple[UsedInstance, ...] = ()
    circumstances: Circumstances = Circumstances()


@dataclass(frozen=True, slots=True)
class StoredResource:
    """A FHIR resource as read back: ``body`` is JSON text with meta.versionId and meta.lastUpdated filled in."""

    resource_type: str
    resource_id: str
    version_id: int
    last_updated: datetime
    body: str
