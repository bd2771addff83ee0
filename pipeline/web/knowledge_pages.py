"""What the site's knowledge base says beside a draft: of the agents, drugs and terms that it names, and of a question.

A question is posted, so that it stands in no address, and is kept nowhere. The page quotes; no model words an answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from pipeline.errors import ConfigurationError
from pipeline.lookup import ReportDetail
from pipeline.passages import FoundPassage
from pipeline.web.rendering import message_page, page
from pipeline.web.review_pages import ReviewPages, form_text, same_origin


class KnowledgeReader(Protocol):
    """A site's knowledge base as it is loaded; passages of files that changed since are not given."""

    def named(self, text: str) -> tuple[FoundPassage, ...]:
        """Passages about what ``text`` names."""
        ...

    def found(self, question: str) -> tuple[FoundPassage, ...]:
        """Passages that answer, none where there are none. Raises ConfigurationError for what is no question."""
        ...


@dataclass(frozen=True, slots=True)
class KnowledgePages:
    """The page beside a report; each look is audited as a read of it, since it shows what the draft names."""

    knowledge: KnowledgeReader
    pages: ReviewPages

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter()
        address = "/reports/{report_id}/knowledge"
        router.add_api_route(address, self.beside, methods=["GET", "HEAD"])
        router.add_api_route(address, self.ask, methods=["POST"])
        return router

    def beside(self, request: Request, report_id: str) -> Response:
        """Passages on the agents, drugs and terms that a draft names."""
        detail = self.pages.detail(request, report_id)
        if detail is None:
            return message_page(404, "There is no such report.")
        return self._page(request, detail, self.knowledge.named(_words(detail)))

    def ask(self, request: Request, report_id: str, form: Annotated[str, Depends(form_text)]) -> Response:
        """Passages that answer a question."""
        if not same_origin(request):
            return message_page(403, "This form was sent by a page of another site.")
        detail = self.pages.detail(request, report_id)
        if detail is None:
            return message_page(404, "There is no such report.")
        question = parse_qs(form).get("question", [""])[0].strip()
        try:
            return self._page(request, detail, self.knowledge.found(question), question)
        except ConfigurationError as error:
            return message_page(400, f"{error.message}.")

    def _page(
        self, request: Request, detail: ReportDetail, passages: Sequence[FoundPassage], question: str = ""
    ) -> Response:
        signed_in = self.pages.control.is_session(request)
        return page(
            "knowledge.html", detail=detail, passages=passages, question=question, signed_in=signed_in
        )


def _words(detail: ReportDetail) -> str:
    """What a draft says."""
    draft = detail.draft
    answers = (part for one in draft.answers for part in (one.question, one.text))
    return "\n".join((draft.findings_text, draft.impression_text, *answers))
