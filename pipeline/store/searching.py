"""Searches over FHIR resources: one statement put together for each, from the conditions of ``searching.sql``."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.ledger import StoredResource
from pipeline.lookup import (
    Criterion,
    DateIs,
    IdIn,
    NameStarts,
    Order,
    PatientIn,
    Prefix,
    ResourcePage,
    ResourceSearch,
    StatusIn,
    StudyIn,
    TargetIn,
    Token,
    TokenIn,
)
from pipeline.store.connections import Connection
from pipeline.store.place import place_of, token_of
from pipeline.store.statements import statement

WIDEST_DATE = timedelta(days=366)
"""The longest range that a single FHIR date names: a leap year."""
_FURTHEST_ZONE = timedelta(hours=15)
"""More than a clock on the wall is ever away from UTC."""
_LAST = datetime.max.replace(tzinfo=UTC)
"""The end of the calendar: nothing is later, and what is dated 9999-12-31 ends no later either."""
_NAME_PARTS = {"name": ["name", "family", "given"]}
_CHANGED = ("last_updated", "(last_updated + interval '1 millisecond')")
_ISSUED = (
    "(body ->> 'issued')::timestamptz",
    "((body ->> 'issued')::timestamptz + interval '1 millisecond')",
)
_DATED = ("dated_from", "dated_until")
_LOCAL = ("local_from", "local_until")
_PREFIXES = {
    Prefix.EQUAL: "eq",
    Prefix.NOT_EQUAL: "ne",
    Prefix.GREATER: "gt",
    Prefix.LESS: "lt",
    Prefix.GREATER_OR_EQUAL: "ge",
    Prefix.LESS_OR_EQUAL: "le",
    Prefix.STARTS_AFTER: "sa",
    Prefix.ENDS_BEFORE: "eb",
    Prefix.APPROXIMATELY: "ap",
}
_TYPES = {True: "timestamp", False: "timestamptz"}
_FROM_START = (
    Prefix.EQUAL,
    Prefix.GREATER,
    Prefix.GREATER_OR_EQUAL,
    Prefix.STARTS_AFTER,
    Prefix.APPROXIMATELY,
)
_TO_END = (Prefix.EQUAL, Prefix.LESS, Prefix.LESS_OR_EQUAL, Prefix.ENDS_BEFORE, Prefix.APPROXIMATELY)
_PLACES = {
    (Order.CHANGED, False): ("changed_place_descending", "changed_order_descending"),
    (Order.CHANGED, True): ("changed_place_ascending", "changed_order_ascending"),
    (Order.DATED, False): ("dated_place_descending", "dated_order_descending"),
    (Order.DATED, True): ("dated_place_ascending", "dated_order_ascending"),
}

Condition = tuple[str, dict[str, Any]]


def search(connection: Connection, wanted: ResourceSearch) -> ResourcePage:
    """One page. Raises ValueError for a token that is not ours, or is of another order."""
    text, values = searched(wanted)
    rows = connection.execute(text, values, prepare=False).fetchall()
    page = rows[: wanted.limit]
    following = ""
    if len(rows) > wanted.limit and page:
        last = page[-1]
        following = token_of(_kind(wanted), last[5] if wanted.order is Order.DATED else last[3], last[1])
    return ResourcePage(tuple(StoredResource(*row[:5]) for row in page), following)


def count(connection: Connection, wanted: ResourceSearch) -> int:
    """How many match."""
    text, values = counted(wanted)
    row = connection.execute(text, values, prepare=False).fetchone()
    return int(row[0]) if row else 0


def searched(wanted: ResourceSearch) -> Condition:
    """The statement of one page, and its values; one row more than the page tells whether there is a next."""
    place, order = _PLACES[wanted.order, wanted.ascending]
    parts, values = _conditions(wanted, statement("searching", "found"))
    values["limit"] = wanted.limit + 1
    if wanted.after:
        values["place"], values["place_id"] = place_of(_kind(wanted), wanted.after)
        parts.append(statement("searching", place))
    parts.append(statement("searching", order))
    return "\n".join(parts), values


def counted(wanted: ResourceSearch) -> Condition:
    """The statement that counts, and its values."""
    parts, values = _conditions(wanted, statement("searching", "counted"))
    return "\n".join(parts), values


def _conditions(wanted: ResourceSearch, head: str) -> tuple[list[str], dict[str, Any]]:
    parts: list[str] = [head]
    values: dict[str, Any] = {"type": wanted.resource_type}
    for number, criterion in enumerate(wanted.criteria):
        text, named = _condition(criterion)
        parts.append(text.replace("#", str(number)))
        values |= {f"{name}_{number}": value for name, value in named.items()}
    return parts, values


def _condition(criterion: Criterion) -> Condition:
    match criterion:
        case IdIn(ids):
            return statement("searching", "ids"), {"one": list(ids)}
        case PatientIn(patients):
            return statement("searching", "patients"), {"one": [f"Patient/{one}" for one in patients]}
        case TokenIn("identifier", tokens):
            return statement("searching", "identifiers"), {"one": [_token(one) for one in tokens]}
        case TokenIn(parameter, tokens):
            return statement("searching", "tokens"), {"one": [f"{parameter}:{_token(one)}" for one in tokens]}
        case NameStarts(part, starts):
            return statement("searching", "names"), {
                "one": list(starts),
                "parts": _NAME_PARTS.get(part, [part]),
            }
        case StudyIn(uids):
            return statement("searching", "studies"), {"one": list(uids)}
        case StatusIn(codes):
            return statement("searching", "statuses"), {"one": list(codes)}
        case TargetIn(references):
            return statement("searching", "targets"), _targets(references)
        case DateIs():
            return _dated(criterion)


def _targets(references: Sequence[str]) -> dict[str, Any]:
    split = [one.partition("/") for one in references]
    return {
        "one": list(references),
        "types": [kind for kind, _, _ in split],
        "ids": [one for _, _, one in split],
    }


def _dated(wanted: DateIs) -> Condition:
    local = wanted.start.tzinfo is None
    moment = wanted.changed or wanted.issued
    begins, ends = _ISSUED if wanted.issued else _CHANGED if wanted.changed else _LOCAL if local else _DATED
    text = statement("searching", _PREFIXES[wanted.prefix])
    last = wanted.end.replace(tzinfo=UTC) == _LAST
    named: dict[str, Any] = {"start": wanted.start, "end": "infinity" if last else wanted.end}
    if wanted.prefix in (Prefix.GREATER, Prefix.GREATER_OR_EQUAL, Prefix.APPROXIMATELY):
        named["widest"] = _earlier(wanted.start, timedelta(seconds=1) if moment else WIDEST_DATE)
    if local:  # the index is of instants
        if wanted.prefix in _FROM_START:
            text += "\n" + statement("searching", "local_least")
            named["least"] = _earlier(named.get("widest", wanted.start), _FURTHEST_ZONE).replace(tzinfo=UTC)
        if wanted.prefix in _TO_END:
            text += "\n" + statement("searching", "local_most")
            named["most"] = _later(wanted.end, _FURTHEST_ZONE).replace(tzinfo=UTC)
    used = {name: value for name, value in named.items() if f"%({name}_#)s" in text}
    return text.replace("@from", begins).replace("@until", ends).replace("@type", _TYPES[local]), used


def _earlier(moment: datetime, by: timedelta) -> datetime:
    return moment - min(by, moment - datetime.min.replace(tzinfo=moment.tzinfo))


def _later(moment: datetime, by: timedelta) -> datetime:
    return moment + min(by, datetime.max.replace(tzinfo=moment.tzinfo) - moment)


def _token(token: Token) -> str:
    """The form under which ``identifier_tokens`` and ``coding_tokens`` (sql/versions) keep it."""
    if token.system is None:
        return f"v={token.value}"
    return f"s={token.system}|{token.value}" if token.value else f"y={token.system}"


def _kind(wanted: ResourceSearch) -> str:
    return f"{wanted.order.value[0]}{'a' if wanted.ascending else 'd'}"
