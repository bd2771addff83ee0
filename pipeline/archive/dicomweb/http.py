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
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

from pipeline.errors import ConfigurationError, FailStudy, RetryLater, StopRun
from pipeline.settings import DicomwebArchive

log = logging.getLogger(__name__)

_DRAIN_BYTES = 1 << 16
_EXPIRED, _SELF_SIGNED, _WRONG_HOST, _WRONG_ADDRESS = 10, (18, 19), 62, 64


class HttpArchive:
    """Requests to the base URL of one archive. A context manager; closing it closes every idle connection."""

    def __init__(self, settings: DicomwebArchive) -> None:
        parts = urlsplit(settings.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(
                "archive-url", "url of a DICOMweb archive must be http://host/... or https://host/..."
            )
        self._host = parts.hostname
        self._secure = parts.scheme == "https"
        self._port = parts.port or (443 if self._secure else 80)
        self._root = parts.path.rstrip("/")
        self._settings = settings
        self._tls = _tls_context(settings) if self._secure else None
        self._authorization = _authorization(settings)
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    @contextmanager
    def get(self, path: str, accept: str) -> Iterator[http.client.HTTPResponse]:
        """GET ``path`` under the base URL and yield the answer, whatever its status.

        Raises RetryLater when the archive cannot be reached or stalls, StopRun when its certificate is not
        trusted. The connection is used again only when the answer was read to its end.
        """
        try:
            connection, response = self._answer(path, {"Accept": accept, **self._authorization})
            try:
                yield response
            finally:
                self._put_back(connection, response)
        except ssl.SSLCertVerificationError as error:
            raise _untrusted(error, self._host, self._certified_names) from None
        except (ConnectionResetError, http.client.BadStatusLine) as error:
            raise _closed(error, secure=self._secure) from None
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(error) from None

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _answer(
        self, path: str, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """The archive's answer.

        A kept connection that the archive closed meanwhile is replaced by a fresh one.
        """
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            try:
                return connection, self._send(connection, path, headers)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                connection.close()
        connection = self._connect()
        return connection, self._send(connection, path, headers)

    def _send(
        self, connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        try:
            connection.request("GET", self._root + path, headers=dict(headers))
            return connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def _connect(self) -> http.client.HTTPConnection:
        timeout = self._settings.connect_timeout
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        connection.connect()
        connection.sock.settimeout(self._settings.stall_timeout)
        return connection

    def _certified_names(self) -> str:
        """The names in the archive's certificate, trusted but for another host; "" where they cannot be had."""
        context = _tls_context(self._settings)
        context.check_hostname = False
        address, timeout = (self._host, self._port), self._settings.connect_timeout
        try:
            with (
                socket.create_connection(address, timeout) as plain,
                context.wrap_socket(plain, server_hostname=self._host) as secured,
            ):
                names: Any = (secured.getpeercert() or {}).get("subjectAltName", ())
        except OSError:
            return ""
        return ", ".join(str(value) for _, value in names)

    def _put_back(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        if not response.isclosed() and response.length is not None and response.length <= _DRAIN_BYTES:
            response.read()
        if response.isclosed() and not response.will_close:
            with self._lock:
                self._idle.append(connection)
        else:
            response.close()
            connection.close()


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
    advice = "" if secure else ": if it speaks TLS, url must begin with https://"
    return RetryLater("archive-unreachable", f"the archive closed the connection{advice}")


def unreachable(error: OSError | http.client.HTTPException) -> RetryLater | StopRun:
    """What a transport error means for the caller."""
    if isinstance(error, ssl.SSLError):
        return StopRun("archive-tls", "no TLS connection: check whether url should begin with http://")
    if isinstance(error, TimeoutError):
        return RetryLater(
            "archive-stalled", "the archive did not answer in time: raise stall_timeout if it is slow"
        )
    if isinstance(error, ConnectionRefusedError):
        return RetryLater(
            "archive-unreachable", "connection refused: check host and port in url, and that it runs"
        )
    return RetryLater("archive-unreachable", f"the connection failed ({type(error).__name__})")


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
    if status in (301, 302, 303, 307, 308):
        return StopRun("archive-url", f"the archive answered {status} (redirect): set url to where it leads")
    if status in (404, 405, 501):
        return StopRun(
            "archive-url", f"the archive answered {status}: check the path in url (for instance /dicom-web)"
        )
    if status >= 500:
        return RetryLater("archive-error", f"the archive answered {status}: look into its log")
    return FailStudy(
        "archive-refused",
        f"the archive answered {status}: check http or https and the path in url (for instance /dicom-web); "
        "where they are right look into its log",
    )


def _retry_after(headers: Message) -> float | None:
    """Seconds of a Retry-After header.

    None for a date or nonsense, so that the caller's own back-off counts.
    """
    text = (headers.get("Retry-After") or "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 8 else None


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
