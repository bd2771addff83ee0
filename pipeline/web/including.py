"""What a search brings along: what its matches refer to (``_include``), and the Provenance that speaks of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.ledger import StoredResource
from pipeline.lookup import Criterion, IdIn, ResourceSearch, TargetIn
from pipeline.web.outcomes import FhirError
from pipeline.web.reader import Reader
from pipeline.web.search_parameters import ParsedSearch
from pipeline.web.searchable import INCLUDES

MOST_INCLUDED = 10_000
"""Resources of one type that a page may bring along; more are refused, never cut in silence."""


def included(reader: Reader, parsed: ParsedSearch, matches: Sequence[StoredResource]) -> list[StoredResource]:
    """The resources to add to ``matches``, each once and none that is a match. Raises FhirError 400 if too many."""
    if not matches or not (parsed.includes or parsed.with_provenance):
        return []
    found: dict[tuple[str, str], StoredResource] = {}
    for kind, ids in _referred(parsed, matches).items():
        _add(found, reader, kind, IdIn(tuple(ids)))
    if parsed.with_provenance:
        _add(
            found,
            reader,
            "Provenance",
            TargetIn(tuple(f"{one.resource_type}/{one.resource_id}" for one in matches)),
        )
    for match in matches:
        found.pop((match.resource_type, match.resource_id), None)
    return list(found.values())


def _add(
    found: dict[tuple[str, str], StoredResource], reader: Reader, kind: str, criterion: Criterion
) -> None:
    page = reader.search(ResourceSearch(kind, (criterion,), limit=MOST_INCLUDED))
    if page.next:
        raise FhirError(400, "too-costly", "too much to include; ask for a smaller _count")
    found.update({(one.resource_type, one.resource_id): one for one in page.resources})


def _referred(parsed: ParsedSearch, matches: Sequence[StoredResource]) -> dict[str, list[str]]:
    """Ids by type, in the order in which they are referred to."""
    found: dict[str, dict[str, None]] = {}
    for match in matches:
        body = json.loads(match.body)
        for parameter in parsed.includes:
            element, kinds = INCLUDES[match.resource_type][parameter]
            for reference in _references(body.get(element)):
                kind, _, identifier = reference.partition("/_history/")[0].partition("/")
                if kind in kinds:
                    found.setdefault(kind, {})[identifier] = None
    return {kind: list(ids) for kind, ids in found.items()}


def _references(element: Any) -> Iterator[str]:
    for one in element if isinstance(element, list) else [element]:
        if isinstance(one, Mapping) and isinstance(one.get("reference"), str):
            yield one["reference"]
