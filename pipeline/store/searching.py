"""Searches over FHIR resources: one statement put together for each, from the conditions of ``searching.sql``."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.ledger import StoredResource
from pipeline.lookup import (
    Criterion,
    DateIs,
    IdIn,
    IsMissing,
    IsNot,
    NameIs,
    NameMatch,
    Order,
    PatientIn,
    Prefix,
    ResourcePage,
    ResourceSearch,
    SortKey,
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
_COLUMNS = {Order.CHANGED: "last_updated", Order.DATED: "dated_from", Order.ID: "resource_id"}
_BACKWARDS = "b."
"""Before the token of a row: the page that ends before it; alone: the last page of all."""
_PATHS = {
    "_id": "$.id",
    "_lastUpdated": "$",
    "patient": "$.subject",
    "subject": "$.subject",
    "date": "$ ? (exists(@.effectiveDateTime) || exists(@.effectivePeriod) || exists(@.effectiveInstant))",
    "birthdate": "$.birthDate",
    "family": "$.name[*].family",
    "given": "$.name[*].given",
    "modality": "$.series[*].modality",
    "study-uid": "$.imagingStudy",
}
"""Where the value of a search parameter stands in a resource, unless it is the element of its name."""
_NAME_PATHS = {
    "family": "$[*].family",
    "given": "$[*].given[*]",
    "name": '$[*].*[*] ? (@.type() == "string")',
}

Condition = tuple[str, dict[str, Any]]


def search(connection: Connection, wanted: ResourceSearch) -> ResourcePage:
    """One page. Raises ValueError for a token that is not ours, or is of another order."""
    text, values = searched(wanted)
    rows = connection.execute(text, values, prepare=False).fetchall()
    page, more = rows[: wanted.limit], len(rows) > wanted.limit
    backwards = wanted.page.startswith(_BACKWARDS)
    if backwards:
        page.reverse()
    first, last = (_token_of(wanted, row) for row in (page[0], page[-1])) if page else ("", "")
    following = last if page and (wanted.page != _BACKWARDS if backwards else more) else ""
    before = _BACKWARDS + first if page and (more if backwards else wanted.page) else ""
    return ResourcePage(tuple(StoredResource(*row[:5]) for row in page), following, before)


def count(connection: Connection, wanted: ResourceSearch) -> int:
    """How many match."""
    text, values = counted(wanted)
    row = connection.execute(text, values, prepare=False).fetchone()
    return int(row[0]) if row else 0


def searched(wanted: ResourceSearch) -> Condition:
    """The statement of one page, and its values; one row more than the page tells whether there is a next."""
    parts, values = _conditions(wanted, statement("searching", "found"))
    values["limit"] = wanted.limit + 1
    backwards = wanted.page.startswith(_BACKWARDS)
    keys = [(_COLUMNS[key.order], key.ascending is not backwards) for key in _keys(wanted)]
    if token := wanted.page.removeprefix(_BACKWARDS):
        instants, resource_id = place_of(_kind(wanted), token, len(_times(wanted)))
        places = {f"place_{number}": when or "-infinity" for number, when in enumerate(instants)}
        values |= places | {f"place_{len(instants)}": resource_id}
        parts.append(_beyond(keys))
    order = ", ".join(f"{column} {'ASC' if ascending else 'DESC'}" for column, ascending in keys)
    parts.append(statement("searching", "order").replace("@order", order))
    return "\n".join(parts), values


def _keys(wanted: ResourceSearch) -> tuple[SortKey, ...]:
    """The keys up to the id, which stands last in the direction of the key before it."""
    keys = [*wanted.keys, SortKey(Order.ID, wanted.keys[-1].ascending)]
    return tuple(keys[: [key.order for key in keys].index(Order.ID) + 1])


def _times(wanted: ResourceSearch) -> tuple[SortKey, ...]:
    return _keys(wanted)[:-1]


def _token_of(wanted: ResourceSearch, row: Sequence[Any]) -> str:
    instants = [row[5] if key.order is Order.DATED else row[3] for key in _times(wanted)]
    return token_of(_kind(wanted), instants, row[1])


def _beyond(keys: Sequence[tuple[str, bool]]) -> str:
    """Rows behind the place in the order of ``keys``.

    One comparison of rows where all go one way, which an index answers whole; else key by key, behind a bound for the
    index.
    """
    columns = [column for column, _ in keys]
    places = [
        f"%(place_{number})s" + ("" if column == _COLUMNS[Order.ID] else "::timestamptz")
        for number, column in enumerate(columns)
    ]
    than = [">" if ascending else "<" for _, ascending in keys]
    if len(set(than)) == 1:
        text = statement("searching", "behind").replace("@columns", ", ".join(columns))
        return text.replace("@than", than[0]).replace("@places", ", ".join(places))
    rest = "false"
    for column, place, beyond in reversed(list(zip(columns, places, than, strict=True))):
        step = statement("searching", "behind_in_turn").replace("@column", column).replace("@place", place)
        rest = step.replace("@than", beyond).replace("@rest", rest)
    bound = statement("searching", "no_further").replace("@column", columns[0]).replace("@place", places[0])
    return "\n".join((bound.replace("@than", than[0]), f"AND {rest}"))


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
        case NameIs(part, texts, NameMatch.EXACT):
            return statement("searching", "names_exactly"), {"one": list(texts), "path": _NAME_PATHS[part]}
        case NameIs(part, texts, match):
            named = "names" if match is NameMatch.STARTS else "names_within"
            return statement("searching", named), {"one": list(texts), "parts": _NAME_PARTS.get(part, [part])}
        case StudyIn(uids):
            return statement("searching", "studies"), {"one": list(uids)}
        case StatusIn(codes):
            return statement("searching", "statuses"), {"one": list(codes)}
        case TargetIn(references):
            return statement("searching", "targets"), _targets(references)
        case DateIs():
            return _dated(criterion)
        case IsMissing(parameter, missing):
            path = _PATHS.get(parameter, f"$.{parameter}")
            return statement("searching", "missing"), {"path": path, "missing": missing}
        case IsNot(unwanted):
            text, values = _condition(unwanted)
            return statement("searching", "not").replace("@condition", text.removeprefix("AND ")), values


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
    return "".join(f"{key.order.value[0]}{'a' if key.ascending else 'd'}" for key in _keys(wanted))
