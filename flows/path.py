"""The path of one study: retrieve, prepare, draft, check, build, and how each error brings it to rest.

Plain functions over values; ``drain`` runs many of them at the same time.
"""

import logging
import shutil
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flows.environment.stopping import stopped_by
from flows.environment.workplace import Workplace
from flows.fetching import fetch_study, leaving, transfer_events, unread
from flows.given import Given, gather
from flows.masks import drawn
from flows.priors import Compared, with_last_prior
from flows.received import link_received, pushed_events, used, with_received
from flows.shown_pictures import captions, marked_first
from flows.stored_pixels import in_stored_pixels
from pipeline.archive.instance_file import DiskLimits
from pipeline.archive.spool import Spool
from pipeline.checks import refuse_if_failed, run_checks
from pipeline.errors import FailStudy, FirstreadError, RetryLater, SkipStudy, StopRun
from pipeline.fhir import audit_events, build_resources, validate
from pipeline.fhir.patient import patient_key
from pipeline.images import StudyHeaders, film_manifest, prepare_for, read_headers, shown_to_people
from pipeline.ledger import (
    Claim,
    Completeness,
    LedgerState,
    Preview,
    ReportOutcome,
    Resource,
    SettledOutcome,
    UsedInstance,
)
from pipeline.mending import DEATHS_ALLOWED
from pipeline.report import CheckOutcome, DraftReport, Verdict
from pipeline.study import AnnouncedInstance, FetchedStudy, ImageSet, announced_digest
from pipeline.study_context import StudyContext

log = logging.getLogger(__name__)

UNCHANGED = "unchanged"
LONGEST_RETRY = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class RetrievedStudy:
    """A study brought here and decoded; its files are already gone from disk."""

    claim: Claim
    context: StudyContext
    compared: Compared
    told: Given
    previews: tuple[Preview, ...]
    completeness: Completeness
    begun: datetime
    received: tuple[UsedInstance, ...] = ()
    """What of the inbox this rests on."""

    @property
    def image_set(self) -> ImageSet:
        """The images that the model is given."""
        return self.compared.image_set


@dataclass(slots=True)
class _Progress:
    """How far one study came: what its outcome names, however it ends."""

    completeness: Completeness | None = None
    received: tuple[UsedInstance, ...] = ()


def bring(workplace: Workplace, claim: Claim, *, pushed: bool = False) -> RetrievedStudy | SettledOutcome:
    """Retrieve and decode one claimed study; files are removed before it returns. ``pushed``: the inbox holds some.

    Returns a SettledOutcome where the study ends here: unchanged since its last report, skipped, failed or to be tried
    again. Raises StopRun only.
    """
    folder = workplace.study_folder(claim.ledger_id)
    begun = datetime.now(UTC)
    progress = _Progress()
    try:
        _refuse_hopeless(claim)
        return _bring(workplace, claim, pushed, begun, progress)
    except StopRun:
        raise
    except Exception as error:  # noqa: BLE001 - one bad study never stops a batch; the class is recorded
        return settled(workplace, claim, error, progress.completeness, progress.received)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_hopeless(claim: Claim) -> None:
    """Raises FailStudy for what no retrieval can mend."""
    if claim.deaths >= DEATHS_ALLOWED:
        raise FailStudy(
            "process-died",
            f"{claim.deaths} times the process died while it worked on this study, at last on this one alone; "
            "see the system's log",
        )
    if claim.patients > 1:
        raise FailStudy(
            "two-patients", f"the archive lists the study under {claim.patients} patients: correct it there"
        )


def _bring(
    workplace: Workplace, claim: Claim, pushed: bool, begun: datetime, progress: _Progress
) -> RetrievedStudy | SettledOutcome:
    """``bring`` without its ends: raises what settles the study, and notes in ``progress`` how far it came."""
    if not pushed and (left := unread(workplace, claim)) is not None:
        progress.completeness = left.completeness
        raise left.reason
    fetched, known, differing = fetch(workplace, claim, pushed=pushed)
    completeness = progress.completeness = completeness_of(fetched)
    if any(one.code == "two-patients" for one in fetched.damaged):
        raise FailStudy("two-patients", "one instance came under two patients: correct it in the archive")
    if pushed:
        progress.received = (*used(fetched, known=known), *differing)
    again = claim.again or _new_conflict(workplace, claim, differing)
    if not again and fetched.manifest_digest == claim.reported_manifest:
        return unchanged(claim, completeness, progress.received)
    if fetched.awaited and not _grace_is_over(workplace, claim):
        raise _incomplete(fetched)
    read = read_headers(fetched, rules=workplace.rules(claim.archive))
    completeness = progress.completeness = with_films(workplace, claim.archive, fetched, read, completeness)
    if not again and completeness.films_digest == claim.reported_films:
        return unchanged(claim, completeness, progress.received)
    workplace.store.record_complete(claim, completeness)
    context, image_set = prepare_for(fetched, read, workplace.reader, trust=workplace.trust(claim.archive))
    refuse_duplicate(workplace, claim, context, completeness)
    previews = shown_to_people(image_set.images)
    compared = Compared(image_set)
    if workplace.settings.policy.priors == "last":
        compared = with_last_prior(workplace, claim.archive, context, image_set)
    told = gather(workplace, claim.archive, context, compared.image_set, compared.earlier)
    return RetrievedStudy(claim, context, compared, told, previews, completeness, begun, progress.received)


def _said_of(image_set: ImageSet) -> tuple[CheckOutcome, ...]:
    """What the headers and files gave reason to remark."""
    return tuple(CheckOutcome(one.code, Verdict.WARNED, one.message) for one in image_set.remarks)


def fetch(
    workplace: Workplace, claim: Claim, *, pushed: bool = False
) -> tuple[FetchedStudy, bool, tuple[UsedInstance, ...]]:
    """Bring the study's files, whether the archive knows the study, and what was pushed with other bytes than its own.

    What was pushed stands in for what the archive lacks, never for what it has. Returns the last attempt even if it is
    short.
    """
    folder = workplace.study_folder(claim.ledger_id)
    try:
        leave = leaving(workplace, claim)
        fetched = fetch_study(workplace, claim.archive, claim.study_instance_uid, folder, leave)
    except SkipStudy:
        if not pushed or not link_received(workplace.store, claim, folder):
            raise
        return received_only(workplace, claim, folder), False, ()
    if not pushed:
        return fetched, True, ()
    fetched, differing = with_received(workplace.store, claim, folder, fetched)
    return fetched, True, differing


def _incomplete(fetched: FetchedStudy) -> RetryLater:
    """Why a study is short: what came is named by what was wrong with it."""
    awaited = set(fetched.awaited)
    wrong = sorted({one.code for one in fetched.damaged if one.sop_instance_uid in awaited})
    came = f"; of those that came: {', '.join(wrong)}" if wrong else ""
    message = f"{len(awaited)} of {len(fetched.announced)} instances are still missing{came}"
    return RetryLater("incomplete", message)


def _new_conflict(workplace: Workplace, claim: Claim, differing: tuple[UsedInstance, ...]) -> bool:
    """Whether a report does not say yet that two contents came under one UID."""
    if not differing:
        return False
    unsettled = {
        (one.sop_instance_uid, one.sha256)
        for one in workplace.store.inbox.origins(claim.archive, claim.study_instance_uid)
        if one.unsettled
    }
    return any((one.sop, one.sha256) in unsettled for one in differing)


def received_only(workplace: Workplace, claim: Claim, folder: Path) -> FetchedStudy:
    """A study that was pushed to us and that its archive does not know: what was acknowledged is all there is."""
    settings = workplace.settings.archives[claim.archive]
    limits = DiskLimits(settings.min_free_gib, settings.max_instance_gib)
    spool = Spool(claim.study_instance_uid, folder, limits)
    held = spool.fetched(()).held
    return spool.fetched(tuple(AnnouncedInstance(one.ref, one.sop_class_uid) for one in held))


def with_films(
    workplace: Workplace, archive: str, fetched: FetchedStudy, read: StudyHeaders, completeness: Completeness
) -> Completeness:
    """With what decides whether a new draft is due: the films, the patient and the order."""
    manifest = film_manifest(fetched, read, workplace.reader, trust=workplace.trust(archive))
    return replace(completeness, films=manifest.films, films_digest=manifest.digest)


def refuse_duplicate(
    workplace: Workplace, claim: Claim, context: StudyContext, completeness: Completeness
) -> None:
    """One study in several archives has one report: that of the archive with most films, the first where they are even.

    Raises SkipStudy("duplicate-study") where another archive's stands.
    """
    if not claim.elsewhere or not (patient := patient_key(context)):
        return
    other = workplace.store.standing.elsewhere(claim.archive, claim.study_instance_uid, patient)
    if other is not None and other.films >= completeness.films:
        raise SkipStudy(
            "duplicate-study",
            f"the same study is reported from archive {other.archive} (ledger row {other.ledger_id})",
        )


def _with_what_was_brought(draft: DraftReport, brought: RetrievedStudy) -> DraftReport:
    """The model's draft with its prior, its recipe and the remarks of the steps before the model."""
    return replace(
        draft,
        prior=brought.compared.prior,
        provenance=replace(draft.provenance, recipe=brought.claim.recipe),
        remarks=(
            *_said_of(brought.image_set),
            *brought.compared.remarks,
            *brought.told.remarks,
            *draft.remarks,
        ),
    )


def draft_outcome(
    workplace: Workplace, brought: RetrievedStudy, draft: DraftReport
) -> ReportOutcome | SettledOutcome:
    """Check the draft and build all that is stored of it, or the failure that keeps it from being stored."""
    try:
        draft = _with_what_was_brought(draft, brought)
        previews = marked_first(draft, brought.image_set, brought.previews)
        draft = replace(draft, captions=captions(brought.image_set, previews))
        told = drawn(draft, brought.image_set, previews, workplace.settings.policy.segmentations)
        draft = told.draft
        has_prior = draft.prior is not None
        outcomes = run_checks(
            draft,
            brought.image_set,
            brought.context,
            has_prior=has_prior,
            given=asdict(brought.told.context),
            unseen=brought.told.unseen,
        )
        checks = outcomes + draft.remarks
        refuse_if_failed(checks)
        now = datetime.now(UTC)
        site = workplace.site(brought.claim.archive)
        stated = in_stored_pixels(draft, brought.image_set)
        resources = build_resources(
            stated, brought.context, brought.image_set, checks, brought.completeness, site, now
        )
        validate(resources)
        return ReportOutcome(
            claim=brought.claim,
            draft=draft,
            checks=checks,
            left_out=brought.image_set.left_out,
            completeness=brought.completeness,
            accession_number=brought.context.accession_number,
            diagnostic_report_id=_report_id(resources),
            status=site.draft_status,
            resources=resources,
            previews=told.previews,
            audit=(
                *retrieval_events(workplace, brought, now),
                audit_events.report_written(
                    site, resources, now, updated=bool(brought.claim.reported_manifest)
                ),
            ),
            received=brought.received,
            patient_key=patient_key(brought.context),
            masks=told.masks,
        )
    except StopRun:
        raise
    except Exception as error:  # noqa: BLE001 - one bad study never stops a batch; the class is recorded
        return settled(workplace, brought.claim, error, brought.completeness)


def retrieval_events(
    workplace: Workplace, brought: RetrievedStudy, now: datetime
) -> tuple[Mapping[str, Any], ...]:
    """What the audit says of how the instances came here, those of an earlier study included."""
    archive = brought.claim.archive
    if brought.received and not any(one.announced for one in brought.received):
        events = pushed_events(workplace, archive, brought.context.study_instance_uid, now, brought.context)
    else:
        events = transfer_events(workplace, archive, brought.context, brought.begun, now)
    if brought.compared.earlier is not None:
        events += transfer_events(workplace, archive, brought.compared.earlier, brought.begun, now)
    return events


def settled(
    workplace: Workplace,
    claim: Claim,
    error: Exception,
    completeness: Completeness | None,
    received: tuple[UsedInstance, ...] = (),
) -> SettledOutcome:
    """Where a study comes to rest after ``error``: named for what the caller does next (pipeline.errors)."""
    policy = workplace.settings.policy
    next_attempt_at = None
    state = LedgerState.FAILED
    if isinstance(error, FirstreadError):
        code, message = error.code, error.message
    else:
        code, message = "unexpected", f"{type(error).__name__}; see the log of ledger row {claim.ledger_id}"
        # The frames only: the text of a foreign exception may quote a header.
        frames = "".join(traceback.format_tb(error.__traceback__))
        # A call that nobody waits for meets what is closed already; it stores nothing.
        if not (workplace.over or stopped_by()):
            log.error("ledger row %d: unexpected %s\n%s", claim.ledger_id, type(error).__name__, frames)
    if isinstance(error, SkipStudy):
        state = LedgerState.SKIPPED
    elif isinstance(error, RetryLater) and claim.attempts < policy.max_attempts:
        minutes = timedelta(minutes=policy.retry_minutes * 2 ** (claim.attempts - 1))
        next_attempt_at = datetime.now(UTC) + min(minutes, LONGEST_RETRY)
    audit = (
        audit_events.study_settled(workplace.site(claim.archive), claim, state, code, datetime.now(UTC)),
    )
    return SettledOutcome(
        claim,
        state,
        code,
        message,
        next_attempt_at,
        completeness,
        audit,
        received=received,
        circumstances=workplace.circumstances,
    )


def unchanged(claim: Claim, completeness: Completeness, received: tuple[UsedInstance, ...]) -> SettledOutcome:
    """Films, patient and order of the stored report, and its recipe: nothing is redone (docs/design.md#the-ledger)."""
    message = "the stored report is about the same films"
    return SettledOutcome(
        claim, LedgerState.REPORTED, UNCHANGED, message, None, completeness, (), received=received
    )


def completeness_of(fetched: FetchedStudy) -> Completeness:
    """What was announced against what is held."""
    return Completeness(
        announced=len(fetched.announced),
        held=len(fetched.held),
        missing=fetched.missing,
        manifest_digest=fetched.manifest_digest,
        announced_digest=announced_digest(fetched.announced),
        damaged=fetched.damaged,
    )


def outcome_of(
    workplace: Workplace, brought: RetrievedStudy, draft: DraftReport | FirstreadError
) -> ReportOutcome | SettledOutcome:
    """What the model's answer for one study comes to."""
    if isinstance(draft, FirstreadError):
        return settled(workplace, brought.claim, draft, brought.completeness)
    return draft_outcome(workplace, brought, draft)


def _report_id(resources: tuple[Resource, ...]) -> str:
    return next(one.resource_id for one in resources if one.resource_type == "DiagnosticReport")


def _grace_is_over(workplace: Workplace, claim: Claim) -> bool:
    """Whether a short study has waited long enough to be drafted with its gap recorded."""
    grace = timedelta(minutes=workplace.settings.policy.grace_minutes)
    since = claim.first_short_at
    return grace == timedelta(0) or (since is not None and datetime.now(UTC) - since >= grace)
