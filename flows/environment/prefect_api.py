"""The site's Prefect API, where it has one, and the settings that keep Prefect quiet.

Nothing that could hold patient data is sent to it: no logs, no results, parameters are ledger ids and dates
(docs/design.md#patient-data). A command starts no server of its own: the ledger is the truth and Prefect a record.
"""

from pipeline import settings as configuration
from pipeline.settings import Settings

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
    """Point Prefect, not imported yet, at the site's own API; gives its URL, or "" where the site has none."""
    configuration.export(QUIET)
    site = settings.prefect.api_url or configuration.environment().get("PREFECT_API_URL", "")
    if site:
        configuration.export({"PREFECT_API_URL": site})
    return site
