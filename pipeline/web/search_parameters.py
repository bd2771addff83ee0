"""From a FHIR query string to a ``ResourceSearch`` (R4 section 3.1.1). What is not understood is refused."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from pipeline.lookup import (
    Criterion,
    IdIn,
    IsMissing,
    IsNot,
    NameIs,
    NameMatch,
    PatientIn,
    ResourceSearch,
    SortKey,
    StatusIn,
    StudyIn,
    TargetIn,
    Token,
    TokenIn,
)
from pipeline.web.outcomes import FhirError
from pipeline.web.search_values import (
    CONTROL,
    alternatives,
    codes,
    date_is,
    invalid,
    plain,
    references,
    tokens,
    uids,
)
from pipeline.web.searchable import (
    INCLUDES,
    MODIFIERS,
    REVINCLUDE,
    SEARCHABLE,
    STATUS_SYSTEMS,
    TARGETS,
    sort_keys,
)
from pipeline.web.shaping import Shape, shape_of

DEFAULT_COUNT: Final = 50
LARGEST_COUNT: Final = 200
MOST_PARAMETERS: Final = 50
ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)
"""A logical id (R4 section 2.24.0.1); nothing else is asked of the store."""

_IGNORED = frozenset({"_pretty", "_totalMethod"})
"""They change neither whose records are shown nor what is told of them. ``_totalMethod`` is fhirpy's own."""
_SAID_OTHERWISE = {
    "patient:Patient": "patient",
    "subject:Patient": "subject",
    "subject.identifier": "patient.identifier",
    "patient:Patient.identifier": "patient.identifier",
    "subject:Patient.identifier": "patient.identifier",
}
_MANY = frozenset({"_include", "_revinclude"})


@dataclass(frozen=True, slots=True)
class ParsedSearch:
    """A search as understood. ``used`` are the parameters honoured, for the self link.

    ``chained`` are the values of ``patient.identifier``, each to be resolved to Patients first. ``count_only`` asks for
    the total alone, ``total`` for the total beside the page. ``includes`` are parameters of ``INCLUDES``.
    """

    search: ResourceSearch
    used: tuple[tuple[str, str], ...]
    chained: tuple[tuple[Token, ...], ...] = ()
    count_only: bool = False
    total: bool = False
    includes: tuple[str, ...] = ()
    with_provenance: bool = False
    shape: Shape = field(default_factory=Shape)


@dataclass(slots=True)
class _Reading:
    """The search while its parameters are read one by one."""

    kind: str
    base: str
    search: ResourceSearch
    criteria: list[Criterion] = field(default_factory=list)
    used: list[tuple[str, str]] = field(default_factory=list)
    chained: list[tuple[Token, ...]] = field(default_factory=list)
    count_only: bool = False
    total: bool = False
    includes: list[str] = field(default_factory=list)
    with_provenance: bool = False
    shape: Shape = field(default_factory=Shape)


def parse_search(
    resource_type: str, parameters: Sequence[tuple[str, str]], *, base: str, strict: bool
) -> ParsedSearch:
    """Read ``parameters`` of a search over ``resource_type``.

    An unknown parameter, modifier or chain and a value that says nothing are refused, whatever leniency the client
    prefers (R4 section 3.1.1.2 lets a server choose): a filter that is left out would show everyone's records.
    ``strict`` refuses even what we can only ignore. A repeated filter must hold too (R4 section 3.1.1.3). ``base`` is
    our own FHIR base URL, for absolute references. Raises FhirError 400 naming the parameter, 404 for a type that is
    not served.
    """
    if resource_type not in SEARCHABLE:
        raise FhirError(404, "not-supported", "that resource type is not served here; see metadata")
    if len(parameters) > MOST_PARAMETERS:
        raise FhirError(400, "too-costly", f"at most {MOST_PARAMETERS} parameters")
    reading = _Reading(resource_type, base, ResourceSearch(resource_type, limit=DEFAULT_COUNT))
    seen: set[str] = set()
    for written, value in parameters:
        name = _name(written)
        read = _reader(resource_type, name)
        if read is None:
            if strict:
                raise FhirError(400, "not-supported", f"{name} is not supported; see metadata")
            continue
        if not value.strip():
            raise invalid(name, "has no value")
        if CONTROL.search(value):
            raise invalid(name, "holds control characters")
        if name in seen and name in _SHAPING and name not in _MANY:
            raise invalid(name, "may be given once")
        seen.add(name)
        if read(reading, name, value) is not False:
            reading.used.append((written, value))
        elif strict:
            raise FhirError(400, "not-supported", f"{name}: that value is not supported; see metadata")
    return _parsed(reading)


def _parsed(reading: _Reading) -> ParsedSearch:
    return ParsedSearch(
        search=replace(reading.search, criteria=tuple(reading.criteria)),
        used=tuple(reading.used),
        chained=tuple(reading.chained),
        count_only=reading.count_only,
        total=reading.total,
        includes=tuple(dict.fromkeys(reading.includes)),
        with_provenance=reading.with_provenance,
        shape=reading.shape,
    )


def _name(written: str) -> str:
    """The parameter as it is known: the type of a patient changes nothing here, and a subject is a patient."""
    return _SAID_OTHERWISE.get(written, written)


Reader = Callable[[_Reading, str, str], bool | None]
"""Reads one value into the search; False if it could only be ignored."""


def _reader(kind: str, name: str) -> Reader | None:
    """How ``name`` is read; None for what may be ignored."""
    if name in _SHAPING:
        return _SHAPING[name]
    known = SEARCHABLE[kind]
    if name in known:
        return _FILTERS.get(name) or _BY_TYPE[known[name]]
    if name in _IGNORED:
        return None
    if read := _modified(known, name):
        return read
    if re.split(r"[:.]", name, maxsplit=1)[0] in known:
        raise FhirError(400, "not-supported", "a search modifier or chain is not supported; see metadata")
    raise FhirError(400, "not-supported", "an unknown search parameter; see metadata")


def _modified(known: Mapping[str, str], name: str) -> Reader | None:
    """How a parameter with one of ``MODIFIERS`` is read; None for any other name."""
    parameter, _, modifier = name.partition(":")
    kind = known.get(parameter, "")
    if modifier not in MODIFIERS.get(kind, ()) or "." in parameter:
        return None
    if modifier == "missing":
        return partial(_missing, parameter)
    return partial(_not, parameter) if modifier == "not" else _names


def _missing(parameter: str, reading: _Reading, name: str, value: str) -> None:
    if value not in ("true", "false"):
        raise invalid(name, "only true and false exist")
    reading.criteria.append(IsMissing(parameter, value == "true"))


def _not(parameter: str, reading: _Reading, name: str, value: str) -> None:
    apart = replace(reading, criteria=[])
    (_FILTERS.get(parameter) or _tokens)(apart, parameter, value)
    if not apart.criteria:
        raise invalid(name, "names no code")
    reading.criteria += [
        IsNot(one) for one in apart.criteria if isinstance(one, IdIn | TokenIn | StudyIn | StatusIn)
    ]


def _ids(reading: _Reading, name: str, value: str) -> None:
    reading.criteria.append(IdIn(tuple(plain(one) for one in alternatives(name, value))))


def _date(reading: _Reading, name: str, value: str) -> None:
    reading.criteria.append(date_is(name, value, now=datetime.now(UTC)))


def _patients(reading: _Reading, name: str, value: str) -> None:
    found = references(name, value, reading.base, ("Patient",))
    reading.criteria.append(PatientIn(tuple(one.removeprefix("Patient/") for one in found)))


def _targets(reading: _Reading, name: str, value: str) -> None:
    reading.criteria.append(TargetIn(references(name, value, reading.base, TARGETS)))


def _tokens(reading: _Reading, name: str, value: str) -> None:
    reading.criteria.append(TokenIn(name, tokens(name, value)))


def _chain(reading: _Reading, name: str, value: str) -> None:
    reading.chained.append(tokens(name, value))


def _names(reading: _Reading, name: str, value: str) -> None:
    part, _, modifier = name.partition(":")
    texts = tuple(plain(one).strip() for one in alternatives(name, value))
    if not all(any(not unicodedata.combining(letter) for letter in one) for one in texts):
        raise invalid(name, "holds accents alone, with which every name begins")
    reading.criteria.append(NameIs(part, texts, NameMatch(modifier or "starts")))


def _studies(reading: _Reading, name: str, value: str) -> None:
    reading.criteria.append(StudyIn(uids(name, value)))


def _statuses(reading: _Reading, name: str, value: str) -> None:
    wanted = codes(name, value, STATUS_SYSTEMS[reading.kind])
    if wanted is not None:
        reading.criteria.append(StatusIn(wanted))


def _count(reading: _Reading, name: str, value: str) -> None:
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise invalid(name, "not a number from 0 upwards")
    reading.count_only = reading.count_only or int(value) == 0
    reading.search = replace(reading.search, limit=max(1, min(int(value), LARGEST_COUNT)))


def _page(reading: _Reading, _: str, value: str) -> None:
    reading.search = replace(reading.search, page=value)


def _sort(reading: _Reading, name: str, value: str) -> None:
    orders, keys = sort_keys(reading.kind), [one.strip() for one in alternatives(name, value)]
    wanted = [SortKey(orders[key], key == one) for one in keys if (key := one.removeprefix("-")) in orders]
    if len(wanted) < len(keys) or len({key.order for key in wanted}) < len(keys):
        told = f"{name}: each of {', '.join(orders)} once at most, with - for the latest first"
        raise FhirError(400, "not-supported", told)
    reading.search = replace(reading.search, keys=tuple(wanted))


def _include(reading: _Reading, name: str, value: str) -> None:
    kind, _, rest = value.partition(":")
    parameter, _, target = rest.partition(":")
    known = INCLUDES.get(reading.kind, {})
    if kind != reading.kind or parameter not in known or (target and target not in known[parameter][1]):
        raise FhirError(400, "not-supported", f"{name}: not an include of this type; see metadata")
    reading.includes.append(parameter)


def _revinclude(reading: _Reading, name: str, value: str) -> None:
    if value not in (REVINCLUDE, f"{REVINCLUDE}:{reading.kind}") or reading.kind == "Provenance":
        raise FhirError(400, "not-supported", f"{name}: only {REVINCLUDE} is supported")
    reading.with_provenance = True


def _summary(reading: _Reading, name: str, value: str) -> bool:
    if value not in ("count", "false", "true", "text", "data"):
        raise invalid(name, "only true, text, data, count and false exist")
    if value == "count":
        reading.count_only = True
    elif value in ("text", "data"):
        reading.shape = _shaped(reading, name, shape_of(summary=value))
    return value != "true"  # R4 section 3.1.1.5.8: the whole resource will do


def _elements(reading: _Reading, name: str, value: str) -> None:
    names = [one.strip() for one in alternatives(name, value)]
    if not all(re.fullmatch(r"[A-Za-z]+", one, re.ASCII) for one in names):
        raise invalid(name, "names of top-level elements, separated by commas")
    reading.shape = _shaped(reading, name, shape_of(elements=names))


def _shaped(reading: _Reading, name: str, shape: Shape) -> Shape:
    if reading.shape != Shape():
        raise invalid(name, "either _elements or _summary")
    return shape


def _total(reading: _Reading, name: str, value: str) -> None:
    if value not in ("none", "estimate", "accurate"):
        raise invalid(name, "only none, estimate and accurate exist")
    reading.total = value != "none"


def _contained(_: _Reading, name: str, value: str) -> None:
    if value != "false":
        raise FhirError(400, "not-supported", f"{name}: only false is supported")


def _format(_: _Reading, __: str, ___: str) -> None:
    """Read with the Accept header (``negotiation``)."""


_SHAPING: dict[str, Reader] = {
    "_count": _count,
    "_page": _page,
    "_sort": _sort,
    "_include": _include,
    "_revinclude": _revinclude,
    "_summary": _summary,
    "_elements": _elements,
    "_total": _total,
    "_contained": _contained,
    "_format": _format,
}
_BY_TYPE: dict[str, Reader] = {"token": _tokens, "date": _date, "string": _names, "reference": _patients}
_FILTERS: dict[str, Reader] = {
    "_id": _ids,
    "patient.identifier": _chain,
    "study-uid": _studies,
    "status": _statuses,
    "target": _targets,
}
