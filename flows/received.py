"""Instances that ``firstread listen`` received: linked into the work folder, removed once an outcome names them.

Which of them may go is said by the database, in the transaction that stores the outcome (docs/decisions, inbox and
ledger); what is done here can be done again by whoever comes next.
"""

import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flows.environment.workplace import Workplace
from pipeline.ledger import Claim, UsedInstance
from pipeline.store.store import Store
from pipeline.store.values import QuietStudy
from pipeline.study import FetchedStudy, FoundStudy, HeldInstance

log = logging.getLogger(__name__)

QUIETS = 6
"""How many times ``quiet_seconds`` a received study may wait for a listener before a run hands it over itself."""
REMOVED_AT_ONCE = 500


def link_received(store: Store, claim: Claim, folder: Path) -> int:
    """Put what was received for the study into ``folder``, under the names a fetch looks for. Returns how many.

    A fetch then asks the archive only for what is missing. An acknowledged file that is gone is settled by name.
    """
    received = store.received_instances(claim.archive, claim.study_instance_uid)
    if received:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    gone: list[HeldInstance] = []
    for instance in received:
        try:
            with suppress(FileExistsError):
                _link(instance.path, folder / f"{instance.ref.sop_instance_uid}.dcm")
        except FileNotFoundError:
            gone.append(instance)
    if gone and (lost := store.note_missing(claim.archive, gone)):
        log.error("ledger row %d: %d received files are gone from the inbox", claim.ledger_id, lost)
    return len(received) - len(gone)


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
            store.remove_released(_remove, archive, study_instance_uids, limit=REMOVED_AT_ONCE)
            == REMOVED_AT_ONCE
        ):
            pass


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What was put right: files removed that an outcome had released, and studies handed over that no listener did."""

    removed: int
    handed_over: int


def reconcile(place: Workplace) -> Reconciled:
    """Bring inbox and ledger together after a crash; at the start of a run, and as a command."""
    store, listen = place.store, place.settings.listen
    removed = remove_leftovers(place)
    waiting = store.quiet_studies(QUIETS * listen.quiet_seconds, listen.archive)
    if listen.archive in place.settings.archives:
        for study in waiting:
            recipe, uid = place.recipe, study.study_instance_uid
            if not store.ledger_ids(listen.archive, recipe, [uid]):
                store.record_found(listen.archive, recipe, [pushed_study(study)])
            store.hand_over(listen.archive, study.study_instance_uid, study.newest)
    if removed or waiting:
        log.info("reconciled: %d inbox files removed, %d received studies handed over", removed, len(waiting))
    return Reconciled(removed, len(waiting))


def remove_leftovers(place: Workplace) -> int:
    """Remove files that an outcome released before a crash, and what was kept long enough; returns how many."""
    place.store.release_kept(place.settings.listen.keep_days)
    removed = last = place.store.remove_released(_remove, limit=REMOVED_AT_ONCE)
    while last == REMOVED_AT_ONCE:
        last = place.store.remove_released(_remove, limit=REMOVED_AT_ONCE)
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
