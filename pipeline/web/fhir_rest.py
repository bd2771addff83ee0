"""FHIR R4 REST under ``/fhir``: metadata, read, vread, history, search. Read only (R4 section 3.1.0)."""

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from pipeline.ledger import StoredResource
from pipeline.lookup import PatientIn, ResourcePage, ResourceSearch, TokenIn
from pipeline.web.capability import capability_statement
from pipeline.web.history_parameters import parse_history
from pipeline.web.including import included
from pipeline.web.negotiation import require_json
from pipeline.web.outcomes import FhirError, fhir_response
from pipeline.web.reader import Access, Audit, Clock, Interaction, Reader
from pipeline.web.search_parameters import ID, ParsedSearch, parse_search
from pipeline.web.searchable import SEARCHABLE
from pipeline.web.shaping import Shape, shaped

PREFIX = "/fhir"
LARGEST_FORM = 64 * 1024
"""Bytes of a search form that are read; a longer one is refused."""
_MOST_PATIENTS = 1000
"""Patients that a chained search may resolve to."""

Parameters = Sequence[tuple[str, str]]


async def _form(request: Request) -> str:
    """The body of ``POST [type]/_search``, read before the work moves to a thread."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM:
            raise FhirError(413, "too-long", "the search form is too long")
    return body.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class FhirRest:
    """The interactions. Each audits what it shows before it gives it."""

    reader: Reader
    audit: Audit
    clock: Clock
    started: datetime
    software_version: str

    def router(self) -> APIRouter:
        """The routes, in the order in which they are tried."""
        router = APIRouter(prefix=PREFIX)
        reading = ["GET", "HEAD"]
        router.add_api_route("/metadata", self.metadata, methods=reading)
        router.add_api_route("/{resource_type}", self.search, methods=reading)
        router.add_api_route("/{resource_type}/_search", self.search_form, methods=["POST"])
        router.add_api_route("/{resource_type}/{resource_id}", self.read, methods=reading)
        router.add_api_route("/{resource_type}/{resource_id}/_history", self.history, methods=reading)
        router.add_api_route("/{resource_type}/{resource_id}/_history/{version}", self.vread, methods=reading)
        return router

    def metadata(self, request: Request) -> Response:
        """The CapabilityStatement."""
        require_json(request.headers.get("accept"), _query(request))
        statement = capability_statement(
            base=_base(request), started=self.started, software_version=self.software_version
        )
        return fhir_response(json.dumps(statement))

    def read(self, request: Request, resource_type: str, resource_id: str) -> Response:
        """The current version, with ETag and Last-Modified; 304 where the client has it."""
        self._before(request, resource_type, resource_id)
        found = self.reader.read(resource_type, resource_id)
        self._record(request, Interaction.READ, resource_type, resource_id, [found] if found else [])
        if found is None:
            raise FhirError(404, "not-found", "no such resource")
        if _unchanged(request, found):
            return Response(status_code=304, headers=_version_headers(found))
        return fhir_response(found.body, headers=_version_headers(found))

    def vread(self, request: Request, resource_type: str, resource_id: str, version: str) -> Response:
        """One version, current or past."""
        self._before(request, resource_type, resource_id)
        number = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else 0
        found = self.reader.vread(resource_type, resource_id, number) if number else None
        self._record(request, Interaction.VREAD, resource_type, resource_id, [found] if found else [])
        if found is None:
            raise FhirError(404, "not-found", "no such resource, or no such version of it")
        return fhir_response(found.body, headers=_version_headers(found))

    def history(self, request: Request, resource_type: str, resource_id: str) -> Response:
        """Every version, newest first, as a history Bundle; since ``_since``, at most ``_count`` of them."""
        self._before(request, resource_type, resource_id)
        wanted = parse_history(_query(request))
        versions = self.reader.history(resource_type, resource_id)
        shown = wanted.of(versions)
        self._record(request, Interaction.HISTORY, resource_type, resource_id, shown)
        if not versions:
            raise FhirError(404, "not-found", "no such resource")
        base = _base(request)
        entries = [_history_entry(base, version) for version in shown]
        link = f"{base}/{resource_type}/{resource_id}/_history"
        if wanted.used:
            link = f"{link}?{urlencode(wanted.used)}"
        return fhir_response(self._bundle("history", {"self": link}, entries, total=wanted.total(versions)))

    def search(self, request: Request, resource_type: str) -> Response:
        """Search by GET."""
        return self._search(request, resource_type, _query(request), request.url.query)

    def search_form(
        self, request: Request, resource_type: str, form: Annotated[str, Depends(_form)]
    ) -> Response:
        """Search by POST, which keeps identifiers out of URLs and so out of proxies' logs."""
        kind = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
        if form and kind != "application/x-www-form-urlencoded":
            raise FhirError(415, "not-supported", "a search form is application/x-www-form-urlencoded")
        parameters = [*_query(request), *parse_qsl(form, keep_blank_values=True)]
        return self._search(request, resource_type, parameters, urlencode(parameters))

    def _search(self, request: Request, resource_type: str, parameters: Parameters, query: str) -> Response:
        require_json(request.headers.get("accept"), parameters)
        base = _base(request)
        prefer = request.headers.get("prefer", "").replace(" ", "").lower()
        parsed = parse_search(resource_type, parameters, base=base, strict="handling=strict" in prefer)
        wanted = self._resolved(parsed)
        page, total = self._answer(parsed, wanted)
        beside = included(self.reader, parsed, page.resources)
        self._record(request, Interaction.SEARCH, resource_type, "", [*page.resources, *beside], query=query)
        entries = [_search_entry(base, one, "match", parsed.shape) for one in page.resources]
        entries += [_search_entry(base, one, "include", Shape()) for one in beside]
        return fhir_response(
            self._bundle("searchset", _links(base, resource_type, parsed, page), entries, total=total)
        )

    def _resolved(self, parsed: ParsedSearch) -> ResourceSearch:
        """The search with each ``patient.identifier`` turned into the Patients that have it."""
        search = parsed.search
        for tokens in parsed.chained:
            chain = ResourceSearch("Patient", (TokenIn("identifier", tokens),), limit=_MOST_PATIENTS)
            found = self.reader.search(chain)
            if found.next:
                raise FhirError(400, "too-costly", "patient.identifier: matches too many patients")
            patients = PatientIn(tuple(resource.resource_id for resource in found.resources))
            search = replace(search, criteria=(*search.criteria, patients))
        return search

    def _answer(self, parsed: ParsedSearch, wanted: ResourceSearch) -> tuple[ResourcePage, int | None]:
        total = self.reader.count(wanted) if parsed.count_only or parsed.total else None
        if parsed.count_only:
            return ResourcePage(()), total
        try:
            return self.reader.search(wanted), total
        except ValueError:
            raise FhirError(
                400, "invalid", "_page: not a page of this server; follow its next links"
            ) from None

    def _before(self, request: Request, resource_type: str, resource_id: str) -> None:
        """What holds for every read: a format we write, a type we serve, an id that can be one (R4 id)."""
        require_json(request.headers.get("accept"), _query(request))
        if resource_type not in SEARCHABLE:
            raise FhirError(404, "not-supported", "that resource type is not served here; see metadata")
        if not ID.fullmatch(resource_id):
            raise FhirError(404, "not-found", "no such resource")

    def _record(
        self,
        request: Request,
        interaction: Interaction,
        resource_type: str,
        resource_id: str,
        shown: Iterable[StoredResource],
        query: str = "",
    ) -> None:
        shown = list(shown)
        patients = sorted({patient for resource in shown for patient in _patients_of(resource)})
        access = Access(
            interaction=interaction,
            resource_type=resource_type,
            resource_id=resource_id,
            query=query,
            patients=tuple(patients),
            agent=request.client.host if request.client else "",
            recorded=self.clock(),
            succeeded=bool(shown) or interaction is Interaction.SEARCH,
            request_id=request.state.request_id,
        )
        self.audit([access])

    def _bundle(self, kind: str, links: dict[str, str], entries: list[str], *, total: int | None) -> str:
        """A Bundle around ``entries``, which are JSON text already: resources leave as they were stored."""
        head: dict[str, Any] = {
            "resourceType": "Bundle",
            "id": str(uuid.uuid4()),
            "meta": {"lastUpdated": self.clock().isoformat(timespec="milliseconds")},
            "type": kind,
        }
        if total is not None:
            head["total"] = total
        head["link"] = [{"relation": relation, "url": url} for relation, url in links.items()]
        text = json.dumps(head)
        return f'{text[:-1]},"entry":[{",".join(entries)}]}}' if entries else text


def _links(base: str, resource_type: str, parsed: ParsedSearch, page: ResourcePage) -> dict[str, str]:
    address = f"{base}/{resource_type}"
    links = {"self": f"{address}?{urlencode(parsed.used)}" if parsed.used else address}
    if page.next:
        kept = [(name, value) for name, value in parsed.used if name != "_page"]
        links["next"] = f"{address}?{urlencode([*kept, ('_page', page.next)])}"
    return links


def _search_entry(base: str, resource: StoredResource, mode: str, shape: Shape) -> str:
    address = json.dumps(f"{base}/{resource.resource_type}/{resource.resource_id}")
    body = shaped(resource.body, shape)
    return f'{{"fullUrl":{address},"resource":{body},"search":{{"mode":"{mode}"}}}}'


def _history_entry(base: str, resource: StoredResource) -> str:
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


def _version_headers(resource: StoredResource) -> dict[str, str]:
    return {
        "ETag": f'W/"{resource.version_id}"',
        "Last-Modified": format_datetime(resource.last_updated.astimezone(UTC), usegmt=True),
    }


def _unchanged(request: Request, resource: StoredResource) -> bool:
    """If-None-Match, and only without it If-Modified-Since (RFC 9110 section 13.2.2)."""
    tags = request.headers.get("if-none-match")
    if tags is not None:
        known = {tag.strip().removeprefix("W/").strip('"') for tag in tags.split(",")}
        return "*" in known or str(resource.version_id) in known
    since = request.headers.get("if-modified-since")
    if since is None:
        return False
    try:
        moment = parsedate_to_datetime(since)
        return moment.tzinfo is not None and resource.last_updated.replace(microsecond=0) <= moment
    except (ValueError, OverflowError):
        return False


def _patients_of(resource: StoredResource) -> Iterable[str]:
    if resource.resource_type == "Patient":
        return (resource.resource_id,)
    body = json.loads(resource.body)
    references = (body.get(element, {}).get("reference", "") for element in ("subject", "patient"))
    return tuple(ref.removeprefix("Patient/") for ref in references if ref.startswith("Patient/"))


def _query(request: Request) -> list[tuple[str, str]]:
    return parse_qsl(request.url.query, keep_blank_values=True)


def _base(request: Request) -> str:
    address: str = request.state.address  # set by the guard
    return f"{address}{PREFIX}"
