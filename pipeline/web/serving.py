"""Run the application in this process."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from pipeline.errors import ConfigurationError
from pipeline.setting_addresses import is_this_machine
from pipeline.web.connections import Connection, PatientServer, ProxiedConnection

SHORTEST_TOKEN = 16
"""Characters of a token that is good enough off loopback."""


def serve(app: FastAPI, host: str, port: int, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve ``app`` until SIGINT or SIGTERM, then return; port 0 takes a free one.

    ``ready`` is called with the address once it listens. Nothing is logged per request: a path may name a
    patient. Off loopback, and behind a proxy, a token is demanded: ConfigurationError("token-missing") without a long
    enough one, and ConfigurationError("port-taken") where the port cannot be had.
    """
    with _listen(app, host, port) as listener:
        if ready is not None:
            ready(_address(host, listener))
        _server(app).run(sockets=[listener])


@contextmanager
def serving(app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve ``app`` in a thread for the length of the block; yields its address. Raises as ``serve`` does."""
    server = _server(app)
    with _listen(app, host, port) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="web", daemon=True)
        thread.start()
        try:
            yield _address(host, listener)
        finally:
            server.should_exit = True
            thread.join()


class _Server(PatientServer):
    """uvicorn raises the signal again once it has stopped; our caller has a database to close first."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Finish the open requests and stop; at the second signal stop at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


def _server(app: FastAPI) -> uvicorn.Server:
    configuration = uvicorn.Config(
        app,
        http=ProxiedConnection if app.state.behind_proxy else Connection,
        access_log=False,
        log_config=None,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=5,
    )
    return _Server(configuration)


def _address(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}/"


def _listen(app: FastAPI, host: str, port: int) -> socket.socket:
    if len(app.state.token) < SHORTEST_TOKEN and (not is_this_machine(host) or app.state.behind_proxy):
        raise ConfigurationError(
            "token-missing",
            f"to be reached from beyond this machine set [serve] token, at least {SHORTEST_TOKEN} characters",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's delay off only where it is: 40 ms an answer otherwise.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)  # a full queue costs the next peer a second: its SYN is dropped
    except OSError:
        listener.close()
        raise ConfigurationError(
            "port-taken", f"cannot listen on port {port}; set [serve] host and port"
        ) from None
    return listener
