"""Bundles as JSON text: resources leave as they were stored."""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pipeline.ledger import StoredResource
from pipeline.web.shaping import Shape, shaped


def bundle(
    kind: str, links: Mapping[str, str], entries: Sequence[str], *, when: datetime, total: int | None
) -> str:
    """A Bundle of ``kind`` around ``entries``, which are JSON text already."""
    head: dict[str, Any] = {
        "resourceType": "Bundle",
        "id": str(uuid.uuid4()),
        "meta": {"lastUpdated": when.isoformat(timespec="milliseconds")},
        "type": kind,
    }
    if total is not None:
        head["total"] = total
    head["link"] = [{"relation": relation, "url": url} for relation, url in links.items()]
    text = json.dumps(head)
    return f'{text[:-1]},"entry":[{",".join(entries)}]}}' if entries else text


def search_entries(
    base: str, matches: Iterable[StoredResource], beside: Iterable[StoredResource], shape: Shape
) -> list[str]:
    """Matches in their shape, and what they bring along whole."""
    return [
        *(_search_entry(base, one, "match", shape) for one in matches),
        *(_search_entry(base, one, "include", Shape()) for one in beside),
    ]


def history_entry(base: str, resource: StoredResource) -> str:
    """One version, as if it had come by PUT (R4 section 3.1.0.11)."""
    local = f"{resource.resource_type}/{resource.resource_id}"
    asked = json.dumps({"method": "PUT", "url": local})
    answered = json.dumps(
        {
            "status": "201" if resource.version_id == 1 else "200",
            "etag": f'W/"{resource.version_id}"',
            "lastModified": resource.last_updated.isoformat(),
        }
    )
    address = json.dumps(f"{base}/{local}")
    return f'{{"fullUrl":{address},"resource":{resource.body},"request":{asked},"response":{answered}}}'


def patients_of(resource: StoredResource) -> Iterable[str]:
    """Logical ids of the Patients whose records ``resource`` shows, for the audit."""
    if resource.resource_type == "Patient":
        return (resource.resource_id,)
    body = json.loads(resource.body)
    references = (body.get(element, {}).get("reference", "") for element in ("subject", "patient"))
    return tuple(ref.removeprefix("Patient/") for ref in references if ref.startswith("Patient/"))


def _search_entry(base: str, resource: StoredResource, mode: str, shape: Shape) -> str:
    address = json.dumps(f"{base}/{resource.resource_type}/{resource.resource_id}")
    body = shaped(resource.body, shape)
    return f'{{"fullUrl":{address},"resource":{body},"search":{{"mode":"{mode}"}}}}'
