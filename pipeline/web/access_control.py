"""Who may look: a bearer token, or a signed cookie that the sign-in page gave for it.

Without a token, loopback only.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

from starlette.requests import Request

from pipeline.setting_addresses import is_this_machine
from pipeline.web.reader import Clock

COOKIE = "firstread-session"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""Its name over https: a browser then takes it from this host alone, and sends it to no other (RFC 6265bis 4.1.3.2)."""
SESSION = timedelta(hours=8)


@dataclass(frozen=True, slots=True)
class AccessControl:
    """The rule of one application. An empty ``token`` admits nobody but this machine."""

    token: str
    clock: Clock
    ended: set[str] = field(default_factory=set)
    """Sessions that were signed out before their time, in this process."""
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def admits_peer(self, request: Request) -> bool:
        """With a token every peer may try; without one only loopback peers that also name us so.

        The Host header is looked at because a web site can point its own name at 127.0.0.1 and read us
        through the user's browser (DNS rebinding).
        """
        if self.token:
            return True
        peer = request.client.host if request.client else ""
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        return is_this_machine(peer) and is_this_machine(host)

    def admits(self, request: Request) -> bool:
        """True where no token is needed, or the request carries it, or a session that was signed with it."""
        if not self.token:
            return True
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(credentials.strip()):
            return True
        return self.is_session(request)

    @staticmethod
    def offers_token(request: Request) -> bool:
        """True where the request tries to come in by a token."""
        return "authorization" in request.headers

    def is_token(self, offered: str) -> bool:
        """Compare in constant time."""
        return bool(self.token) and hmac.compare_digest(_digest(offered), _digest(self.token))

    def new_session(self) -> str:
        """A cookie value good for ``SESSION``: a time, a number and a signature, by a key that dies with this process.

        A signature by the token would let whoever is sent the cookie (a browser sends it to every port of a host) try
        tokens without asking us.
        """
        named = f"{int((self.clock() + SESSION).timestamp())}-{secrets.token_hex(8)}"
        return f"{named}.{self._signature(named)}"

    def is_session(self, request: Request) -> bool:
        """Whether the request carries the cookie of a session that lasts."""
        named, _, signature = request.cookies.get(cookie_name(request), "").partition(".")
        expires = named.partition("-")[0]
        if not (expires.isascii() and expires.isdigit() and len(expires) < 16):
            return False
        signed = hmac.compare_digest(_digest(signature), _digest(self._signature(named)))
        return signed and int(expires) > self.clock().timestamp() and named not in self.ended

    def end_session(self, request: Request) -> None:
        """The session of this request is over, whoever holds its cookie; it is remembered while it would last."""
        named = request.cookies.get(cookie_name(request), "").partition(".")[0]
        now = self.clock().timestamp()
        for one in [one for one in self.ended if int(one.partition("-")[0]) <= now]:
            self.ended.discard(one)
        self.ended.add(named)

    def _signature(self, named: str) -> str:
        message = f"firstread session until {named}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()


def cookie_name(request: Request) -> str:
    """The name of the session's cookie at the address where the client called."""
    return SECURE_COOKIE if request.url.scheme == "https" else COOKIE


def _digest(text: str) -> bytes:
    """Fixed length, so that comparing tells nothing about the length either."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
