"""Instances that ``firstread listen`` received: linked into the work folder, removed once the outcome is stored."""

import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.ledger import Claim
from pipeline.store.store import Store

log = logging.getLogger(__name__)


def link_received(store: Store, claim: Claim, folder: Path) -> int:
    """Place what was received for the claimed study into ``folder``, under the names a fetch looks for; gives how many.

    A fetch then asks the archive only for what is missing.
    """
    received = store.received_instances(claim.archive, claim.study_instance_uid)
    if received:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    linked = 0
    for instance in received:
        target = folder / f"{instance.ref.sop_instance_uid}.dcm"
        with suppress(FileNotFoundError, FileExistsError):
            _link(instance.path, target)
            linked += 1
    return linked


def remove_received(store: Store, done: Sequence[Claim]) -> None:
    """Remove the received files of studies that need them no more, and forget them.

    A study that failed keeps its files: its archive may not have them, and they were acknowledged.
    """
    if not done:
        return
    archive = done[0].archive
    for uid in store.received_among(archive, [claim.study_instance_uid for claim in done]):
        for instance in store.received_instances(archive, uid):
            instance.path.unlink(missing_ok=True)
            with suppress(OSError):
                instance.path.parent.rmdir()
        store.forget_received(archive, uid)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)  # another file system
