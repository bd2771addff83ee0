"""How the listener is, for whoever watches it: one small file in ``data_dir``, replaced every few seconds.

``hears`` is the outcome of calling our own port as a peer does. A file that is older than a minute means
that no listener runs, or one that is stuck: both are not well.
"""

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.archive.dimse.association import Association
from pipeline.archive.dimse.command import C_ECHO_RQ, Command
from pipeline.archive.dimse.negotiation import VERIFICATION
from pipeline.archive.dimse.pdu import Associate, PresentationContext
from pipeline.archive.part10 import IMPLICIT_VR_LITTLE_ENDIAN
from pipeline.errors import RetryLater, StopRun

FILE = "listener.json"
SILENT_SECONDS = 60.0
"""A file older than this is of a listener that does not run any more, or that is stuck."""
_PROBE_SECONDS = 2.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True, slots=True)
class ListenerHealth:
    """``at`` is the time of writing (Unix seconds), ``received_at`` that of the last acknowledged instance, if any.

    ``refused`` and ``sent_away`` count since the start; ``associations`` are those now, ``places`` how many there are.
    """

    hears: bool
    accepts: bool
    database: str
    associations: int
    waiting: int
    refused: int
    sent_away: int
    at: float
    listener: str = ""
    places: int = 0
    received_at: float | None = None

    def condition(self, now: float) -> str:
        """One word for whoever looks at ``now`` (Unix seconds): well, deaf, "database away", or silent."""
        if now - self.at > SILENT_SECONDS:
            return "silent"
        if not (self.hears and self.accepts):
            return "deaf"
        return "well" if self.database == "ok" else "database away"

    def told(self, now: float) -> dict[str, str | int | None]:
        """As plain values: who listens, its condition, places taken of how many, and when it last received."""
        received = self.received_at and datetime.fromtimestamp(self.received_at, UTC).isoformat(
            timespec="seconds"
        )
        return {
            "listener": self.listener,
            "condition": self.condition(now),
            "associations": self.associations,
            "places": self.places,
            "received_at": received or None,
        }


def read_health(data_dir: Path) -> ListenerHealth | None:
    """What the listener of this folder last wrote; None where none has run since the last one was stopped."""
    try:
        return ListenerHealth(**json.loads((data_dir / FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def write_health(data_dir: Path, health: ListenerHealth) -> None:
    """Replace the file. Raises OSError where it cannot be written."""
    path = data_dir / FILE
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(asdict(health)) + "\n", encoding="ascii")
    beside.replace(path)


def remove_health(data_dir: Path) -> None:
    """The listener ends."""
    (data_dir / FILE).unlink(missing_ok=True)


def hears(host: str, port: int, ae_title: str) -> bool:
    """Whether our own port answers a C-ECHO, or refuses us by name, which it can only when it hears."""
    proposal = Associate(
        ae_title, ae_title, (PresentationContext(1, VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,)),)
    )
    try:
        with Association.request(
            (_ANY.get(host, host), port),
            proposal,
            connect_timeout=_PROBE_SECONDS,
            stall_timeout=_PROBE_SECONDS,
        ) as association:
            association.send(
                association.accepted(VERIFICATION), Command(C_ECHO_RQ, 1, sop_class_uid=VERIFICATION)
            )
            message = association.receive()
            return message is not None and message.command.status == 0
    except StopRun:
        return True
    except RetryLater as error:
        return error.code == "archive-busy"


def exit_now(code: int) -> None:
    """End the process without waiting for a thread that waits for somebody else."""
    os._exit(code)
