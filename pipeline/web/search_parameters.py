"""From a FHIR query string to a ``ResourceSearch`` (R4 section 3.1.1), and what this server can search by."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from pipeline.lookup import IdentifierToken, InstantRange, ResourceSearch
from pipeline.web.dates import instant_range
from pipeline.web.outcomes import FhirError

DEFAULT_COUNT: Final = 50
LARGEST_COUNT: Final = 200
ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)
"""A logical id (R4 section 2.24.0.1); nothing else is asked of the store."""

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
"""Characters that no value we search by can hold."""

_UID = re.compile(r"(?:urn:dicom:uid\|)?(?:urn:oid:)?([0-9]+(?:\.[0-9]+)*)", re.ASCII)
_SPLIT = re.compile(r"(?<!\\),")
_BAR = re.compile(r"(?<!\\)\|")
_ESCAPED = re.compile(r"\\([,|$\\])")

_SHARED = {"_id": "token", "_lastUpdated": "date"}
_OF_PATIENT = {"patient": "reference", "subject": "reference", "patient.identifier": "token"}
SEARCHABLE: Final[dict[str, dict[str, str]]] = {
    "DiagnosticReport": _SHARED
    | _OF_PATIENT
    | {"identifier": "token", "study-uid": "token", "status": "token", "date": "date"},
    "ImagingStudy": _SHARED | _OF_PATIENT | {"identifier": "token"},
    "Observation": _SHARED | _OF_PATIENT | {"status": "token"},
    "Patient": _SHARED | {"identifier": "token"},
    "Device": _SHARED,
    "Organization": _SHARED,
    "Provenance": _SHARED,
}
"""Resource types served, and the type of each search parameter.

``study-uid`` is our own: R4 has no parameter that finds a DiagnosticReport by its study.
"""

_SHAPING = frozenset({"_count", "_page", "_format", "_summary", "_total"})
_IGNORABLE = frozenset({"_pretty", "_elements", "_sort", "_include", "_revinclude", "_contained"})
"""They change how much comes back or in which order, never whose.

Ignored unless the client asked for strictness.
"""


@dataclass(frozen=True, slots=True)
class ParsedSearch:
    """A search as understood. ``used`` are the parameters honoured, for the self link.

    ``patient_identifiers`` is the chain ``patient.identifier``, to be resolved to Patients first.
    ``count_only`` asks for the total alone, ``total`` for the total beside the page.
    """

    search: ResourceSearch
    used: tuple[tuple[str, str], ...]
    patient_identifiers: tuple[IdentifierToken, ...] = ()
    count_only: bool = False
    total: bool = False


@dataclass(slots=True)
class _Reading:
    """The search while its parameters are read one by one."""

    search: ResourceSearch
    base: str
    used: list[tuple[str, str]] = field(default_factory=list)
    patient_identifiers: tuple[IdentifierToken, ...] = ()
    count_only: bool = False
    total: bool = False


def parse_search(
    resource_type: str, parameters: Sequence[tuple[str, str]], *, base: str, strict: bool, lenient: bool
) -> ParsedSearch:
    """Read ``parameters`` of a search over ``resource_type``.

    An unknown parameter is refused unless ``lenient``: a misspelt filter that is ignored would show
    everyone's records. ``strict`` refuses even those that only shape the answer. ``base`` is our own FHIR
    base URL, for absolute references. Raises FhirError 400 naming the parameter, 404 for a type that is not
    served.
    """
    known = _known(resource_type)
    reading = _Reading(ResourceSearch(resource_type, limit=DEFAULT_COUNT), base)
    seen: set[str] = set()
    for written, value in parameters:
        name = "subject" if written == "subject:Patient" else written
        if name not in known and name not in _SHAPING:
            _refuse_unknown(name, known, strict=strict, lenient=lenient)
            continue
        if not value:
            continue
        if CONTROL.search(value):
            raise _invalid(name, "holds control characters")
        if name in seen and known.get(name) != "date":
            raise _invalid(name, "may be given once; separate alternatives with a comma")
        seen.add(name)
        _READERS[name](reading, name, value)
        if name != "_format":
            reading.used.append((written, value))
    if {"patient", "subject"} <= seen or ("patient.identifier" in seen and seen & {"patient", "subject"}):
        raise _invalid("patient", "may be given once, as patient, subject or patient.identifier")
    return ParsedSearch(
        reading.search, tuple(reading.used), reading.patient_identifiers, reading.count_only, reading.total
    )


def _known(resource_type: str) -> dict[str, str]:
    if resource_type not in SEARCHABLE:
        raise FhirError(404, "not-supported", "that resource type is not served here; see metadata")
    return SEARCHABLE[resource_type]


def _refuse_unknown(name: str, known: dict[str, str], *, strict: bool, lenient: bool) -> None:
    plain = re.split(r"[:.]", name, maxsplit=1)[0]
    if plain != name and plain in known:
        raise FhirError(400, "not-supported", "a search modifier or chain is not supported; see metadata")
    if strict or not (lenient or name in _IGNORABLE):
        raise FhirError(
            400, "not-supported", "an unknown search parameter; see metadata, or Prefer: handling=lenient"
        )


def _invalid(name: str, why: str) -> FhirError:
    return FhirError(400, "invalid", f"{name}: {why}")


def _alternatives(value: str) -> list[str]:
    return [part for part in _SPLIT.split(value) if part]


def _plain(value: str) -> str:
    return _ESCAPED.sub(r"\1", value)


def _identifiers(value: str) -> tuple[IdentifierToken, ...]:
    tokens = []
    for part in _alternatives(value):
        pieces = _BAR.split(part, maxsplit=1)
        system = _plain(pieces[0]) if len(pieces) == 2 else None
        tokens.append(IdentifierToken(system, _plain(pieces[-1])))
    return tuple(token for token in tokens if token.system or token.value)


def _ids(reading: _Reading, _: str, value: str) -> None:
    reading.search = replace(reading.search, ids=tuple(map(_plain, _alternatives(value))))


def _changed(reading: _Reading, name: str, value: str) -> None:
    reading.search = replace(reading.search, last_updated=(*reading.search.last_updated, _range(name, value)))


def _dated(reading: _Reading, name: str, value: str) -> None:
    reading.search = replace(reading.search, dates=(*reading.search.dates, _range(name, value)))


def _range(name: str, value: str) -> InstantRange:
    try:
        return instant_range(value)
    except ValueError as error:
        raise _invalid(name, str(error)) from None


def _patients(reading: _Reading, name: str, value: str) -> None:
    patients = []
    for part in _alternatives(value):
        local = part.removeprefix(f"{reading.base}/")
        kind, slash, rest = local.partition("/")
        if slash and kind != "Patient" and "://" not in local:
            raise _invalid(name, "refers to something that is not a Patient")
        patients.append(rest if slash and kind == "Patient" else local)
    reading.search = replace(reading.search, patients=tuple(patients))


def _identified(reading: _Reading, _: str, value: str) -> None:
    reading.search = replace(reading.search, identifiers=_identifiers(value))


def _patients_identified(reading: _Reading, _: str, value: str) -> None:
    reading.patient_identifiers = _identifiers(value)


def _studies(reading: _Reading, name: str, value: str) -> None:
    found = [_UID.fullmatch(part) for part in _alternatives(value)]
    if not all(match is not None and len(match[1]) <= 64 for match in found):
        raise _invalid(name, "not a DICOM UID (PS3.5 section 9), plain or as urn:oid:")
    reading.search = replace(reading.search, studies=tuple(match[1] for match in found if match is not None))


def _statuses(reading: _Reading, _: str, value: str) -> None:
    codes = tuple(_plain(_BAR.split(part)[-1]) for part in _alternatives(value))
    reading.search = replace(reading.search, statuses=codes)


def _count(reading: _Reading, name: str, value: str) -> None:
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise _invalid(name, "not a number from 0 upwards")
    reading.count_only = reading.count_only or int(value) == 0
    reading.search = replace(reading.search, limit=max(1, min(int(value), LARGEST_COUNT)))


def _page(reading: _Reading, _: str, value: str) -> None:
    reading.search = replace(reading.search, after=value)


def _summary(reading: _Reading, name: str, value: str) -> None:
    if value not in ("count", "false"):
        raise _invalid(name, "only count and false are supported")
    reading.count_only = reading.count_only or value == "count"


def _total(reading: _Reading, name: str, value: str) -> None:
    if value not in ("none", "estimate", "accurate"):
        raise _invalid(name, "only none, estimate and accurate exist")
    reading.total = value != "none"


def _format(_: _Reading, __: str, ___: str) -> None:
    """Read with the Accept header (``negotiation``)."""


_READERS: dict[str, Callable[[_Reading, str, str], None]] = {
    "_id": _ids,
    "_lastUpdated": _changed,
    "date": _dated,
    "patient": _patients,
    "subject": _patients,
    "patient.identifier": _patients_identified,
    "identifier": _identified,
    "study-uid": _studies,
    "status": _statuses,
    "_count": _count,
    "_page": _page,
    "_summary": _summary,
    "_total": _total,
    "_format": _format,
}
