"""What holds for every request: access, security headers, and no failure that leaks.

Nothing here or in the server logs a path, a query or a peer's words: they may name a patient
(docs/design.md#patient-data).
"""

import logging
import re
import uuid
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.errors import FailStudy, RetryLater
from pipeline.unexpected import frames_of
from pipeline.web.access_control import AccessControl
from pipeline.web.addresses import Addresses, Seen
from pipeline.web.connections import CROWDED
from pipeline.web.definitions import KINDS
from pipeline.web.doors import Doors
from pipeline.web.fhir_rest import PREFIX
from pipeline.web.outcomes import outcome
from pipeline.web.reader import DoorKind
from pipeline.web.rendering import message_page

log = logging.getLogger(__name__)

HEALTH: Final = "/health"
_OPEN = re.compile(
    rf"/fhir/metadata|/fhir/(?:{'|'.join(KINDS)})(?:/[A-Za-z0-9.-]+)?|/sign-in|/assets/[a-z.]+"
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # by "no-referrer" our own forms come with the Origin "null" (Fetch)
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "X-Robots-Tag": "noindex, nofollow",
}


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, control: AccessControl, addresses: Addresses, doors: Doors) -> None:
        self._app = app
        self._control = control
        self._addresses = addresses
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with a request id; add the headers; answer every failure."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = self._addresses.seen(scope)
        if seen is not None:
            scope = _as_seen(scope, seen)
        request = Request(scope, receive)
        offered = request.headers.get("x-request-id", "")
        request.state.request_id = offered if _REQUEST_ID.fullmatch(offered) else str(uuid.uuid4())
        answer = _Answer(send, request)
        request.state.address = seen.address if seen else ""
        request.state.person = seen.person if seen else ""
        refusal = None
        if request.url.path != HEALTH:  # it tells nothing, and is answered to everyone
            refusal = await self._refusal(request) if seen else _unnamed(request)
        if refusal is not None:
            await refusal(scope, receive, answer)
            return
        try:
            await self._app(scope, receive, answer)
        except RetryLater as error:
            log.warning("a request found the store away (%s)", error.code)
            await answer.fail(unavailable(request), receive)
        except FailStudy as error:
            log.warning("a request ended with %s at %s", error.code, _place(error))
            slow = error.code == "database-slow"
            await answer.fail(_too_costly(request) if slow else _broken(request), receive)
        except Exception as error:  # noqa: BLE001 - the server would log its message: maybe patient data
            log.error("a request failed with %s at %s", type(error).__name__, _place(error))
            await answer.fail(_broken(request), receive)

    async def _refusal(self, request: Request) -> Response | None:
        if getattr(request.state, CROWDED, False):
            return unavailable(request, "too many requests at once; try again")
        address = request.client.host if request.client else ""
        if not self._control.admits_peer(request):
            await self._doors.refuse(address, DoorKind.FOREIGN_PEER)
            return _answer_for(
                request, 403, "forbidden", "without a token only this machine is answered, as 127.0.0.1"
            )
        if _OPEN.fullmatch(request.url.path) or self._control.admits(request):
            return None
        if self._control.offers_token(request):
            await self._doors.refuse(address, DoorKind.WRONG_BEARER)
        if _is_fhir(request):
            headers = {"WWW-Authenticate": 'Bearer realm="firstread"'}
            return outcome(401, "login", "send the token of this server: Authorization: Bearer ...", headers)
        return RedirectResponse("/sign-in", status_code=303)


class _Answer:
    """``send`` with our headers, which knows whether an answer has begun."""

    def __init__(self, send: Send, request: Request) -> None:
        self._send = send
        self._request = request
        self._begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
            headers["X-Request-Id"] = self._request.state.request_id
        await self._send(message)

    async def fail(self, response: Response, receive: Receive) -> None:
        """Send ``response`` where nothing was sent yet; a broken-off answer stays broken off."""
        if not self._begun:
            await response(self._request.scope, receive, self)


def _as_seen(scope: Scope, seen: Seen) -> Scope:
    """``scope`` as if the client had called without the proxies between."""
    kept = [(name, value) for name, value in scope["headers"] if name != b"host"]
    port = scope["client"][1] if scope.get("client") else 0
    return {
        **scope,
        "scheme": seen.scheme,
        "client": (seen.client, port),
        "headers": [(b"host", seen.host.encode("ascii")), *kept],
    }


def _unnamed(request: Request) -> Response:
    return outcome(400, "invalid", "the Host header names no host")


def unavailable(
    request: Request, message: str = "the store cannot be reached at the moment; try again"
) -> Response:
    """503: the store is away for the moment, or all places are taken."""
    answer = _answer_for(request, 503, "transient", message)
    answer.headers["Retry-After"] = "5"
    return answer


def _too_costly(request: Request) -> Response:
    return _answer_for(
        request, 503, "too-costly", "this takes longer than a search may; ask for less at once"
    )


def _broken(request: Request) -> Response:
    return _answer_for(request, 500, "exception", "this request failed; the log says where")


def _answer_for(request: Request, status: int, code: str, message: str) -> Response:
    return outcome(status, code, message) if _is_fhir(request) else message_page(status, message)


def _is_fhir(request: Request) -> bool:
    return request.url.path == PREFIX or request.url.path.startswith(f"{PREFIX}/")


def _place(error: BaseException) -> str:
    """File and line where ``error`` was raised: never its message."""
    frames = frames_of(error)
    return f"{frames[-1][0]}:{frames[-1][1]}" if frames else "unknown"
