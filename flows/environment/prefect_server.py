"""Prefect for one command: its settings, and a server of our own where the site has none.

The server's database is Postgres (on SQLite the next run can start a minute late); nothing that could hold patient
data is sent to it: no logs, no results, parameters are ledger ids and dates (docs/design.md#patient-data).
"""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import settings as configuration
from pipeline.child_process import free_port, stop
from pipeline.errors import StopRun
from pipeline.settings import Settings
from pipeline.store.embedded import EmbeddedPostgres

START_SECONDS = 90.0

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
}


def site_api(settings: Settings) -> str:
    """Point Prefect, not imported yet, at the site's own API; returns its URL, or "" where the site has none."""
    configuration.export(QUIET)
    site = settings.prefect.api_url or configuration.environment().get("PREFECT_API_URL", "")
    if site:
        configuration.export({"PREFECT_API_URL": site})
    return site


@contextmanager
def prefect_api(settings: Settings) -> Iterator[str]:
    """The Prefect API of the site, or our own server on loopback for the length of the block; yields its URL.

    Must be entered before ``prefect`` is imported: Prefect reads its variables then. Raises StopRun when our
    server does not come up.
    """
    if site := site_api(settings):
        yield site
        return
    home = settings.data_dir / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    configuration.export({"PREFECT_HOME": str(home)})
    with (
        EmbeddedPostgres.ensure(settings.data_dir) as postgres,
        prefect_server(postgres.database_url_for("prefect"), home) as url,
    ):
        configuration.export({"PREFECT_API_URL": url})
        yield url


@contextmanager
def prefect_server(database_url: str, home: Path) -> Iterator[str]:
    """A Prefect server on a free port of loopback for the length of the block; yields its API URL."""
    port = free_port()
    environment = {**configuration.environment(), "PREFECT_SERVER_DATABASE_CONNECTION_URL": database_url}
    environment["PREFECT_HOME"] = str(home)
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
        yield url
    finally:
        stop(server)


def _await_health(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise StopRun("prefect", f"the Prefect server ended at once; read {log}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:  # noqa: S310 - our own loopback URL
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise StopRun("prefect", f"the Prefect server did not come up in {START_SECONDS:.0f} s; read {log}")
