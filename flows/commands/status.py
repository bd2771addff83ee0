"""``firstread status``: how many studies stand in each state, and why some were skipped or failed.

A study is named by its ledger id; by accession number and Study Instance UID only when a person asks.
"""

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from flows.commands import table as display
from flows.commands.json_text import json_text
from flows.environment.listener_health import ListenerHealth, read_health
from flows.uncovered import UncoveredDays, uncovered_days
from pipeline.errors import ConfigurationError
from pipeline.ledger import LedgerState
from pipeline.mending import advice
from pipeline.settings import Settings
from pipeline.store.opening import open_store
from pipeline.store.values import QuietStudy, StatusCount, StatusFilter, StatusRow, TurnedAway

PATIENCE_SECONDS = 5.0
_SEARCH = "search"
EXPLAINED = (LedgerState.SKIPPED, LedgerState.FAILED)


def states_named(names: Sequence[str]) -> tuple[LedgerState, ...]:
    """The states of ``--state``. Raises ConfigurationError for another word."""
    known = {state.value: state for state in LedgerState}
    for name in names:
        if name not in known:
            raise ConfigurationError("state", f"--state must be one of {', '.join(known)}, not {name!r}")
    return tuple(known[name] for name in names)


def show_status(settings: Settings, wanted: StatusFilter, *, identify: bool, as_json: bool) -> None:
    """What waits in the inbox; counts by archive, state and code; then the rows that were asked for, or every failure.

    Naming a study by UID or accession number asks for its identifiers too.
    """
    named = bool(wanted.study_instance_uids or wanted.accession_numbers)
    asked = named or bool(wanted.states or wanted.codes)
    identify = identify or named
    rows_of = wanted if asked else StatusFilter(
        wanted.archive, (LedgerState.FAILED,), since=wanted.since, until=wanted.until
    )  # fmt: skip
    with open_store(settings, patience_seconds=PATIENCE_SECONDS) as store:
        counts, rows = store.status_counts(wanted), store.status_rows(rows_of)
        away = store.sweeps.turned_away(wanted.archive)
        received = store.inbox.quiet_studies(0.0, wanted.archive)
        uncovered = uncovered_days(settings, store, wanted.archive)
    health = read_health(settings.data_dir)
    if as_json:
        told = {
            **_plain(counts, rows, identify=identify),
            **_plain_away(away),
            "uncovered": [
                {"archive": one.archive, "since": one.since.isoformat(), "until": one.until.isoformat()}
                for one in uncovered
            ],
            "received": _received(received),
            "listener": health.told(time.time()) if health else None,
        }
        sys.stdout.write(json_text(told) + "\n")
        return
    if received and not asked:
        _show_received(received)
    if not counts:
        narrowed = wanted != StatusFilter()
        sys.stdout.write(
            "the ledger has no such study\n"
            if narrowed
            else "the ledger holds no study yet: see `firstread run`\n"
        )
        _show_away(away)
        _show_watch(uncovered, health)
        return
    _show_counts(counts)
    _show_reasons(counts)
    _show_rows(rows, "Studies" if asked else "Failed", identify=identify)
    _show_away(away)
    _show_watch(uncovered, health)


def _show_watch(uncovered: Sequence[UncoveredDays], health: ListenerHealth | None) -> None:
    """The days that no complete sweep covers, and how the listener of this data folder is."""
    if uncovered or health:
        sys.stdout.write("\n")
    for one in uncovered:
        days = f"{one.since}" if one.since == one.until else f"{one.since} to {one.until}"
        sys.stdout.write(f"archive {one.archive}: no complete sweep covers {days}; the next one catches up\n")
    if health:
        told = health.told(time.time())
        received = f"last received {told['received_at']}" if told["received_at"] else "nothing received yet"
        sys.stdout.write(
            f"listener {told['listener']}: {told['condition']}; {told['associations']} of {told['places']} places; "
            f"{received}\n"
        )


def _show_away(away: Sequence[TurnedAway]) -> None:
    """What became no study: passed over by the last sweep, or refused by the listener."""
    if not away:
        return
    sys.stdout.write("\n")
    display.rows_table(
        ("archive", "by", "reason", "count", "last"),
        [
            (
                one.archive,
                "last sweep" if one.source == _SEARCH else one.source,
                one.reason,
                str(one.count),
                f"{one.last_at:%b %d %H:%M}",
            )
            for one in away
        ],
        title="Passed over by the last sweep, and refused by listen",
    )


def _plain_away(away: Sequence[TurnedAway]) -> dict[str, Any]:
    return {
        "passed_over": [
            {"archive": one.archive, "reason": one.reason, "count": one.count}
            for one in away
            if one.source == _SEARCH
        ],
        "refused": [
            {"archive": one.archive, "sender": one.source, "reason": one.reason, "count": one.count}
            for one in away
            if one.source != _SEARCH
        ],
    }


def _show_received(received: Sequence[QuietStudy]) -> None:
    for one in _received(received):
        sys.stdout.write(
            f"{one['archive']}: {one['studies']} received and not handed over yet; the last instance came "
            f"{one['seconds_ago']:.0f} s ago\n"
        )


def _received(received: Sequence[QuietStudy]) -> list[dict[str, Any]]:
    """By archive: how many studies wait in the inbox for the rest of them, and when the last instance came."""
    archives = sorted({one.archive for one in received})
    newest = {name: max(one.newest for one in received if one.archive == name) for name in archives}
    return [
        {
            "archive": name,
            "studies": sum(one.archive == name for one in received),
            "seconds_ago": max(0.0, round((datetime.now(UTC) - newest[name]).total_seconds(), 1)),
        }
        for name in archives
    ]


def _show_counts(counts: Sequence[StatusCount]) -> None:
    totals: dict[tuple[str, LedgerState], list[int]] = {}
    for one in counts:
        total = totals.setdefault((one.archive, one.state), [0, 0])
        total[0] += one.studies
        total[1] += one.older
    has_older = any(older for _, older in totals.values())
    rows = [
        (archive, state.value, str(studies), *([str(older)] if has_older else []))
        for (archive, state), (studies, older) in totals.items()
    ]
    columns = ("archive", "state", "studies", *(["of older recipes"] if has_older else []))
    caption = "Older recipes: rows of former settings or models, which no run works on." if has_older else ""
    display.rows_table(columns, rows, caption=caption)


def _show_reasons(counts: Sequence[StatusCount]) -> None:
    """Why, by code; what to do about a failure."""
    told = [one for one in counts if one.state in EXPLAINED and one.studies]
    if told:
        sys.stdout.write("\n")
        display.rows_table(
            ("why", "archive", "state", "studies", "what to do"),
            [
                (
                    one.code,
                    one.archive,
                    one.state.value,
                    str(one.studies),
                    advice(one.code) if one.state is LedgerState.FAILED else "",
                )
                for one in told
            ],
        )


def _show_rows(rows: Sequence[StatusRow], title: str, *, identify: bool) -> None:
    if not rows:
        return
    sys.stdout.write("\n")
    display.rows_table(
        ("study", "archive", "state", "next try", "reason"),
        [
            (
                str(one.ledger_id),
                one.archive,
                one.state.value + ("" if one.in_force else ", older"),
                one.next_attempt_at.strftime("%b %d %H:%M") if one.next_attempt_at else "-",
                f"{one.code}: {one.reason}" if one.code else "",
            )
            for one in rows
        ],
        title=f"{title}, last changed first",
    )
    if identify:
        sys.stdout.write("\n")
        for one in rows:
            day = one.study_date.isoformat() if one.study_date else "no date"
            sys.stdout.write(f"{one.ledger_id}  {one.accession_number or '-'}  {day}\n")
            sys.stdout.write(f"  {one.study_instance_uid}\n")


def _plain(counts: Sequence[StatusCount], rows: Sequence[StatusRow], *, identify: bool) -> dict[str, Any]:
    """``counts`` by archive and state, ``reasons`` by code as well, ``rows`` each."""
    totals: dict[tuple[str, str], dict[str, Any]] = {}
    for one in counts:
        empty = {"archive": one.archive, "state": one.state.value, "studies": 0, "older": 0}
        total = totals.setdefault((one.archive, one.state.value), empty)
        total["studies"] += one.studies
        total["older"] += one.older
    return {
        "counts": list(totals.values()),
        "reasons": [
            {"archive": one.archive, "state": one.state.value, "code": one.code, "studies": one.studies}
            for one in counts
            if one.state in EXPLAINED and one.studies
        ],
        "rows": [_plain_row(one, identify=identify) for one in rows],
    }


def _plain_row(row: StatusRow, *, identify: bool) -> dict[str, Any]:
    named = {
        "study_instance_uid": row.study_instance_uid,
        "accession_number": row.accession_number,
        "study_date": row.study_date.isoformat() if row.study_date else None,
    }
    return {
        "ledger_id": row.ledger_id,
        "archive": row.archive,
        "state": row.state.value,
        "code": row.code,
        "reason": row.reason,
        "attempts": row.attempts,
        "next_attempt_at": row.next_attempt_at.isoformat() if row.next_attempt_at else None,
        "updated_at": row.updated_at.isoformat(),
        "current": row.in_force,
        **(named if identify else {}),
    }
