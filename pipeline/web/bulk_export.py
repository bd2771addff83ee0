"""Bulk Data Access (HL7 FHIR Bulk Data, system level ``$export``): everything as it was at one moment, a line each.

Nothing is prepared: the first answer names an address where the list of files stands at once, and a file is read while
it is sent. The moment is the newest change time; what is committed later has a later one, so the next export,
``_since`` that moment, has the rest.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from pipeline.ledger import StoredResource
from pipeline.lookup import DateIs, HistorySearch, Order, Prefix, ResourceSearch, SortKey
from pipeline.web.history_parameters import instant_of
from pipeline.web.outcomes import FhirError
from pipeline.web.reader import Reader
from pipeline.web.search_values import alternatives, invalid
from pipeline.web.searchable import SEARCHABLE

NDJSON: Final = "application/fhir+ndjson"
_FORMATS: Final = frozenset({NDJSON, "application/ndjson", "ndjson"})
_AT_ONCE: Final = 200
_OLDEST_FIRST: Final = (SortKey(Order.CHANGED, ascending=True),)


@dataclass(frozen=True, slots=True)
class ExportWanted:
    """Types to export, and from which change time on."""

    kinds: tuple[str, ...]
    since: datetime | None = None

    def query(self, until: datetime, kinds: Sequence[str]) -> str:
        """Our own parameters of the list of files, or of one of them."""
        since = [("_since", self.since.isoformat())] if self.since else []
        return urlencode([("_type", ",".join(kinds)), ("until", until.isoformat()), *since])


def parse_export(parameters: Sequence[tuple[str, str]]) -> ExportWanted:
    """Read the parameters of the first request. Raises FhirError 400 naming the one that is not understood."""
    kinds: tuple[str, ...] = tuple(SEARCHABLE)
    since: datetime | None = None
    for name, value in parameters:
        if name == "_outputFormat":
            if value.replace(" ", "+") not in _FORMATS:
                raise invalid(name, f"only {NDJSON} is written")
        elif name == "_since":
            since = instant_of(value)
        elif name == "_type":
            asked = [one.strip() for one in alternatives(name, value)]
            if unknown := [one for one in asked if one not in SEARCHABLE]:
                raise invalid(name, f"{len(unknown)} of these types are not served here; see metadata")
            kinds = tuple(dict.fromkeys(asked))
        elif name not in ("_format", "_pretty"):
            raise FhirError(400, "not-supported", "$export takes _outputFormat, _since and _type")
    return ExportWanted(kinds, since)


def parse_until(parameters: Sequence[tuple[str, str]]) -> tuple[ExportWanted, datetime]:
    """Read what we have written into an address ourselves."""
    until = [instant_of(value) for name, value in parameters if name == "until"]
    if len(until) != 1:
        raise invalid("until", "follow the addresses of the export")
    return parse_export([one for one in parameters if one[0] != "until"]), until[0]


def newest_change(reader: Reader) -> datetime:
    """The change time of the last commit that is seen; everything with this time or an earlier one is seen too."""
    found = [
        page.resources[0].last_updated
        for kind in SEARCHABLE
        if (page := reader.search(ResourceSearch(kind, limit=1))).resources
    ]
    return max(found, default=datetime(1970, 1, 1, tzinfo=UTC))


def manifest(base: str, wanted: ExportWanted, until: datetime, *, token_needed: bool) -> dict[str, Any]:
    """The list of files (Bulk Data, response of the status request)."""
    asked = urlencode(
        [("_type", ",".join(wanted.kinds)), *([("_since", wanted.since.isoformat())] if wanted.since else [])]
    )
    return {
        "transactionTime": until.isoformat(timespec="milliseconds"),
        "request": f"{base}/$export?{asked}",
        "requiresAccessToken": token_needed,
        "output": [
            {"type": kind, "url": f"{base}/$export-file?{wanted.query(until, [kind])}"}
            for kind in wanted.kinds
        ],
        "error": [],
    }


def lines(
    reader: Reader,
    kind: str,
    wanted: ExportWanted,
    until: datetime,
    shown: Callable[[Sequence[StoredResource]], None],
) -> Iterator[str]:
    """The resources of ``kind`` as they were at ``until``, each once; ``shown`` is called before a part is given."""
    criteria = (
        (DateIs(Prefix.GREATER_OR_EQUAL, wanted.since, wanted.since, changed=True),) if wanted.since else ()
    )
    search = ResourceSearch(kind, criteria, _OLDEST_FIRST, limit=_AT_ONCE)
    given: set[str] = set()
    while True:
        page = reader.search(search)
        part = [
            version
            for one in page.resources
            if one.resource_id not in given and (version := _at(reader, one, until)) is not None
        ]
        given.update(one.resource_id for one in part)
        shown(part)
        yield "".join(f"{_line(one.body)}\n" for one in part)
        if not page.next:
            return
        search = ResourceSearch(kind, criteria, _OLDEST_FIRST, limit=_AT_ONCE, page=page.next)


def _at(reader: Reader, current: StoredResource, until: datetime) -> StoredResource | None:
    """The version that was current at ``until``; None where there was none yet."""
    if current.last_updated <= until:
        return current
    wanted = HistorySearch((current.resource_type,), current.resource_id, limit=_AT_ONCE)
    while True:
        page = reader.history(wanted)
        for one in page.resources:
            if one.last_updated <= until:
                return one
        if not page.next:
            return None
        wanted = HistorySearch(wanted.resource_types, wanted.resource_id, limit=_AT_ONCE, after=page.next)


def _line(body: str) -> str:
    """The body on one line, as it is stored: a line break can only stand between its tokens."""
    return body if "\n" not in body else json.dumps(json.loads(body), ensure_ascii=False)
