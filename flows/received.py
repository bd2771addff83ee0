"""Instances that ``firstread listen`` received: linked into the work folder, removed once the outcome is stored."""

import logging
import os
import shutil
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


def remove_received(store: Store, claim: Claim) -> None:
    """Remove the received files of a study whose outcome is stored, and forget them."""
    for instance in store.received_instances(claim.archive, claim.study_instance_uid):
        instance.path.unlink(missing_ok=True)
        with suppress(OSError):
            instance.path.parent.rmdir()
    store.forget_received(claim.archive, claim.study_instance_uid)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)  # another file system
