"""What sweeps have covered, pauses by hand, and what was pushed and still waits: ``Store.sweeps``."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from pipeline.store.codec import as_json
from pipeline.store.connections import Connections
from pipeline.store.statements import statement
from pipeline.store.values import Pause, SweepBegun, TurnedAway


class Sweeps:
    """See the module. Each call is one statement and bears being repeated after a lost answer."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def begin(self, sweep: SweepBegun) -> int:
        """Note that a sweep begins; returns its number for ``end``."""
        values = {
            "archive": sweep.archive,
            "recipe": sweep.recipe,
            "since": sweep.since,
            "until": sweep.until,
            "onward": sweep.onward,
            "whole_until": sweep.whole_until,
            "begun_at": sweep.begun_at,
            "undated": sweep.undated,
        }
        return int(self._rows("begin", values)[0][0])

    def end(self, sweep_id: int) -> None:
        """Note that the archive was heard to the end and what it has was worked on: its days are covered."""
        self._rows("end", {"sweep_id": sweep_id})

    def note_passed_over(self, sweep_id: int, passed_over: Mapping[str, int]) -> None:
        """What a sweep's search passed over, by reason."""
        self._rows("passed_over", {"sweep_id": sweep_id, "passed_over": as_json(dict(passed_over))})

    def note_refused(self, archive: str, refused: Sequence[tuple[str, str, int]]) -> None:
        """What the listener refused since the last call: sender, reason and how often."""
        senders, reasons, counts = zip(*refused, strict=True) if refused else ((), (), ())
        values = {
            "archive": archive,
            "senders": list(senders),
            "reasons": list(reasons),
            "counts": list(counts),
        }
        self._rows("refused", values)

    def turned_away(self, archive: str | None) -> tuple[TurnedAway, ...]:
        """What the last sweep of each archive passed over, and what its listener refused."""
        return tuple(TurnedAway(*row) for row in self._rows("turned_away", {"archive": archive}))

    def undated_since(self, archive: str, moment: datetime) -> bool:
        """Whether studies without a date were asked for at ``moment`` or later."""
        return bool(self._rows("undated_since", {"archive": archive, "moment": moment})[0][0])

    def covered_until(self, archive: str) -> date | None:
        """The last day up to which ended sweeps of the archive cover every day, or None where none has yet."""
        rows = self._rows("covered_until", {"archive": archive})
        day: date | None = rows[0][0] if rows else None
        return day

    def swept_since(self, archive: str, recipe: str, moment: datetime) -> bool:
        """Whether a sweep that goes on from the coverage began at ``moment`` or later and has ended."""
        return bool(self._rows("swept_since", {"archive": archive, "recipe": recipe, "moment": moment})[0][0])

    def pause(self, who: str, why: str) -> bool:
        """Pause drafting until ``resume``; False where it is paused already."""
        return bool(self._rows("pause", {"who": who, "why": why}))

    def resume(self, who: str) -> Pause | None:
        """End the pause; returns the one that held, or None where none did."""
        rows = self._rows("resume", {"who": who})
        return Pause(*rows[0]) if rows else None

    def paused(self) -> Pause | None:
        """The pause that holds, or None."""
        rows = self._rows("holding", {})
        return Pause(*rows[0]) if rows else None

    def received_ready(self, archive: str, recipe: str, seconds: float = 0.0) -> tuple[int, ...]:
        """Ledger rows of studies that were handed over at least ``seconds`` ago and nobody works on, oldest first."""
        rows = self._rows("received_ready", {"archive": archive, "recipe": recipe, "seconds": seconds})
        return tuple(ledger_id for (ledger_id,) in rows)

    def received_unknown(self, archive: str, recipe: str) -> tuple[str, ...]:
        """Study Instance UIDs of what was pushed, is not settled and has no ledger row of this recipe."""
        rows = self._rows("received_unknown", {"archive": archive, "recipe": recipe})
        return tuple(uid for (uid,) in rows)

    def _rows(self, name: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        def work(connection: Any) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement("sweeps", name), values)
            return cursor.fetchall() if cursor.description else []

        return self._connections.run(work)
