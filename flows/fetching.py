"""Fetching one study with the patience that its archive's settings ask for, and what the audit says of it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from flows.environment.person import login_name
from flows.environment.workplace import Workplace
from pipeline.archive import Leave
from pipeline.errors import RetryLater, SkipStudy
from pipeline.fhir import audit_events, door_events
from pipeline.images import all_films, left_in_the_archive, names_readable, refuse_unreadable
from pipeline.ledger import Claim, Completeness
from pipeline.setting_archives import FolderArchive
from pipeline.study import FetchedStudy, announced_digest
from pipeline.study_context import StudyContext

BACK_OFF_SECONDS = (0.5, 2.0, 5.0)
LONGEST_PAUSE = 30.0


def fetch_study(
    workplace: Workplace, archive: str, study_instance_uid: str, folder: Path, leave: Leave | None = None
) -> FetchedStudy:
    """Bring the study's files but those that ``leave`` names; a short study or a busy archive is tried again, as often
    as its settings say.

    What came and can never be used is not asked for again. Returns the last attempt even if it is short. Raises what
    the archive raised last when nothing came.
    """
    attempts = workplace.settings.archives[archive].attempts
    for attempt in range(1, attempts + 1):
        last = attempt == attempts
        try:
            fetched = workplace.archive(archive).fetch(study_instance_uid, folder, leave)
        except RetryLater as error:
            if last:
                raise
            pause = error.after_seconds if error.after_seconds is not None else _back_off(attempt)
        else:
            if not fetched.awaited or last:
                return fetched
            pause = _back_off(attempt)
        time.sleep(min(pause, LONGEST_PAUSE))
    raise AssertionError("unreachable: the last attempt returns or raises")


def leaving(workplace: Workplace, claim: Claim) -> Leave | None:
    """What of the study need not come, by its list: all that this site's models cannot be shown.

    None where its modalities are those of films (it then comes while it is listed), where a site's rule may take it for
    something else, and for one that has a draft, which must not fall by a list.
    """
    if _as_a_whole(workplace, claim) or all_films(claim.modalities):
        return None
    return partial(left_in_the_archive, reader=workplace.reader)


def _as_a_whole(workplace: Workplace, claim: Claim) -> bool:
    if any("modality" in dict(rule.says) for rule in workplace.rules(claim.archive)):
        return True  # what is listed is not what the site takes it for
    return bool(claim.again or claim.reported_manifest)


@dataclass(frozen=True, slots=True)
class Unread:
    """A study that is not worth retrieving: why, and what the archive lists of it."""

    reason: SkipStudy
    completeness: Completeness


def unread(workplace: Workplace, claim: Claim) -> Unread | None:
    """Why the study is not retrieved, by its listing alone; None where it may hold what the model reads.

    Raises SkipStudy("study-gone"). A study whose modalities name films is not listed a second time for it, and one that
    has a draft is looked at whole: that draft must not fall by a listing.
    """
    if _as_a_whole(workplace, claim) or names_readable(claim.modalities, workplace.reader.accepts):
        return None
    try:
        announced = workplace.archive(claim.archive).instances(claim.study_instance_uid)
    except RetryLater:
        return None  # fetching asks again, with patience
    try:
        refuse_unreadable(claim.modalities, [one.sop_class_uid for one in announced], workplace.reader)
    except SkipStudy as reason:
        return Unread(reason, Completeness(len(announced), 0, (), "", announced_digest(announced)))
    return None


def transfer_events(
    workplace: Workplace, archive: str, context: StudyContext, begun: datetime, now: datetime
) -> tuple[Mapping[str, Any], ...]:
    """What the audit says of how the study's instances came here: asked for at ``begun``, here by ``now``."""
    site = workplace.site(archive)
    if isinstance(workplace.settings.archives[archive], FolderArchive):
        return (audit_events.study_received(site, context, now, imported=True),)
    return (
        audit_events.transfer_begun(site, context.study_instance_uid, begun),
        audit_events.study_received(site, context, now),
    )


def _back_off(attempt: int) -> float:
    return BACK_OFF_SECONDS[min(attempt, len(BACK_OFF_SECONDS)) - 1]


def trial_event(workplace: Workplace, archive: str, fetched: FetchedStudy, command: str) -> Mapping[str, Any]:
    """What the audit says of a study that this person had retrieved by ``command`` and that is not kept."""
    return door_events.study_tried(
        workplace.site(archive),
        fetched.study_instance_uid,
        login_name(),
        len(fetched.held),
        datetime.now(UTC),
        command=command,
        succeeded=fetched.complete,
        imported=isinstance(workplace.settings.archives[archive], FolderArchive),
    )
