"""Kept digests compared with their files behind an opened family, on a thread that yields to everything else.

A kept digest is believed while nothing that the file system says of its file has changed; a disk or a memory that
changes bytes by itself changes none of that. So what was believed at opening is read again while the family works, and
where a file is another the family stops: what it drafts would be named by weights that it may not have.
"""

import hashlib
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from models.weight_loading.kept_digests import Believed, forget
from pipeline.errors import StopRun

PIECE = 1 << 20
_LEAST_PRIORITY = 19

log = logging.getLogger(__name__)


class KeptCheck:
    """Reads the files of ``believed`` again, once; ``refuse`` says what it found so far."""

    def __init__(self, believed: Mapping[Path, Believed], cache: Path) -> None:
        """Start at once; ``cache`` keeps the digests. Nothing is done where nothing was believed."""
        self._believed, self._cache = dict(believed), cache
        self._stop, self._wrong = threading.Event(), ""
        self._thread = threading.Thread(target=self._run, name="kept-digests", daemon=True)
        if self._believed:
            self._thread.start()

    def refuse(self) -> None:
        """Raises StopRun where a file is not the one that its kept digest names."""
        if self._wrong:
            message = (
                f"{self._wrong} was read again and is not what it was when its digest was kept, though nothing has "
                "changed it: bytes of the disk or of memory change by themselves. Copy the weights again, from "
                "another disk, and look at this machine's memory; what was drafted since this start may be wrong"
            )
            raise StopRun("weights", message)

    def wait(self, seconds: float) -> None:
        """Until everything was read, at most ``seconds``."""
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self.wait(5.0)

    def _run(self) -> None:
        try:  # of this thread alone, which Linux knows as a process
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LEAST_PRIORITY)
        except OSError:
            log.debug("the thread that reads weights again keeps the priority of the others")
        for path, one in self._believed.items():
            try:
                found = self._digest(path)
            except OSError as error:
                log.warning("%s could not be read again (%s)", path.name, error.strerror)
                continue
            if found and found != one.digest and one.still(path):
                self._wrong = path.name
                forget(self._cache, path)
                return

    def _digest(self, path: Path) -> str:
        """SHA-256, "" where the family was closed meanwhile."""
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as stream:
            while piece := stream.read(PIECE):
                if self._stop.is_set():
                    return ""
                digest.update(piece)
        return digest.hexdigest()
