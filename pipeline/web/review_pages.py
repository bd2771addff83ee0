"""The review page: a list of reports, and one report with its image, text, regions and checks."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, RedirectResponse, Response

from pipeline.lookup import ListOrder, ReportDetail
from pipeline.web.access_control import SESSION, AccessControl, cookie_name
from pipeline.web.doors import Doors
from pipeline.web.list_filter import list_filter, list_order
from pipeline.web.naming import Names, key_as_words
from pipeline.web.reader import Access, Audit, Clock, DoorKind, Interaction, Reader
from pipeline.web.rendering import asset, message_page, page
from pipeline.web.review_view import STATUS_MEANING, review_view
from pipeline.web.search_parameters import ID
from pipeline.web.search_values import CONTROL

PAGE_SIZE = 50
OPEN_STATUSES = ("partial", "preliminary")
UID = re.compile(r"[0-9.]{1,64}")
_LARGEST_FORM = 4096
_MEDIA_TYPES = {"css": "text/css; charset=utf-8", "svg": "image/svg+xml"}


async def form_text(request: Request) -> str:
    """A posted form, cut at ``_LARGEST_FORM`` bytes."""
    body = b""
    async for chunk in request.stream():
        body = (body + chunk)[:_LARGEST_FORM]
    return body.decode("utf-8", "replace")


def address_of(request: Request) -> str:
    """The peer's network address, or ""."""
    return request.client.host if request.client else ""


def same_origin(request: Request) -> bool:
    """Whether the form was sent by a page of ours, as far as the browser says."""
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host")


def _ordered(order: ListOrder) -> str:
    """What the address of a report holds, so that the reports beside it are those of the list it was opened from."""
    return "" if order is ListOrder.CRITICAL else f"?order={order}"


@dataclass(frozen=True, slots=True)
class ReviewPages:
    """The pages. Each audits whose records it shows before it gives them."""

    reader: Reader
    audit: Audit
    clock: Clock
    control: AccessControl
    doors: Doors
    listener: Callable[[], Mapping[str, object] | None] = lambda: None
    """How the listener is that shares our data folder; None where there is none."""
    names: Names = key_as_words
    viewer_url: str = ""
    has_knowledge: bool = False
    offers_anew: bool = False
    failed: Callable[[], int] = lambda: 0
    """How many studies failed, of those that this server can list."""

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter()
        router.add_api_route("/", self.reports, methods=["GET", "HEAD"])
        router.add_api_route("/reports/{report_id}", self.report, methods=["GET", "HEAD"])
        router.add_api_route("/segmentations/{instance}", self.segmentation, methods=["GET", "HEAD"])
        router.add_api_route("/sign-in", self.sign_in_page, methods=["GET"])
        router.add_api_route("/sign-in", self.sign_in, methods=["POST"])
        router.add_api_route("/sign-out", self.sign_out, methods=["POST"])
        router.add_api_route("/assets/{name}", self.asset, methods=["GET", "HEAD"])
        router.add_api_route("/health", self.health, methods=["GET", "HEAD"])
        return router

    def reports(self, request: Request) -> Response:
        """The list in the order that is asked for, a page at a time."""
        asked = dict(parse_qsl(request.url.query))
        after = asked.pop("after", "")
        try:
            wanted = list_filter(asked)
        except ValueError as error:
            return message_page(400, str(error))
        try:
            found = self.reader.report_rows(PAGE_SIZE, CONTROL.sub("", after), wanted)
        except ValueError:
            return message_page(404, "There is no such page of reports.")
        self.record(request, Interaction.SEARCH, "", {row.patient for row in found.rows})
        older = f"/?{urlencode({**asked, 'after': found.next})}" if found.next else ""
        return page(
            "reports.html",
            rows=found.rows,
            older=older,
            newest=f"/?{urlencode(asked)}",
            later=bool(after),
            wanted=wanted,
            failed=self.failed(),
            filtered=bool({name for name, value in asked.items() if value} - {"order"}),
            ordered=_ordered(wanted.order),
            meaning=STATUS_MEANING,
            signed_in=self.control.is_session(request),
        )

    def report(self, request: Request, report_id: str) -> Response:
        """One report."""
        try:
            order = list_order(request.query_params.get("order", ""))
        except ValueError as error:
            return message_page(400, str(error))
        detail = self.detail(request, report_id, order)
        if detail is None:
            return message_page(404, "There is no such report.")
        signed_in = self.control.is_session(request)
        view = review_view(detail, self.names, self.viewer_url)
        return page(
            "report.html",
            detail=detail,
            view=view,
            ordered=_ordered(order),
            meaning=STATUS_MEANING,
            has_knowledge=self.has_knowledge,
            offers_anew=self.offers_anew and detail.row.status in OPEN_STATUSES,
            signed_in=signed_in,
        )

    def detail(
        self, request: Request, report_id: str, order: ListOrder = ListOrder.CRITICAL
    ) -> ReportDetail | None:
        """What a page shows of one report, audited as read; None where there is none."""
        detail = self.reader.report_detail(report_id, order) if ID.fullmatch(report_id) else None
        shown = {detail.row.patient} if detail else set()
        self.record(request, Interaction.READ, report_id, shown, found=detail is not None)
        return detail

    def segmentation(self, request: Request, instance: str) -> Response:
        """A segmentation of ours as a DICOM file (PS3.18 8.7.3: application/dicom)."""
        found = self.reader.mask(instance) if UID.fullmatch(instance) else None
        shown = {found.patient} if found else set()
        self.record(
            request, Interaction.READ, found.report_id if found else "", shown, found=found is not None
        )
        if found is None:
            return message_page(404, "There is no such segmentation.")
        headers = {"Content-Disposition": f'attachment; filename="{instance}.dcm"'}
        return Response(found.content, media_type="application/dicom", headers=headers)

    def sign_in_page(self, request: Request) -> Response:
        """Ask for the token; where none is needed, go on to the list."""
        if self.control.admits(request):
            return RedirectResponse("/", status_code=303)
        return page("sign_in.html", refused=False)

    async def sign_in(self, request: Request, form: Annotated[str, Depends(form_text)]) -> Response:
        """Give a session cookie for the right token; another one is answered later and later."""
        if not same_origin(request) or not self.control.is_token(dict(parse_qsl(form)).get("token", "")):
            await self.doors.refuse(address_of(request), DoorKind.WRONG_TOKEN)
            return page("sign_in.html", status=403, refused=True)
        await run_in_threadpool(self.doors.passed, address_of(request), DoorKind.SIGNED_IN)
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(
            cookie_name(request),
            self.control.new_session(),
            max_age=int(SESSION.total_seconds()),
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return answer

    def sign_out(self, request: Request) -> Response:
        """End the session, here and in the browser."""
        answer = RedirectResponse("/sign-in", status_code=303)
        if same_origin(request) and self.control.is_session(request):
            self.doors.passed(address_of(request), DoorKind.SIGNED_OUT)
            self.control.end_session(request)
            answer.delete_cookie(
                cookie_name(request), secure=request.url.scheme == "https", httponly=True, samesite="strict"
            )
        return answer

    def asset(self, name: str) -> Response:
        """The style sheet and the icon."""
        try:
            content = asset(name)
        except KeyError:
            return message_page(404, "There is no such file.")
        headers = {"Cache-Control": "public, max-age=300"}
        return Response(content, media_type=_MEDIA_TYPES[name.rpartition(".")[2]], headers=headers)

    async def health(self, request: Request) -> Response:
        """204 while the server answers; says nothing else, and waits for no thread.

        ``?listener``: how the listener is, with 503 where that is not well and 404 where there is none; who is not
        admitted is told that in one word, not where it listens and under which title.
        """
        if "listener" not in request.query_params:
            return Response(status_code=204)
        told = self.listener()
        if told is None:
            return JSONResponse({"condition": "none"}, status_code=404)
        admitted = self.control.admits_peer(request) and self.control.admits(request)
        shown = dict(told) if admitted else {"condition": told.get("condition")}
        return JSONResponse(shown, status_code=200 if told.get("condition") == "well" else 503)

    def record(
        self,
        request: Request,
        interaction: Interaction,
        report_id: str,
        patients: Iterable[str],
        *,
        found: bool = True,
        resource_type: str = "DiagnosticReport",
    ) -> None:
        """Audit whose records a page shows, before it is given."""
        access = Access(
            interaction=interaction,
            resource_type=resource_type,
            resource_id=report_id,
            query="",
            patients=tuple(sorted(patients)),
            agent=address_of(request),
            person=request.state.person,
            recorded=self.clock(),
            succeeded=found,
            request_id=request.state.request_id,
        )
        self.audit([access])
