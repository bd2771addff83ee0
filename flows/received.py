"""Instances that ``firstread listen`` received: linked into the work folder, removed once an outcome names them.

Which of them may go is said by the database, in the transaction that stores the outcome (docs/decisions, inbox and
ledger); what is done here can be done again by whoever comes next.
"""

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.environment.workplace import Workplace
from pipeline.archive.content_digest import content_digest
from pipeline.archive.instance_file import lenience_of, moved
from pipeline.errors import RetryLater
from pipeline.fhir import audit_events
from pipeline.ledger import Claim, UsedInstance
from pipeline.store.store import Store
from pipeline.store.values import QuietStudy
from pipeline.study import DamagedInstance, FetchedStudy, FoundStudy, HeldInstance
from pipeline.study_context import StudyContext

log = logging.getLogger(__name__)

QUIETS = 6
"""How many times ``quiet_seconds`` a received study may wait for a listener before a run hands it over itself."""
REMOVED_AT_ONCE = 500
_PUSHED = "pushed"
_OTHER_BYTES = "what was pushed under this UID has other bytes than the archive's own, which was drafted"


def link_received(store: Store, claim: Claim, folder: Path) -> int:
    """Put what was received for the study into ``folder``, under the names a fetch looks for. Returns how many.

    A fetch then asks the archive only for what is missing. An acknowledged file that is gone is settled by name.
    Raises RetryLater where it is ``folder`` that went meanwhile: who lost its claim may find it removed by the next.
    """
    received = store.inbox.instances(claim.archive, claim.study_instance_uid)
    if received:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    gone: list[HeldInstance] = []
    for instance in received:
        try:
            with suppress(FileExistsError):
                _link(instance.path, folder / f"{instance.ref.sop_instance_uid}.dcm")
        except FileNotFoundError:
            if os.path.lexists(instance.path):
                raise RetryLater(
                    "folder-gone", "the work folder of the study was removed meanwhile"
                ) from None
            gone.append(instance)
    if gone and (lost := store.inbox.note_missing(claim.archive, gone)):
        log.error("ledger row %d: %d received files are gone from the inbox", claim.ledger_id, lost)
    return len(received) - len(gone)


def with_received(
    store: Store, claim: Claim, folder: Path, fetched: FetchedStudy
) -> tuple[FetchedStudy, tuple[UsedInstance, ...]]:
    """What the archive sent, and of what was pushed all that it did not; the archive's own object is never replaced.

    Gives also the pushed instances whose bytes differ from the archive's under the same UID: that is a conflict on the
    report, whichever came first.
    """
    link_received(store, claim, folder / _PUSHED)
    held = {one.ref.sop_instance_uid: one for one in fetched.held}
    damaged, differing = list(fetched.damaged), []
    for instance in store.inbox.instances(claim.archive, claim.study_instance_uid):
        uid = instance.ref.sop_instance_uid
        path = folder / _PUSHED / f"{uid}.dcm"
        if uid not in held and path.exists():
            held[uid] = replace(moved(instance, path), lenience=lenience_of(path))
        elif uid in held and held[uid].sha256 != instance.sha256:
            differing.append(UsedInstance(uid, instance.sha256, announced=False))
            damaged.append(DamagedInstance(uid, "duplicate-conflict", _OTHER_BYTES))
    whole = tuple(sorted(held.values(), key=lambda one: one.ref.sop_instance_uid))
    return replace(fetched, held=whole, damaged=tuple(dict.fromkeys(damaged))), tuple(differing)


def pushed_events(
    workplace: Workplace,
    archive: str,
    study_instance_uid: str,
    now: datetime,
    context: StudyContext | None = None,
) -> tuple[Mapping[str, Any], ...]:
    """One audit event for each sender of what no outcome names yet of a received study, with digests and times."""
    by_sender: dict[str, list[tuple[str, str, datetime]]] = {}
    for one in workplace.store.inbox.origins(archive, study_instance_uid):
        if one.unsettled:
            by_sender.setdefault(one.peer, []).append((one.sop_instance_uid, one.sha256, one.received_at))
    site = workplace.site(archive)
    return tuple(
        audit_events.instances_pushed(site, study_instance_uid, sender, instances, now, context)
        for sender, instances in by_sender.items()
    )


def used(fetched: FetchedStudy, *, known: bool) -> tuple[UsedInstance, ...]:
    """What an outcome over ``fetched`` rests on. Only what the archive itself announces is not ours to keep.

    ``known`` is False where the archive does not know the study: what was pushed is then the only copy.
    """
    announced = {one.ref.sop_instance_uid for one in fetched.announced} if known else frozenset()
    return tuple(
        UsedInstance(one.ref.sop_instance_uid, one.sha256, one.ref.sop_instance_uid in announced)
        for one in fetched.held
    )


def remove_received(store: Store, archive: str, study_instance_uids: Sequence[str]) -> None:
    """Remove the files of these studies that an outcome released."""
    if study_instance_uids:
        while (
            store.inbox.remove_released(_remove, archive, study_instance_uids, limit=REMOVED_AT_ONCE)
            == REMOVED_AT_ONCE
        ):
            pass


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What was put right.

    ``removed`` files that an outcome had released, ``found`` files that were taken for lost and wait again, studies
    ``handed_over`` that no listener did.
    """

    removed: int
    found: int
    handed_over: int


def reconcile(workplace: Workplace) -> Reconciled:
    """Bring inbox and ledger together after a crash; at the start of a run, and as a command."""
    store, listen = workplace.store, workplace.settings.listen
    removed = remove_leftovers(workplace)
    found = store.inbox.reopen_missing(workplace.settings.data_dir / "inbox", content_digest)
    if found:
        log.warning("%d received files that were taken for lost are in the inbox: they wait again", found)
    waiting = store.inbox.quiet_studies(QUIETS * listen.quiet_seconds, listen.archive)
    if listen.archive in workplace.settings.archives:
        for study in waiting:
            recipe, uid = workplace.recipe_of(listen.archive), study.study_instance_uid
            if not store.ledger_ids(listen.archive, recipe, [uid]):
                store.record_found(listen.archive, recipe, [pushed_study(study)])
            store.inbox.hand_over(listen.archive, study.study_instance_uid, study.newest)
    if removed or waiting:
        log.info("reconciled: %d inbox files removed, %d received studies handed over", removed, len(waiting))
    return Reconciled(removed, found, len(waiting))


def remove_leftovers(workplace: Workplace) -> int:
    """Remove files that an outcome released before a crash, and what was kept long enough; returns how many."""
    while workplace.store.inbox.renew_digests(content_digest):
        pass
    workplace.store.inbox.release_kept(workplace.settings.listen.keep_days)
    removed = last = workplace.store.inbox.remove_released(_remove, limit=REMOVED_AT_ONCE)
    while last == REMOVED_AT_ONCE:
        last = workplace.store.inbox.remove_released(_remove, limit=REMOVED_AT_ONCE)
        removed += last
    return removed


def pushed_study(study: QuietStudy) -> FoundStudy:
    """A study that was pushed, as far as it is known before its archive is asked."""
    return FoundStudy(study.study_instance_uid, None, (), "", None, "")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:
        shutil.copyfile(source, target)  # another file system
