"""``firstread audit``: prove the chain, or write it out."""

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from flows.environment.person import login_name
from pipeline.errors import ConfigurationError
from pipeline.fhir import door_events
from pipeline.folders import open_private
from pipeline.settings import Settings
from pipeline.store.opening import open_store
from pipeline.store.values import ChainHead


def verify_audit(settings: Settings, heads: Path | None, *, content: bool, as_json: bool) -> int:
    """Prove the chain, with ``content`` the report rows too; returns the exit code: 1 when a row is broken.

    ``heads`` is what an earlier ``audit verify --json`` printed. Raises ConfigurationError where it cannot be read.
    """
    noted = noted_heads(heads) if heads is not None else ()
    with open_store(settings) as store:
        verdict = store.audit_verify(content=content, noted=noted)
    if as_json:
        sys.stdout.write(json.dumps(asdict(verdict), default=str) + "\n")
    elif verdict.ok:
        sys.stdout.write(f"the audit chain holds: {verdict.rows} rows\n")
    else:
        where = "" if verdict.first_broken is None else f" at row {verdict.first_broken}"
        sys.stdout.write(f"the audit does not hold{where}: {verdict.reason}\n")
    return 0 if verdict.ok else 1


def noted_heads(path: Path) -> tuple[ChainHead, ...]:
    """The heads in a file that ``audit verify --json`` wrote. Raises ConfigurationError for any other."""
    try:
        verdict = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        return tuple(
            ChainHead(str(one["chain"]), int(one["rows"]), str(one["digest"])) for one in verdict["heads"]
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        message = f"{path} is not what `firstread audit verify --json` printed"
        raise ConfigurationError("audit-heads", message) from None


def export_audit(settings: Settings, out: Path | None) -> None:
    """Write the chain as NDJSON. The events name patients: the file belongs where patient data may be."""
    with open_store(settings) as store:
        told = door_events.audit_read(settings.policy.organization, login_name(), datetime.now(UTC))
        store.append_audit([told])
        if out is None:
            store.audit_export(sys.stdout.buffer)
            return
        try:
            with open(out, "xb", opener=open_private) as file:
                store.audit_export(file)
        except FileExistsError:
            raise ConfigurationError("audit-export", f"{out} exists; name another file") from None
        except OSError as error:
            message = f"{out} cannot be written ({error.strerror})"
            raise ConfigurationError("audit-export", message) from None
