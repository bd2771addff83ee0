"""How the listener is, for whoever watches it: one small file in ``data_dir``, replaced every few seconds.

``hears`` is the outcome of calling our own port as a peer does. A file that is older than a minute means
that no listener runs, or one that is stuck: both are not well.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.archive.dimse.association import Association
from pipeline.archive.dimse.command import C_ECHO_RQ, Command
from pipeline.archive.dimse.negotiation import VERIFICATION
from pipeline.archive.dimse.pdu import Associate, PresentationContext
from pipeline.archive.part10 import IMPLICIT_VR_LITTLE_ENDIAN
from pipeline.errors import RetryLater, StopRun

FILE = "listener.json"
_PROBE_SECONDS = 2.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True, slots=True)
class ListenerHealth:
    """``at`` is the time of writing (Unix seconds); ``refused`` and ``sent_away`` count since the start."""

    hears: bool
    accepts: bool
    database: str
    associations: int
    waiting: int
    refused: int
    sent_away: int
    at: float


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
