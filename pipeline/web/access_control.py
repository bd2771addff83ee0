"""Who may look: a bearer token, or a signed cookie that the sign-in page gave for it.

Without a token, loopback only.
"""

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from starlette.requests import Request

from pipeline.web.reader import Clock

COOKIE = "firstread-session"
SESSION = timedelta(hours=8)


def is_loopback(host: str) -> bool:
    """True for 127.0.0.0/8, ::1 and the name localhost; no name is ever looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class AccessControl:
    """The rule of one application. An empty ``token`` admits nobody but this machine."""

    token: str
    clock: Clock

    def admits_peer(self, request: Request) -> bool:
        """With a token every peer may try; without one only loopback peers that also name us so.

        The Host header is looked at because a web site can point its own name at 127.0.0.1 and read us
        through the user's browser (DNS rebinding).
        """
        if self.token:
            return True
        peer = request.client.host if request.client else ""
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        return is_loopback(peer) and is_loopback(host)

    def admits(self, request: Request) -> bool:
        """True where no token is needed, or the request carries it, or a session that was signed with it."""
        if not self.token:
            return True
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(credentials.strip()):
            return True
        return self._is_session(request.cookies.get(COOKIE, ""))

    def is_token(self, offered: str) -> bool:
        """Compare in constant time."""
        return bool(self.token) and hmac.compare_digest(_digest(offered), _digest(self.token))

    def new_session(self) -> str:
        """A cookie value good for ``SESSION``; it holds a time and a signature, never the token."""
        expires = str(int((self.clock() + SESSION).timestamp()))
        return f"{expires}.{self._signature(expires)}"

    def _is_session(self, cookie: str) -> bool:
        expires, _, signature = cookie.partition(".")
        if not (expires.isascii() and expires.isdigit() and len(expires) < 16):
            return False
        signed = hmac.compare_digest(_digest(signature), _digest(self._signature(expires)))
        return signed and int(expires) > self.clock().timestamp()

    def _signature(self, expires: str) -> str:
        message = f"firstread session until {expires}".encode()
        return hmac.new(_digest(self.token), message, hashlib.sha256).hexdigest()


def _digest(text: str) -> bytes:
    """Fixed length, so that comparing tells nothing about the length either."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
