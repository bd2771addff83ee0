"""Writing what the work on studies came to: several in one transaction, and alone where one of them is refused."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Generic, NamedTuple, TypeVar

import psycopg

from pipeline.errors import FirstreadError, RetryLater, StopRun
from pipeline.ledger import Completeness, ReportOutcome, SettledOutcome
from pipeline.store import saving
from pipeline.store.claims import lost_claim
from pipeline.store.codec import as_json
from pipeline.store.connections import Connection
from pipeline.store.refusals import translated
from pipeline.store.statements import statement
from pipeline.store.values import SavedVersion

Outcome = TypeVar("Outcome", ReportOutcome, SettledOutcome)
Part = TypeVar("Part")
Given = TypeVar("Given")
Values = Mapping[str, Any]
Row = tuple[Any, ...]
Cursor = psycopg.Cursor[Row]


class Writing(NamedTuple, Generic[Outcome, Part, Given]):
    """How one kind of outcome is written: by which statement, with which values, and what its row says."""

    statement: str
    prepared: Callable[[Outcome], Part]
    """Raises FailStudy where the outcome cannot be stored."""
    fits: Callable[[Sequence[Part], Part], bool]
    """Whether a transaction that writes the first may write the second too."""
    values: Callable[[Sequence[Part]], Values]
    answers: Callable[[Sequence[Part], Row | None], list[Given | FirstreadError]]
    """Of each, its result or error; empty where nothing was written and each is to be given alone."""


def each(
    connection: Connection, many: Sequence[Outcome], writing: Writing[Outcome, Part, Given]
) -> list[Given | FirstreadError]:
    """Write every outcome whole or not at all; returns its result or its error, in order.

    Those that fit together are one transaction. Such batches are sent one behind the other without waiting (PostgreSQL
    manual, libpq Pipeline Mode), each prepared while the server writes the one before. A batch in which one is refused
    leaves nothing, and each of it is written alone and gets its own answer. Commits wait for the disk together: each is
    made without waiting, and one last commit that does wait makes all of them durable before this returns (Asynchronous
    Commit). Errors of the database itself, not of one study, are raised as they came.
    """
    heard: dict[int, Given | FirstreadError] = {}
    parts: dict[int, Part] = {}
    batches = _batches(many, writing, parts, heard)
    if len(many) == 1:
        for _ in batches:
            only = _alone(connection, parts[0], writing, "on")
            heard[0] = only
        return [heard[0]]
    _send(connection, batches, writing, parts, heard)
    for place, part in parts.items():
        if place not in heard:
            alone = _alone(connection, part, writing, "off")
            heard[place] = alone
    connection.execute(statement("ledger", "flush_commits"))
    return [heard[place] for place in range(len(many))]


def _batches(
    many: Sequence[Outcome],
    writing: Writing[Outcome, Part, Given],
    parts: dict[int, Part],
    heard: dict[int, Given | FirstreadError],
) -> Iterator[list[int]]:
    """Places of what is written together, in order; ``parts`` gets what is to be written, ``heard`` what cannot be."""
    batch: list[int] = []
    for place, outcome in enumerate(many):
        try:
            part = writing.prepared(outcome)
        except FirstreadError as error:
            heard[place] = error
            continue
        if batch and not writing.fits([parts[one] for one in batch], part):
            yield batch
            batch = []
        parts[place] = part
        batch.append(place)
    if batch:
        yield batch


def _send(
    connection: Connection,
    batches: Iterator[list[int]],
    writing: Writing[Outcome, Part, Given],
    parts: Mapping[int, Part],
    heard: dict[int, Given | FirstreadError],
) -> None:
    """Put each one's result into ``heard``, but not of batches that were refused, and of those that were not sent.

    They are to be written once more: what was written and not heard of gives the same answer again.
    """
    sent: list[tuple[list[int], Cursor]] = []
    try:
        with connection.pipeline() as pipeline:
            for batch in batches:
                values = {**writing.values([parts[place] for place in batch]), "commit": "off"}
                sent.append((batch, connection.cursor()))
                sent[-1][1].execute(statement("ledger", writing.statement), values)
                pipeline.sync()  # the end of its transaction
    except psycopg.Error:
        if connection.closed:
            raise
    for batch, cursor in sent:
        if cursor.pgresult is not None:
            answers = writing.answers([parts[place] for place in batch], cursor.fetchone())
            heard.update(zip(batch, answers, strict=False))


def _alone(
    connection: Connection, part: Part, writing: Writing[Outcome, Part, Given], commit: str
) -> Given | FirstreadError:
    try:
        values = {**writing.values([part]), "commit": commit}
        row = connection.execute(statement("ledger", writing.statement), values).fetchone()
    except psycopg.Error as error:
        known = translated(error)
        if isinstance(known, RetryLater | StopRun):
            raise
        return known
    (answer,) = writing.answers([part], row)
    return answer


def _settled_values(outcome: SettledOutcome) -> Values:
    """The parameters of ``settle_study``. Raises FailStudy."""
    known = {
        **_completeness(outcome.completeness),
        **asdict(outcome.circumstances),
        "received": outcome.received,
    }
    return {
        "ledger_id": outcome.claim.ledger_id,
        "token": outcome.claim.token,
        "state": outcome.state.value,
        "code": outcome.code,
        "message": outcome.message,
        "next_attempt_at": outcome.next_attempt_at,
        "completeness": as_json(known),
        "left_out": as_json(outcome.left_out),
        "audit": as_json(outcome.audit),
    }


def _completeness(known: Completeness | None) -> dict[str, Any]:
    """What is known of the instances; a study that was not retrieved has no manifest, and keeps the one it had."""
    if known is None:
        return {}
    return {**asdict(known), "manifest_digest": known.manifest_digest or None}


SAVING: Writing[ReportOutcome, saving.PreparedReport, SavedVersion] = Writing(
    "save_reports", saving.prepared, saving.fits, saving.values, saving.answers
)
SETTLING: Writing[SettledOutcome, Values, None] = Writing(
    "settle_study",
    _settled_values,
    lambda _, __: False,
    lambda parts: parts[0],
    lambda _, row: [None if row is not None and row[0] == "saved" else lost_claim()],
)
