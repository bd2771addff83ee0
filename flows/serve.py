"""The review page and FHIR REST, joined to the store and to the audit."""

import ipaddress
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from pipeline.errors import ConfigurationError
from pipeline.fhir.audit_events import rest_access
from pipeline.settings import Settings
from pipeline.store.opening import open_store
from pipeline.store.store import Store
from pipeline.web.app import create_app
from pipeline.web.reader import Access, Audit
from pipeline.web.serving import serve

log = logging.getLogger(__name__)


def serve_forever(settings: Settings, *, host: str | None, port: int | None) -> None:
    """Serve until interrupted. Off loopback a token is demanded: ConfigurationError where none is set."""
    host = host or settings.serve.host
    port = settings.serve.port if port is None else port
    token = settings.serve.token.get_secret_value()
    if not token and not _is_loopback(host):
        raise ConfigurationError("serve-token", f"listening on {host} needs a token: set [serve] token")
    with open_store(settings) as store:
        app = create_app(store, token=token, audit=auditor(store), clock=lambda: datetime.now(UTC))
        sys.stderr.write(f"review page and FHIR R4 on http://{host}:{port} (stop with Ctrl-C)\n")
        sys.stderr.flush()
        serve(app, host, port)


def auditor(store: Store) -> Audit:
    """Writes each access as AuditEvents before the answer is given."""

    def write(accesses: Sequence[Access]) -> None:
        store.append_audit([event for access in accesses for event in rest_access(access)])

    return write


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
