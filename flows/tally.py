"""The outcome of a run: counts, the JSON summary and the exit code (docs/design.md#exit-codes)."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from pipeline.ledger import LedgerState

ALL_WELL = 0
SOME_FAILED = 1
USAGE = 2
STOPPED = 3


@dataclass(frozen=True, slots=True)
class Tally:
    """How many studies were found, and how each came to rest. ``failed`` includes those that will be tried again."""

    discovered: int = 0
    reported: int = 0
    skipped: int = 0
    failed: int = 0
    unchanged: int = 0
    seconds: float = 0.0

    def plus(self, states: Iterable[LedgerState | None]) -> "Tally":
        """With the resting states of more studies; None stands for one that was unchanged."""
        counts = {"reported": 0, "skipped": 0, "failed": 0, "unchanged": 0}
        for state in states:
            counts[_FIELD[state]] += 1
        return replace(self, **{name: getattr(self, name) + count for name, count in counts.items()})

    def of(self, discovered: int, seconds: float) -> "Tally":
        """As the tally of a sweep that found ``discovered`` studies; those that needed nothing are unchanged."""
        touched = self.reported + self.skipped + self.failed
        return replace(self, discovered=discovered, unchanged=max(discovered - touched, 0), seconds=seconds)

    def __add__(self, other: "Tally") -> "Tally":
        """The sum of two tallies, seconds too."""
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Tally)))

    def as_json(self) -> str:
        """The one-line JSON object that ``--json`` prints last."""
        return json.dumps(
            {
                "discovered": self.discovered,
                "reported": self.reported,
                "skipped": self.skipped,
                "failed": self.failed,
                "unchanged": self.unchanged,
                "seconds": round(self.seconds, 3),
            },
            separators=(",", ":"),
        )

    @property
    def exit_code(self) -> int:
        """0 when nothing failed, else 1."""
        return SOME_FAILED if self.failed else ALL_WELL


_FIELD: dict[LedgerState | None, str] = {
    LedgerState.REPORTED: "reported",
    LedgerState.SKIPPED: "skipped",
    LedgerState.FAILED: "failed",
    None: "unchanged",
}
