"""HTTP/1.1 to one archive over kept-alive connections, for any number of threads.

``http.client`` and no more: in our measurements it streams at twice the rate of the larger clients (see
docs/decisions). Errors of transport and status become the project's own here.
"""

import base64
import http.client
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from pipeline.archive import transport
from pipeline.errors import ConfigurationError, FailStudy, RetryLater, StopRun
from pipeline.setting_archives import DicomwebArchive

log = logging.getLogger(__name__)

_DRAIN_BYTES = 1 << 16
_EXPIRED, _SELF_SIGNED, _WRONG_HOST, _WRONG_ADDRESS = 10, (18, 19), 62, 64
_IN_A_WHILE = frozenset({408, 425})
"""Request Timeout and Too Early: the same request may be sent again (RFC 9110 15.5.9, RFC 8470 5.2)."""
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a server (RFC 6454)."""

    secure: bool
    host: str
    port: int

    @classmethod
    def of(cls, parts: SplitResult) -> "Origin":
        """The origin of an absolute address. Raises ValueError where it is not http or https."""
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an http address")
        secure = parts.scheme == "https"
        return cls(secure, parts.hostname, parts.port or (443 if secure else 80))

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.host}:{self.port}"


class HttpArchive:
    """Requests to the base URL of one archive. A context manager; closing it closes every idle connection.

    Redirects are followed on the same origin, and to the origins that the site allows, which get no credentials.
    """

    def __init__(self, settings: DicomwebArchive) -> None:
        parts = urlsplit(settings.url)
        try:
            self._home = Origin.of(parts)
            self._allowed = {Origin.of(urlsplit(url)) for url in settings.redirect_origins}
        except ValueError:
            raise ConfigurationError(
                "archive-url",
                "url and redirect_origins of a DICOMweb archive must be http://host/... or https://host/...",
            ) from None
        self._root = parts.path.rstrip("/")
        self._settings = settings
        secure = self._home.secure or any(origin.secure for origin in self._allowed)
        self._tls = _tls_context(settings) if secure else None
        self._authorization = _authorization(settings)
        self._idle: dict[Origin, list[http.client.HTTPConnection]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def get(self, path: str, accept: str) -> Iterator[http.client.HTTPResponse]:
        """GET ``path`` under the base URL and yield the answer, whatever its status.

        Raises RetryLater when the archive cannot be reached or stalls, StopRun when its certificate is not
        trusted. The connection is used again only when the answer was read to its end.
        """
        origin, target = self._home, self._root + path
        try:
            for _ in range(_MOST_REDIRECTS):
                connection, response = self._answer(origin, target, accept)
                further = self._redirected(origin, target, response)
                if further is None:
                    break
                self._put_back(origin, connection, response)
                origin, target = further
            try:
                yield response
            finally:
                self._put_back(origin, connection, response)
        except ssl.SSLCertVerificationError as error:
            names = partial(self._certified_names, origin)
            raise _untrusted(error, origin.host, names) from None
        except (ConnectionResetError, http.client.BadStatusLine) as error:
            raise _closed(error, secure=origin.secure) from None
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(error) from None

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def _redirected(
        self, origin: Origin, target: str, response: http.client.HTTPResponse
    ) -> tuple[Origin, str] | None:
        """Where the answer sends us, None where it does not or where we may not follow."""
        location = response.headers.get("Location") or ""
        if response.status not in _REDIRECTS or not location:
            return None
        parts = urlsplit(urljoin(f"{origin}{target}", location))
        try:
            further = Origin.of(parts)
        except ValueError:
            return None
        if further != self._home and further not in self._allowed:
            return None
        return further, f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"

    def _answer(
        self, origin: Origin, target: str, accept: str
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """The archive's answer.

        A kept connection that the archive closed meanwhile is replaced by a fresh one.
        """
        headers = {"Accept": accept, **(self._authorization if origin == self._home else {})}
        with self._lock:
            idle = self._idle.get(origin)
            connection = idle.pop() if idle else None
        if connection is not None:
            try:
                return connection, _send(connection, target, headers)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                connection.close()
        connection = self._connect(origin)
        return connection, _send(connection, target, headers)

    def _connect(self, origin: Origin) -> http.client.HTTPConnection:
        timeout = self._settings.connect_timeout
        connection: http.client.HTTPConnection
        if origin.secure:
            connection = http.client.HTTPSConnection(
                origin.host, origin.port, timeout=timeout, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(origin.host, origin.port, timeout=timeout)
        connection.connect()
        connection.sock.settimeout(self._settings.stall_timeout)
        return connection

    def _certified_names(self, origin: Origin) -> str:
        """The names in the archive's certificate, trusted but for another host; "" where they cannot be had."""
        context = _tls_context(self._settings)
        context.check_hostname = False
        address, timeout = (origin.host, origin.port), self._settings.connect_timeout
        try:
            with (
                socket.create_connection(address, timeout) as plain,
                context.wrap_socket(plain, server_hostname=origin.host) as secured,
            ):
                names: Any = (secured.getpeercert() or {}).get("subjectAltName", ())
        except OSError:
            return ""
        return ", ".join(str(value) for _, value in names)

    def _put_back(
        self, origin: Origin, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
    ) -> None:
        if not response.isclosed() and response.length is not None and response.length <= _DRAIN_BYTES:
            response.read()
        if response.isclosed() and not response.will_close:
            with self._lock:
                self._idle.setdefault(origin, []).append(connection)
        else:
            response.close()
            connection.close()


_CERTIFICATE_DEMANDED = frozenset(
    {
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",  # RFC 8446 6.2
        "SSLV3_ALERT_HANDSHAKE_FAILURE",  # what TLS 1.2 has for it (RFC 5246 7.4.6)
        "SSLV3_ALERT_NO_CERTIFICATE", "SSLV3_ALERT_BAD_CERTIFICATE", "TLSV1_ALERT_ACCESS_DENIED",
    }
)  # fmt: skip


def _untrusted(error: ssl.SSLCertVerificationError, host: str, names: Callable[[], str]) -> StopRun:
    """Why the certificate is not believed (verify codes of OpenSSL, x509_vfy.h), and what to do."""
    if error.verify_code in (_WRONG_HOST, _WRONG_ADDRESS):
        certified = names() or "another host"
        message = f"the certificate is for {certified}, not for {host}: write url with a name that it has"
    elif error.verify_code in _SELF_SIGNED:
        message = "the certificate is self-signed and not trusted: set ca_file to it, or to its authority"
    elif error.verify_code == _EXPIRED:
        message = "the archive's certificate has expired: it has to be renewed there"
    else:
        message = "the archive's certificate is not trusted: set ca_file to its authority"
    return StopRun("archive-tls", message)


def _closed(error: OSError | http.client.HTTPException, *, secure: bool) -> RetryLater:
    """A connection that was closed instead of an answer; a TLS server does so that is spoken to in the clear."""
    advice = (
        ": it may demand a client certificate"
        if secure
        else ": if it speaks TLS, url must begin with https://"
    )
    return RetryLater("archive-unreachable", f"the archive closed the connection{advice}")


def _send(
    connection: http.client.HTTPConnection, target: str, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    try:
        connection.request("GET", target, headers=dict(headers))
        return connection.getresponse()
    except BaseException:
        connection.close()
        raise


def unreachable(error: OSError | http.client.HTTPException) -> RetryLater | StopRun:
    """What a transport error means for the caller."""
    if isinstance(error, ssl.SSLError) and error.reason in _CERTIFICATE_DEMANDED:
        return StopRun(
            "archive-client-certificate",
            "the archive ended the TLS connection: it demands a client certificate, which cannot be given here; let it "
            "accept us without, by token, password or address, or ask it through a proxy that has one",
        )
    if isinstance(error, ssl.SSLEOFError):
        return _closed(error, secure=True)
    if isinstance(error, ssl.SSLError):
        return StopRun("archive-tls", "no TLS connection: check whether url should begin with http://")
    return transport.unreachable(error, "check host and port in url, and that it runs")


def refusal(status: int, headers: Message) -> RetryLater | StopRun | FailStudy:
    """The error for an HTTP status that is no answer.

    404 and the like are the caller's to interpret first.
    """
    if status in (429, 503):
        return RetryLater(
            "archive-busy", f"the archive answered {status}", after_seconds=_retry_after(headers)
        )
    if status == 401:
        return StopRun("archive-auth", "the archive answered 401: set token, or username and password")
    if status == 403:
        return StopRun(
            "archive-auth", "the archive answered 403: these credentials may not query or retrieve"
        )
    if status in _REDIRECTS:
        return StopRun(
            "archive-url",
            f"the archive answered {status} (redirect) to another server: set url to where it leads, or list that "
            "server in redirect_origins",
        )
    if status in (404, 405, 501):
        return StopRun(
            "archive-url", f"the archive answered {status}: check the path in url (for instance /dicom-web)"
        )
    if status >= 500 or status in _IN_A_WHILE:
        return RetryLater("archive-error", f"the archive answered {status}: look into its log")
    return FailStudy(
        "archive-refused",
        f"the archive answered {status}: check http or https and the path in url (for instance /dicom-web); "
        "where they are right look into its log",
    )


def is_redirect(status: int) -> bool:
    """Whether the status sends the client elsewhere (RFC 9110 15.4)."""
    return status in _REDIRECTS


def _retry_after(headers: Message) -> float | None:
    """Seconds of a Retry-After header, as a number or a date (RFC 9110 10.2.3).

    None for nonsense, so that the caller's own back-off counts.
    """
    text = (headers.get("Retry-After") or "").strip()
    if text.isascii() and text.isdigit() and len(text) < 8:
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _authorization(settings: DicomwebArchive) -> dict[str, str]:
    token = settings.token.get_secret_value()
    if token:
        return {"Authorization": f"Bearer {token}"}
    if settings.username:
        pair = f"{settings.username}:{settings.password.get_secret_value()}".encode()
        return {"Authorization": "Basic " + base64.b64encode(pair).decode("ascii")}
    return {}


def _tls_context(settings: DicomwebArchive) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except OSError:
        raise ConfigurationError("archive-tls", "ca_file cannot be read as PEM certificates") from None
