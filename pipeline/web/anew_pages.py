"""The button beside a draft: have its study drafted anew. Nothing is drafted here; the audit has who asked."""

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import Response

from pipeline.lookup import ReportRow
from pipeline.web.rendering import message_page
from pipeline.web.review_pages import ReviewPages, address_of, same_origin

Anew = Callable[[ReportRow, str], bool]
"""Has the study of a report drafted anew, as somebody asked; False where a person took it over or it is not at rest."""


@dataclass(frozen=True, slots=True)
class AnewPages:
    """One address, posted to."""

    anew: Anew
    pages: ReviewPages

    def router(self) -> APIRouter:
        """The route."""
        router = APIRouter()
        router.add_api_route("/reports/{report_id}/anew", self.ask, methods=["POST"])
        return router

    def ask(self, request: Request, report_id: str) -> Response:
        """Ask for it; the draft that stands stays until another one takes its place."""
        if not same_origin(request):
            return message_page(403, "This form was sent by a page of another site.")
        detail = self.pages.detail(request, report_id)
        if detail is None:
            return message_page(404, "There is no such report.")
        asked_by = request.state.person or f"review page, {address_of(request)}"
        if not self.anew(detail.row, asked_by):
            return message_page(
                409, "Nothing was asked: a person has taken this report over, or its study waits already."
            )
        return message_page(202, "The next run drafts this study anew. This draft stays until then.")
