"""A Prefect server of a test's or benchmark's own, on loopback; its database is Postgres, as a site's is."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import settings as configuration
from pipeline.child_process import stop
from tests.servers import free_port

START_SECONDS = 90.0


@contextmanager
def prefect_server(database_url: str, home: Path, **more: str) -> Iterator[str]:
    """A Prefect server on a free port of loopback for the length of the block; gives its API URL.

    ``more`` are further variables of it.
    """
    with prefect_process(database_url, home, **more) as (url, _):
        yield url


@contextmanager
def prefect_process(
    database_url: str, home: Path, **more: str
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The same with its process, for whoever wants to end it."""
    port = free_port()
    environment = {**configuration.environment(), "PREFECT_SERVER_DATABASE_CONNECTION_URL": database_url}
    environment |= {"PREFECT_HOME": str(home), **more}
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-ui",
    ]
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}/api"
        _await_health(url, server, home / "server.log")
        yield url, server
    finally:
        stop(server)


def _await_health(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise AssertionError(f"the Prefect server ended at once; read {log}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(f"the Prefect server did not come up in {START_SECONDS:.0f} s; read {log}")
