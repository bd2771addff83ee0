"""FHIR R4 REST under ``/fhir``: metadata, read, vread, history, search. Read only (R4 section 3.1.0)."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import partial
from typing import Annotated, TypeVar
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response, StreamingResponse

from pipeline.ledger import StoredResource
from pipeline.lookup import LAST_PAGE, PatientIn, ResourcePage, ResourceSearch, TokenIn
from pipeline.web.bulk_export import NDJSON, lines, manifest, newest_change, parse_export, parse_until
from pipeline.web.bundles import bundle, history_entry, patients_of, search_entries
from pipeline.web.capability import capability_statement
from pipeline.web.definitions import KINDS, Definition, found, searched
from pipeline.web.history_parameters import parse_history
from pipeline.web.including import included
from pipeline.web.negotiation import require_json
from pipeline.web.outcomes import FhirError, fhir_response
from pipeline.web.posted_pages import PREFIX as POSTED
from pipeline.web.posted_pages import PostedPages, nameless
from pipeline.web.pretty import indented
from pipeline.web.reader import Access, Audit, Clock, Interaction, Reader
from pipeline.web.search_parameters import ID, ParsedSearch, parse_search
from pipeline.web.search_values import invalid
from pipeline.web.searchable import SEARCHABLE

PREFIX = "/fhir"
LARGEST_FORM = 64 * 1024
"""Bytes of a search form that are read; a longer one is refused."""
_MOST_PATIENTS = 1000
"""Patients that a chained search may resolve to."""

Parameters = Sequence[tuple[str, str]]
Wanted = TypeVar("Wanted")


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
    published: Sequence[Definition] = ()
    posted: PostedPages = field(default_factory=PostedPages)

    def router(self) -> APIRouter:
        """The routes, in the order in which they are tried."""
        router = APIRouter(prefix=PREFIX)
        reading = ["GET", "HEAD"]
        router.add_api_route("/metadata", self.metadata, methods=reading)
        router.add_api_route("/$export", self.export, methods=["GET"])
        router.add_api_route("/$export-status", self.export_status, methods=["GET"])
        router.add_api_route("/$export-file", self.export_file, methods=["GET"])
        router.add_api_route("/_history", self.history_of_all, methods=reading)
        for kind in KINDS:
            router.add_api_route(f"/{kind}", partial(self.definitions, kind), methods=reading)
            router.add_api_route(f"/{kind}/{{resource_id}}", partial(self.definition, kind), methods=reading)
        router.add_api_route("/{resource_type}", self.search, methods=reading)
        router.add_api_route("/{resource_type}/_history", self.history_of_type, methods=reading)
        router.add_api_route("/{resource_type}/_search", self.search_form, methods=["POST"])
        router.add_api_route("/{resource_type}/{resource_id}", self.read, methods=reading)
        router.add_api_route("/{resource_type}/{resource_id}/_history", self.history, methods=reading)
        router.add_api_route("/{resource_type}/{resource_id}/_history/{version}", self.vread, methods=reading)
        return router

    def metadata(self, request: Request) -> Response:
        """The CapabilityStatement."""
        require_json(request.headers.get("accept"), _query(request))
        statement = capability_statement(
            base=_base(request),
            started=self.started,
            software_version=self.software_version,
            published=self.published,
        )
        return _told(request, json.dumps(statement))

    def export(self, request: Request) -> Response:
        """Begin a bulk export: 202 and the address of the list of files."""
        if "respond-async" not in request.headers.get("prefer", "").lower():
            raise FhirError(400, "invalid", "$export is asked for with Prefer: respond-async")
        wanted = parse_export(_query(request))
        until = newest_change(self.reader)
        where = f"{_base(request)}/$export-status?{wanted.query(until, wanted.kinds)}"
        return Response(status_code=202, headers={"Content-Location": where})

    def export_status(self, request: Request) -> Response:
        """The list of files, which can be had at once."""
        wanted, until = parse_until(_query(request))
        told = manifest(_base(request), wanted, until, token_needed=bool(request.app.state.token))
        return Response(json.dumps(told), media_type="application/json")

    def export_file(self, request: Request) -> Response:
        """One file of an export, audited part by part."""
        wanted, until = parse_until(_query(request))
        if len(wanted.kinds) != 1:
            raise invalid("_type", "one type a file")
        (kind,) = wanted.kinds

        def shown(part: Iterable[StoredResource]) -> None:
            self._record(request, Interaction.EXPORT, kind, "", part, request.url.query, succeeded=True)

        return StreamingResponse(lines(self.reader, kind, wanted, until, shown), media_type=NDJSON)

    def definition(self, kind: str, request: Request, resource_id: str) -> Response:
        """One of the published definitions."""
        require_json(request.headers.get("accept"), _query(request))
        return _told(request, json.dumps(found(self.published, kind, resource_id), ensure_ascii=False))

    def definitions(self, kind: str, request: Request) -> Response:
        """The published definitions of a type, by canonical URL or id."""
        parameters = _query(request)
        require_json(request.headers.get("accept"), parameters)
        text = searched(self.published, kind, parameters, base=_base(request), when=self.clock())
        return _told(request, text)

    def read(self, request: Request, resource_type: str, resource_id: str) -> Response:
        """The current version, with ETag and Last-Modified; 304 where the client has it."""
        self._before(request, resource_type, resource_id)
        stored = self.reader.read(resource_type, resource_id)
        self._record(request, Interaction.READ, resource_type, resource_id, [stored] if stored else [])
        if stored is None:
            raise FhirError(404, "not-found", "no such resource")
        if _unchanged(request, stored):
            return Response(status_code=304, headers=_version_headers(stored))
        return _told(request, stored.body, _version_headers(stored))

    def vread(self, request: Request, resource_type: str, resource_id: str, version: str) -> Response:
        """One version, current or past."""
        self._before(request, resource_type, resource_id)
        number = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else 0
        stored = self.reader.vread(resource_type, resource_id, number) if number else None
        self._record(request, Interaction.VREAD, resource_type, resource_id, [stored] if stored else [])
        if stored is None:
            raise FhirError(404, "not-found", "no such resource, or no such version of it")
        return _told(request, stored.body, _version_headers(stored))

    def history(self, request: Request, resource_type: str, resource_id: str) -> Response:
        """The versions of one resource."""
        self._before(request, resource_type, resource_id)
        return self._history(request, Interaction.HISTORY, resource_type, resource_id)

    def history_of_type(self, request: Request, resource_type: str) -> Response:
        """The versions of every resource of a type."""
        self._before(request, resource_type)
        return self._history(request, Interaction.HISTORY_OF_TYPE, resource_type)

    def history_of_all(self, request: Request) -> Response:
        """The versions of everything."""
        require_json(request.headers.get("accept"), _query(request))
        return self._history(request, Interaction.HISTORY_OF_ALL)

    def _history(
        self, request: Request, interaction: Interaction, resource_type: str = "", resource_id: str = ""
    ) -> Response:
        """Versions, newest first, as a history Bundle with its pages; the total where it is one resource's."""
        kinds = (resource_type,) if resource_type else tuple(SEARCHABLE)
        wanted = parse_history(kinds, resource_id, _query(request))
        page = ResourcePage(()) if wanted.count_only else _page_of(self.reader.history, wanted.search)
        total = self.reader.count_history(wanted.search) if resource_id or wanted.count_only else None
        known = bool(page.resources or total) or not resource_id
        known = known or self.reader.read(resource_type, resource_id) is not None
        self._record(
            request,
            interaction,
            resource_type,
            resource_id,
            page.resources,
            request.url.query,
            succeeded=known,
        )
        if not known:
            raise FhirError(404, "not-found", "no such resource")
        base = _base(request)
        address = "/".join(part for part in (base, resource_type, resource_id, "_history") if part)
        links = {"self": _asked(address, wanted.used)}
        if page.next:
            links["next"] = _following(address, wanted.used, page.next)
        entries = [history_entry(base, version) for version in page.resources]
        return _told(request, bundle("history", links, entries, when=self.clock(), total=total))

    def search(self, request: Request, resource_type: str) -> Response:
        """Search by GET; a following page of a search by POST too, whose parameters are kept."""
        parameters = _query(request)
        asked = [value for name, value in parameters if name == "_page" and value.startswith(POSTED)]
        if not asked:
            return self._search(request, resource_type, parameters, request.url.query)
        kept = self.posted.find(resource_type, asked[0])
        if kept is None or any(name not in ("_page", "_format") for name, _ in parameters) or len(asked) > 1:
            raise FhirError(400, "invalid", "_page: not a page that is kept; search again")
        return self._search(request, resource_type, kept, urlencode(kept), posted=True)

    def search_form(
        self, request: Request, resource_type: str, form: Annotated[str, Depends(_form)]
    ) -> Response:
        """Search by POST, which keeps identifiers out of URLs and so out of proxies' logs."""
        kind = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
        if form and kind != "application/x-www-form-urlencoded":
            raise FhirError(415, "not-supported", "a search form is application/x-www-form-urlencoded")
        parameters = [*_query(request), *parse_qsl(form, keep_blank_values=True)]
        return self._search(request, resource_type, parameters, urlencode(parameters), posted=True)

    def _search(
        self,
        request: Request,
        resource_type: str,
        parameters: Parameters,
        query: str,
        *,
        posted: bool = False,
    ) -> Response:
        require_json(request.headers.get("accept"), parameters)
        base = _base(request)
        prefer = request.headers.get("prefer", "").replace(" ", "").lower()
        parsed = parse_search(resource_type, parameters, base=base, strict="handling=strict" in prefer)
        wanted = self._resolved(parsed)
        page, total = self._answer(parsed, wanted)
        beside = included(self.reader, parsed, page.resources)
        shown = [*page.resources, *beside]
        self._record(request, Interaction.SEARCH, resource_type, "", shown, query)
        links = self._links(f"{base}/{resource_type}", resource_type, parsed, page, posted=posted)
        entries = search_entries(base, page.resources, beside, parsed.shape)
        return _told(request, bundle("searchset", links, entries, when=self.clock(), total=total))

    def _links(
        self, address: str, resource_type: str, parsed: ParsedSearch, page: ResourcePage, *, posted: bool
    ) -> dict[str, str]:
        """self, and other pages if there are any; those of a search by POST say nothing that could name a patient."""
        kept = tuple((name, value) for name, value in parsed.used if name != "_page")
        pages = {"previous": page.previous, "next": page.next}
        if not posted:
            links = {"self": _asked(address, parsed.used)}
            if page.previous or page.next:
                links["first"] = _asked(address, kept)
                pages["last"] = LAST_PAGE
            return links | {
                name: _following(address, parsed.used, token) for name, token in pages.items() if token
            }
        links = {"self": _asked(f"{address}/_search", nameless(parsed.used))}
        for name, token in pages.items():
            if token:
                number = self.posted.keep(resource_type, (*kept, ("_page", token)))
                links[name] = _asked(address, (("_page", number),))
        return links

    def _resolved(self, parsed: ParsedSearch) -> ResourceSearch:
        """The search with each ``patient.identifier`` turned into the Patients that have it."""
        search = parsed.search
        for tokens in parsed.chained:
            chain = ResourceSearch("Patient", (TokenIn("identifier", tokens),), limit=_MOST_PATIENTS)
            known = self.reader.search(chain)
            if known.next:
                raise FhirError(400, "too-costly", "patient.identifier: matches too many patients")
            patients = PatientIn(tuple(resource.resource_id for resource in known.resources))
            search = replace(search, criteria=(*search.criteria, patients))
        return search

    def _answer(self, parsed: ParsedSearch, wanted: ResourceSearch) -> tuple[ResourcePage, int | None]:
        total = self.reader.count(wanted) if parsed.count_only or parsed.total else None
        if parsed.count_only:
            return ResourcePage(()), total
        return _page_of(self.reader.search, wanted), total

    def _before(self, request: Request, resource_type: str, resource_id: str | None = None) -> None:
        """What holds for every read: a format we write, a type we serve, an id that can be one (R4 id)."""
        require_json(request.headers.get("accept"), _query(request))
        if resource_type not in SEARCHABLE:
            raise FhirError(404, "not-supported", "that resource type is not served here; see metadata")
        if resource_id is not None and not ID.fullmatch(resource_id):
            raise FhirError(404, "not-found", "no such resource")

    def _record(
        self,
        request: Request,
        interaction: Interaction,
        resource_type: str,
        resource_id: str,
        shown: Iterable[StoredResource],
        query: str = "",
        *,
        succeeded: bool | None = None,
    ) -> None:
        shown = list(shown)
        patients = sorted({patient for resource in shown for patient in patients_of(resource)})
        access = Access(
            interaction=interaction,
            resource_type=resource_type,
            resource_id=resource_id,
            query=query,
            patients=tuple(patients),
            agent=request.client.host if request.client else "",
            person=request.state.person,
            recorded=self.clock(),
            succeeded=bool(shown) or interaction is Interaction.SEARCH if succeeded is None else succeeded,
            request_id=request.state.request_id,
        )
        self.audit([access])


def _page_of(ask: Callable[[Wanted], ResourcePage], wanted: Wanted) -> ResourcePage:
    try:
        return ask(wanted)
    except ValueError:
        raise FhirError(400, "invalid", "_page: not a page of this server; follow its next links") from None


def _following(address: str, used: Parameters, token: str) -> str:
    kept = [(name, value) for name, value in used if name != "_page"]
    return f"{address}?{urlencode([*kept, ('_page', token)])}"


def _asked(address: str, used: Parameters) -> str:
    return f"{address}?{urlencode(used)}" if used else address


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


def _told(request: Request, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """``text`` as it is, or indented for a person who asked for that."""
    pretty = ("_pretty", "true") in _query(request)
    return fhir_response(indented(text) if pretty else text, headers=headers)


def _query(request: Request) -> list[tuple[str, str]]:
    return parse_qsl(request.url.query, keep_blank_values=True)


def _base(request: Request) -> str:
    address: str = request.state.address  # set by the guard
    return f"{address}{PREFIX}"
