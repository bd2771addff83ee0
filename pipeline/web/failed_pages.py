"""The list of studies that no draft could be made of, and the button beside each: have it drafted anew.

Nothing is drafted here. What a page shows is audited before it is given, and so is who asked.
"""

from dataclasses import dataclass
from typing import Protocol

from fastapi import APIRouter, Request
from starlette.responses import Response

from pipeline.lookup import FailedPage, FailedStudy
from pipeline.mending import advice
from pipeline.web.reader import Interaction
from pipeline.web.rendering import message_page, page
from pipeline.web.review_pages import PAGE_SIZE, ReviewPages, address_of, same_origin
from pipeline.web.search_values import CONTROL


class FailureReader(Protocol):
    """The studies that failed. Methods may be called from several threads."""

    def count(self) -> int:
        """How many."""
        ...

    def page(self, limit: int, after: str) -> FailedPage:
        """One page, the last failed first. Raises ValueError for a page token that is not of it."""
        ...

    def find(self, ledger_id: int) -> FailedStudy | None:
        """One of them, or None."""
        ...

    def draft_anew(self, failed: FailedStudy, asked_by: str) -> bool:
        """Have it drafted anew, as somebody asked; False where a person took it over or it has not failed any more."""
        ...


@dataclass(frozen=True, slots=True)
class FailedPages:
    """The list, and one address that is posted to."""

    failures: FailureReader
    pages: ReviewPages

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter()
        router.add_api_route("/failed", self.list, methods=["GET", "HEAD"])
        router.add_api_route("/failed/{ledger_id}/anew", self.ask, methods=["POST"])
        return router

    def list(self, request: Request) -> Response:
        """The studies, a page at a time, each with what a person is told to do about it."""
        after = CONTROL.sub("", request.query_params.get("after", ""))
        try:
            found = self.failures.page(PAGE_SIZE, after)
        except ValueError:
            return message_page(404, "There is no such page of studies.")
        patients = {one.patient for one in found.studies if one.patient}
        self.pages.record(request, Interaction.SEARCH, "", patients, resource_type="ImagingStudy")
        return page(
            "failed.html",
            studies=[(one, advice(one.code)) for one in found.studies],
            count=self.failures.count(),
            further=found.next,
            later=bool(after),
            signed_in=self.pages.control.is_session(request),
        )

    def ask(self, request: Request, ledger_id: str) -> Response:
        """Ask for it; the next run tries it."""
        if not same_origin(request):
            return message_page(403, "This form was sent by a page of another site.")
        known = ledger_id.isascii() and ledger_id.isdigit() and len(ledger_id) < 19
        failed = self.failures.find(int(ledger_id)) if known else None
        if failed is None:
            return message_page(404, "There is no such study among those that failed; it may wait already.")
        asked_by = request.state.person or f"review page, {address_of(request)}"
        if not self.failures.draft_anew(failed, asked_by):
            return message_page(
                409, "Nothing was asked: a person has taken a report of this study over, or it waits already."
            )
        return message_page(202, "The next run drafts this study anew.")
