"""``firstread audit``: prove the chain, or write it out."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.store.opening import open_store


def verify_audit(settings: Settings, *, as_json: bool) -> int:
    """Prove the chain; gives the exit code: 0 when it holds, 1 when a row is broken."""
    with open_store(settings) as store:
        verdict = store.audit_verify()
    if as_json:
        sys.stdout.write(json.dumps(asdict(verdict), default=str) + "\n")
    elif verdict.ok:
        sys.stdout.write(f"the audit chain holds: {verdict.rows} rows\n")
    else:
        sys.stdout.write(f"the audit chain is broken at row {verdict.first_broken}: {verdict.reason}\n")
    return 0 if verdict.ok else 1


def export_audit(settings: Settings, out: Path | None) -> None:
    """Write the chain as NDJSON. The events name patients: the file belongs where patient data may be."""
    with open_store(settings) as store:
        if out is None:
            store.audit_export(sys.stdout.buffer)
            return
        try:
            with out.open("xb") as file:
                store.audit_export(file)
        except FileExistsError:
            raise ConfigurationError("audit-export", f"{out} exists; name another file") from None
        except OSError as error:
            message = f"{out} cannot be written ({error.strerror})"
            raise ConfigurationError("audit-export", message) from None
