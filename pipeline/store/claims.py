"""The ledger's work: recording what was found, claiming under a lease, and moving claims along.

Each function is one statement on one connection and bears being repeated after a lost answer.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.errors import LostClaim
from pipeline.ledger import Claim, Completeness, LedgerState, WorkFilter
from pipeline.store.codec import as_json
from pipeline.store.connections import Connection
from pipeline.store.presence import LOCK_CLASS
from pipeline.store.statements import statement
from pipeline.store.values import FoundCounts, SettledStudy
from pipeline.study import FoundStudy

DAYS_LISTED = 7
"""Studies of so many days are listed by every sweep that finds them, whatever their count."""


def record_found(
    connection: Connection, archive: str, recipe: str, found: Sequence[FoundStudy]
) -> FoundCounts:
    """Write a page of found studies; see ``Store.record_found``."""
    values = {
        "archive": archive,
        "recipe": recipe,
        "uids": [study.study_instance_uid for study in found],
        "dates": [study.study_date for study in found],
        "modalities": [storable("\\".join(study.modalities)) for study in found],
        "accessions": [storable(study.accession_number) for study in found],
        "counts": [study.announced_instances for study in found],
        "digests": [study.demographics_digest for study in found],
        "patients": [study.patients for study in found],
    }
    with connection.transaction():
        connection.execute(
            statement("ledger", "take_force"), {"archive": archive, "recipe": recipe, "uids": values["uids"]}
        )
        row = connection.execute(statement("ledger", "record_found"), values).fetchone()
        assert row is not None
        new, changed, distinct, failed = row
        to_do = connection.execute(
            statement("ledger", "to_do_among"), {"archive": archive, "recipe": recipe, "uids": values["uids"]}
        ).fetchall()
    unchanged = distinct - new - changed - failed
    return FoundCounts(new, changed, unchanged, tuple(ledger_id for (ledger_id,) in to_do), failed)


def resting_among(
    connection: Connection, archive: str, recipe: str, uids: Sequence[str]
) -> tuple[SettledStudy, ...]:
    """Rows at rest among these studies whose archive announces no counts, and those of the last days."""
    values = {"archive": archive, "recipe": recipe, "uids": list(uids), "days": DAYS_LISTED}
    rows = connection.execute(statement("ledger", "resting_among"), values).fetchall()
    return tuple(SettledStudy(*row) for row in rows)


def record_announced(connection: Connection, ledger_id: int, digest: str, count: int) -> bool:
    """Note the image-level list; True when it differs from the one before, and the study is to be done again."""
    values = {"ledger_id": ledger_id, "digest": digest, "count": count}
    row = connection.execute(statement("ledger", "record_announced"), values).fetchone()
    return row is not None and bool(row[0])


def claim(
    connection: Connection,
    call: uuid.UUID,
    process: int,
    settle_seconds: float,
    wanted: WorkFilter,
    *,
    recipe: str,
    owner: str,
    limit: int,
    lease_seconds: float,
    again: bool,
) -> list[Claim]:
    """Claim rows; with ``again``, an earlier try of the same ``call`` may have claimed them and its answer got lost."""
    if again:
        mine = connection.execute(
            statement("ledger", "claimed_by_call"), {"recipe": recipe, "call": call}
        ).fetchall()
        if mine:
            return [_claim(row) for row in mine]
    rows = connection.execute(
        statement("ledger", "claim"),
        {
            "class": LOCK_CLASS,
            "recipe": recipe,
            "archive": wanted.archive,
            "ledger_ids": list(wanted.ledger_ids) if wanted.ledger_ids is not None else None,
            "since": wanted.since,
            "until": wanted.until,
            "begun": wanted.begun,
            "received": wanted.received,
            "settle": settle_seconds,
            "alone": wanted.alone,
            "limit": limit,
            "owner": owner,
            "process": process,
            "call": call,
            "seconds": lease_seconds,
        },
    ).fetchall()
    return sorted((_claim(row) for row in rows), key=lambda one: one.ledger_id)


def suspects(connection: Connection, recipe: str, wanted: WorkFilter) -> tuple[int, ...]:
    """Open rows over which a process died, and rows worked on now; see ``Store.suspects``."""
    values = {
        "recipe": recipe,
        "archive": wanted.archive,
        "ledger_ids": list(wanted.ledger_ids) if wanted.ledger_ids is not None else None,
        "since": wanted.since,
        "until": wanted.until,
    }
    return tuple(ledger_id for (ledger_id,) in connection.execute(statement("ledger", "suspects"), values))


def note_work(connection: Connection, begun: Sequence[Claim], ended: Sequence[Claim]) -> None:
    """Note which claims are worked on from now on and which no longer."""
    both = [*begun, *ended]
    values = {
        "ledger_ids": [one.ledger_id for one in both],
        "tokens": [one.token for one in both],
        "begun": [True] * len(begun) + [False] * len(ended),
    }
    connection.execute(statement("ledger", "note_work"), values)


def renew(
    connection: Connection, claims: Sequence[Claim], process: int, lease_seconds: float
) -> tuple[Claim, ...]:
    """Extend the leases; returns the claims that are no longer ours."""
    return _fenced(connection, "renew", claims, {"seconds": lease_seconds, "process": process})


def advance(connection: Connection, claims: Sequence[Claim], state: LedgerState) -> tuple[Claim, ...]:
    """Move the claims to ``state``; returns those that are no longer ours."""
    return _fenced(connection, "advance", claims, {"state": state.value})


def rested(connection: Connection, tokens: Mapping[int, int]) -> tuple[LedgerState, ...]:
    """The states of those rows that rest since the claim with this token and no later one."""
    values = {"ledger_ids": list(tokens), "tokens": list(tokens.values())}
    return tuple(LedgerState(state) for (state,) in connection.execute(statement("ledger", "rested"), values))


def release(connection: Connection, claims: Sequence[Claim]) -> tuple[Claim, ...]:
    """Give the claims back untouched; returns those that were no longer ours."""
    return _fenced(connection, "release", claims, {})


def record_complete(connection: Connection, held: Claim, completeness: Completeness) -> None:
    """Note what is held. Raises LostClaim."""
    values = {
        "ledger_id": held.ledger_id,
        "token": held.token,
        "announced": completeness.announced,
        "held": completeness.held,
        "missing": list(completeness.missing),
        "damaged": as_json(completeness.damaged),
        "manifest_digest": completeness.manifest_digest,
        "announced_digest": completeness.announced_digest,
    }
    if connection.execute(statement("ledger", "record_complete"), values).fetchone() is None:
        raise lost_claim()


def lost_claim() -> LostClaim:
    """The error for a claim that is no longer the newest."""
    return LostClaim("claim-lost", "another process has claimed this study since; its result will count")


def storable(text: str) -> str:
    """Text of an archive as Postgres can hold it: without NUL and lone surrogates."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def _fenced(
    connection: Connection, name: str, claims: Sequence[Claim], values: dict[str, Any]
) -> tuple[Claim, ...]:
    tokens = {"ledger_ids": [c.ledger_id for c in claims], "tokens": [c.token for c in claims]}
    kept = set(connection.execute(statement("ledger", name), tokens | values))
    return tuple(one for one in claims if (one.ledger_id, one.token) not in kept)


def _claim(row: tuple[Any, ...]) -> Claim:
    *known, modalities, deaths, patients = row
    return replace(Claim(*known), modalities=tuple(modalities), deaths=deaths, patients=patients)
