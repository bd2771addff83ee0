"""The review page and FHIR REST, joined to the store and to the audit."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from pipeline.fhir.audit_events import rest_access
from pipeline.settings import Settings
from pipeline.store.opening import open_store
from pipeline.store.store import Store
from pipeline.web.addresses import Addresses
from pipeline.web.app import create_app
from pipeline.web.reader import Access, Audit
from pipeline.web.serving import serve


def serve_forever(settings: Settings, *, host: str | None, port: int | None) -> None:
    """Serve until interrupted.

    Raises ConfigurationError off loopback without a long enough token, or where the port is taken.
    """
    host = host or settings.serve.host
    port = settings.serve.port if port is None else port
    token = settings.serve.token.get_secret_value()
    addresses = Addresses.of(settings.serve.public_url, settings.serve.trusted_proxies)
    with open_store(settings) as store:
        app = create_app(
            store, token=token, audit=auditor(store), clock=lambda: datetime.now(UTC), addresses=addresses
        )
        serve(app, host, port, ready=_say)


def _say(address: str) -> None:
    sys.stderr.write(f"review page and FHIR R4 on {address} (stop with Ctrl-C)\n")
    sys.stderr.flush()


def auditor(store: Store) -> Audit:
    """Writes each access as AuditEvents before the answer is given."""

    def write(accesses: Sequence[Access]) -> None:
        store.append_audit([event for access in accesses for event in rest_access(access)])

    return write
