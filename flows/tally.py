"""The outcome of a run: counts, the JSON summary and the exit code (docs/design.md#exit-codes)."""

import json
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace

from pipeline.ledger import LedgerState

ALL_WELL = 0
SOME_FAILED = 1
USAGE = 2
STOPPED = 3


@dataclass(frozen=True, slots=True)
class Discovered:
    """How many studies the archive has, and how many of them failed before and are as they were.

    ``passed_over`` counts its files, folders and rows that became no study, by reason.
    """

    studies: int = 0
    failed: int = 0
    passed_over: Mapping[str, int] = field(default_factory=dict)

    def and_also(self, other: "Discovered") -> "Discovered":
        """With what a second search of the same archive found; what both passed over is the same."""
        reasons = {*self.passed_over, *other.passed_over}
        return Discovered(
            self.studies + other.studies,
            self.failed + other.failed,
            {
                code: max(self.passed_over.get(code, 0), other.passed_over.get(code, 0))
                for code in sorted(reasons)
            },
        )


@dataclass(frozen=True, slots=True)
class Tally:
    """How many studies were found, and how each came to rest. ``failed`` includes those that will be tried again.

    ``still_failed`` failed in an earlier run and were not tried in this one; they are not among the ``unchanged``.
    ``reinstated`` ones are, whose former draft became the current one again because a setting was taken back.
    ``passed_over`` counts files, folders and rows of the archive that became no study.
    """

    discovered: int = 0
    reported: int = 0
    skipped: int = 0
    failed: int = 0
    unchanged: int = 0
    seconds: float = 0.0
    still_failed: int = 0
    reinstated: int = 0
    passed_over: int = 0

    def plus(self, states: Iterable[LedgerState | None]) -> "Tally":
        """With the resting states of more studies; None stands for one that was unchanged."""
        counts = {"reported": 0, "skipped": 0, "failed": 0, "unchanged": 0}
        for state in states:
            counts[_FIELD[state]] += 1
        return replace(self, **{name: getattr(self, name) + count for name, count in counts.items()})

    def of(self, found: Discovered, seconds: float, *, reinstated: int = 0) -> "Tally":
        """As the tally of a sweep that found these studies; those that needed nothing are unchanged."""
        touched = self.reported + self.skipped + self.failed
        still_failed = min(found.failed, max(found.studies - touched, 0))
        return replace(
            self,
            discovered=found.studies,
            unchanged=max(found.studies - touched - still_failed, 0),
            seconds=seconds,
            still_failed=still_failed,
            reinstated=reinstated,
            passed_over=sum(found.passed_over.values()),
        )

    def __add__(self, other: "Tally") -> "Tally":
        """The sum of two tallies, seconds too."""
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Tally)))

    def as_json(self) -> str:
        """The one-line JSON object that ``--json`` prints last; ``passed_over`` only where something was."""
        passed_over = {"passed_over": self.passed_over} if self.passed_over else {}
        return json.dumps(
            {
                "discovered": self.discovered,
                "reported": self.reported,
                "skipped": self.skipped,
                "failed": self.failed,
                "unchanged": self.unchanged,
                "still_failed": self.still_failed,
                "reinstated": self.reinstated,
                "seconds": round(self.seconds, 3),
                **passed_over,
            },
            separators=(",", ":"),
        )

    def sentence(self) -> str:
        """The counts that are not nothing, for a person: "12 reported, 1 failed"."""
        counted = {
            "reported": self.reported,
            "skipped": self.skipped,
            "failed": self.failed,
            "failed before": self.still_failed,
            "unchanged": self.unchanged,
        }
        return ", ".join(f"{count} {name}" for name, count in counted.items() if count) or "nothing to do"

    @property
    def exit_code(self) -> int:
        """0 when nothing failed, in this run or before, and nothing was passed over, else 1."""
        return SOME_FAILED if self.failed or self.still_failed or self.passed_over else ALL_WELL


_COUNTED: ContextVar[list[Tally]] = ContextVar("counted")


def counting() -> None:
    """From now on ``count`` adds up in this context, for the summary of a run that is stopped."""
    _COUNTED.set([])


def count(tally: Tally) -> None:
    """What a part of a run came to, also where the run is stopped in it."""
    if (counted := _COUNTED.get(None)) is not None:
        counted.append(tally)


def counted() -> Tally:
    """The sum of what was counted so far."""
    tallies = _COUNTED.get(None)
    return sum(tallies or [], Tally())


_FIELD: dict[LedgerState | None, str] = {
    LedgerState.REPORTED: "reported",
    LedgerState.SKIPPED: "skipped",
    LedgerState.FAILED: "failed",
    None: "unchanged",
}
