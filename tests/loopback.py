"""HTTP servers of tests: started on a free port of loopback, stopped with the block, whatever they are waiting for."""

import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.servers import LOOPBACK


def self_signed(folder: Path, names: str = f"IP:{LOOPBACK}") -> tuple[Path, Path]:
    """A certificate for ``names`` (subjectAltName) that only itself vouches for, and its key; made by openssl."""
    paths = folder / "cert.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    named = ["-addext", f"subjectAltName={names}", "-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run([*command, *named], check=True, capture_output=True)
    return paths


class LoopbackHandler(BaseHTTPRequestHandler):
    """What the handlers of tests have in common: HTTP/1.1, no log, answers with a length, and resets.

    ``released`` is set when the server stops: a handler waits for it, not for a time.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    released: threading.Event

    def log_message(self, *args: object) -> None:
        return

    def start(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        """Status, headers and Content-Length of an answer whose body follows."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def reset(self) -> None:
        """End the connection with a reset, as a peer that was killed does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


@contextmanager
def serving(handler: type[LoopbackHandler], tls: ssl.SSLContext | None, **shared: object) -> Iterator[str]:
    """Serve with ``handler``, which gets ``shared`` as attributes; gives the address without a path."""
    released = threading.Event()
    own = type("Handler", (handler,), {**shared, "released": released})
    server = ThreadingHTTPServer((LOOPBACK, 0), own)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://{LOOPBACK}:{server.server_address[1]}"
    finally:
        released.set()
        server.shutdown()
        thread.join()
        server.server_close()
