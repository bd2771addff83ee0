"""What can mend a failure, by its code: what a sweep may reopen by itself, and what a person is told to do.

The codes are those of ``pipeline.errors``. A code that is not named here is mended by what changes the study in its
archive, which reopens it anyway. Codes of former releases stay: rows that failed with them are still in ledgers.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from pipeline.ledger import Circumstances


class MendedBy(StrEnum):
    """What has to change before another attempt can end otherwise."""

    TIME = "time"
    SETTING = "setting"
    UPGRADE = "upgrade"
    ARCHIVE = "archive"
    PERSON = "person"


MENDED_BY: Mapping[str, MendedBy] = {
    **dict.fromkeys(
        (
            "archive-aborted", "archive-busy", "archive-cancelled", "archive-closed", "archive-cut-short",
            "archive-ended-early", "archive-error", "archive-protocol", "archive-stalled", "archive-too-many",
            "archive-unreachable", "archive-unreadable",
            "claim-lost", "database-away", "database-busy", "database-read-only", "database-slow", "decoder-busy",
            "endpoint-away", "endpoint-busy", "endpoint-slow", "folder-gone",
            "inbox-busy", "incomplete", "model-died", "model-slow", "no-room", "nothing-came", "peer-too-slow",
            "peer-without-end",
        ),
        MendedBy.TIME,
    ),
    **dict.fromkeys(
        ("archive-refused", "endpoint-answer", "endpoint-refused", "endpoint-too-long", "too-large"), MendedBy.SETTING
    ),
    **dict.fromkeys(
        (
            "attempts-exhausted", "decoder-died", "decoder-slow", "fhir-invalid", "not-storable", "presented-form",
            "process-died", "store-refused", "unexpected",
        ),
        MendedBy.UPGRADE,
    ),
    "report-signed": MendedBy.PERSON,
}  # fmt: skip

ADVICE: Mapping[MendedBy, str] = {
    MendedBy.TIME: "when the archive is well: firstread retry, or wait for tomorrow's sweep",
    MendedBy.SETTING: "change the setting; the next run tries again",
    MendedBy.UPGRADE: "see the log; a new version tries again, firstread retry at once",
    MendedBy.ARCHIVE: "correct the study in its archive; that reopens it",
    MendedBy.PERSON: "a person has taken over this report: look whether it still holds",
}

DEATHS_ALLOWED = 3
"""How many processes may die over a study before it is tried no more: one in company, two over it alone.

One death alone is no proof: it may have been the machine's (power, memory, a person's kill -9)."""

COOLING = timedelta(hours=20)
"""After how long a sweep tries again what only time can mend: once a night, whatever the minute it starts at."""


def mended_by(code: str) -> MendedBy:
    """What can mend a failure with this code."""
    return MENDED_BY.get(code, MendedBy.ARCHIVE)


def advice(code: str) -> str:
    """What a person is told to do about a study that failed for good with this code."""
    return ADVICE[mended_by(code)]


def is_mended(
    code: str, failed_at: datetime | None, failed_under: Circumstances, now: datetime, present: Circumstances
) -> bool:
    """Whether a failure for good may end otherwise now: another program or other settings, or enough time."""
    match mended_by(code):
        case MendedBy.TIME:
            return failed_at is not None and now - failed_at >= COOLING
        case MendedBy.SETTING:
            return failed_under.settings != present.settings
        case MendedBy.UPGRADE:
            return failed_under.program != present.program
        case _:
            return False
