"""The application: FHIR REST and the review page behind one guard."""

from collections.abc import Callable, Mapping, Sequence

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pipeline.web.access_control import AccessControl
from pipeline.web.addresses import Addresses
from pipeline.web.anew_pages import Anew, AnewPages
from pipeline.web.definitions import Definition
from pipeline.web.doors import Doors
from pipeline.web.failed_pages import FailedPages, FailureReader
from pipeline.web.fhir_rest import PREFIX, FhirRest
from pipeline.web.guard import Guard
from pipeline.web.knowledge_pages import KnowledgePages, KnowledgeReader
from pipeline.web.naming import Names, key_as_words
from pipeline.web.outcomes import FhirError, outcome
from pipeline.web.reader import Audit, Clock, Reader
from pipeline.web.rendering import message_page
from pipeline.web.review_pages import ReviewPages

_CODES = {404: "not-found", 405: "not-supported"}
_MESSAGES = {404: "There is nothing at this address.", 405: "This server is read only."}


def create_app(
    reader: Reader,
    *,
    token: str,
    audit: Audit,
    clock: Clock,
    software_version: str = "",
    addresses: Addresses | None = None,
    published: Sequence[Definition] = (),
    listener: Callable[[], Mapping[str, object] | None] = lambda: None,
    names: Names = key_as_words,
    viewer_url: str = "",
    knowledge: KnowledgeReader | None = None,
    anew: Anew | None = None,
    failures: FailureReader | None = None,
) -> FastAPI:
    """The application over ``reader``.

    With a ``token`` every request but metadata needs it (a bearer header, or a browser session opened with
    it); with an empty one only this machine is answered. ``audit`` is called before patient data leaves;
    where it raises, nothing leaves. ``addresses`` tell at which address clients call, behind a proxy.
    ``published`` are the FHIR definitions of what resources use beside the standard. ``listener`` tells how
    ``firstread listen`` is. ``names`` call the findings of a draft in its language, ``viewer_url`` is the site's viewer
    with "{study}" for the Study Instance UID. ``knowledge`` is the site's knowledge base, where it has one.
    ``anew`` has a study drafted anew; without it no page offers that. ``failures`` are the studies that failed; without
    them none is listed.
    """
    addresses = addresses or Addresses()
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    control, doors = AccessControl(token, clock), Doors(audit, clock)
    app.state.doors = doors
    app.state.token = token
    app.state.behind_proxy = addresses.behind_proxy
    app.include_router(FhirRest(reader, audit, clock, clock(), software_version, published).router())
    pages = ReviewPages(
        reader,
        audit,
        clock,
        control,
        doors,
        listener,
        names,
        viewer_url,
        knowledge is not None,
        anew is not None,
        failures.count if failures else lambda: 0,
    )
    app.include_router(pages.router())
    if knowledge is not None:
        app.include_router(KnowledgePages(knowledge, pages).router())
    if anew is not None:
        app.include_router(AnewPages(anew, pages).router())
    if failures is not None:
        app.include_router(FailedPages(failures, pages).router())
    app.add_exception_handler(FhirError, _refuse)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_middleware(Guard, control=control, addresses=addresses, doors=doors)
    return app


def _refuse(request: Request, error: Exception) -> Response:
    if isinstance(error, FhirError):
        return error.response()
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    message = _MESSAGES.get(status, "This request cannot be answered.")
    if request.url.path == PREFIX or request.url.path.startswith(f"{PREFIX}/"):
        asked = f"{message} What there is: {PREFIX}/metadata" if status == 404 else message
        return outcome(status, _CODES.get(status, "processing"), asked, headers)
    answer = message_page(status, message)
    answer.headers.update(headers or {})
    return answer
