"""The site's Prefect API, where it has one, and the settings that keep Prefect quiet.

Nothing that could hold patient data is sent to it: no logs, no results, parameters are ledger ids and dates
(docs/design.md#patient-data). A command starts no server of its own: the ledger is the truth and Prefect a record.
"""

import http.client
import urllib.error
import urllib.request
from urllib.parse import urlsplit, urlunsplit

from pipeline import settings as configuration
from pipeline.errors import StopRun
from pipeline.settings import Settings

ANSWER_SECONDS = 5.0

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
    # What ends a run is told once, by the command and the state's message, not as a traceback before it.
    "PREFECT_LOGGING_LOGGERS_PREFECT_FLOW_RUNS_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "CRITICAL",
}


def site_api(settings: Settings) -> str:
    """Point Prefect, not imported yet, at the site's own API; gives its URL, or "" where the site has none."""
    configuration.export(QUIET)
    site = settings.prefect.api_url or configuration.environment().get("PREFECT_API_URL", "")
    if site:
        configuration.export({"PREFECT_API_URL": site})
    return site


def check_site_api(url: str) -> str:
    """Ask whether the site's API answers at all; returns a sentence. Raises StopRun with advice where it does not.

    Prefect itself would end the run by a RuntimeError, after its own tries.
    """
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]  # without a login, which urllib cannot read and nobody else may
    plain = urlunsplit(parts._replace(netloc=place))
    try:
        with urllib.request.urlopen(f"{plain.rstrip('/')}/health", timeout=ANSWER_SECONDS):  # noqa: S310 - the site's own
            pass
    except urllib.error.HTTPError:
        pass  # it answers; what it says of this path is its own affair
    except (OSError, ValueError, http.client.HTTPException):
        message = (
            f"the Prefect API at {place} does not answer: start it (prefect server start), or take PREFECT_API_URL and "
            "[prefect] api_url away: the ledger does not need it"
        )
        raise StopRun("prefect-away", message) from None
    return f"the Prefect API at {place} answers"
