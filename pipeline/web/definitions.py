"""Definitions that this server publishes: what its resources use beside the standard, found by canonical and by id.

They are the same for everyone and name nobody, so they are given without a token and are not audited.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from pipeline.web.bundles import bundle
from pipeline.web.outcomes import FhirError
from pipeline.web.search_values import alternatives, plain

KINDS: Final = ("StructureDefinition", "CodeSystem", "SearchParameter")
SEARCHED_BY: Final = {"_id": "token", "url": "uri"}

Definition = Mapping[str, Any]


def found(published: Sequence[Definition], kind: str, identifier: str) -> Definition:
    """The definition of ``kind`` with this id. Raises FhirError 404."""
    for one in published:
        if one["resourceType"] == kind and one["id"] == identifier:
            return one
    raise FhirError(404, "not-found", "no such definition")


def searched(
    published: Sequence[Definition],
    kind: str,
    parameters: Sequence[tuple[str, str]],
    *,
    base: str,
    when: datetime,
) -> str:
    """The definitions of ``kind`` as a searchset Bundle: all, or those that ``url`` and ``_id`` name."""
    wanted = [(name, value) for name, value in parameters if name not in ("_format", "_pretty")]
    if any(name not in SEARCHED_BY for name, _ in wanted):
        raise FhirError(400, "not-supported", "definitions are searched by url and _id alone")
    asked = [
        (name.removeprefix("_"), {plain(one) for one in alternatives(name, value)}) for name, value in wanted
    ]
    matches = [
        one
        for one in published
        if one["resourceType"] == kind and all(one[element] in values for element, values in asked)
    ]
    entries = [
        json.dumps({"fullUrl": f"{base}/{kind}/{one['id']}", "resource": one, "search": {"mode": "match"}})
        for one in matches
    ]
    link = f"{base}/{kind}?{urlencode(wanted)}" if wanted else f"{base}/{kind}"
    return bundle("searchset", {"self": link}, entries, when=when, total=len(matches))
