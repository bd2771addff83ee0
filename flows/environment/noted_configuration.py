"""Which settings a command began with on this machine, so that the audit tells of the next change: names, never values.

The file beside the data holds a keyed digest of each setting, which says nothing of a secret without many guesses, to
this account alone.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from flows.environment.person import login_name
from pipeline.fhir.door_events import configuration_changed
from pipeline.folders import open_private, writing
from pipeline.settings import Settings
from pipeline.store.store import Store

FILE = "configuration.json"


def note_configuration(settings: Settings, store: Store) -> None:
    """Tell the audit which settings changed since the last command of this ``data_dir``, and note those in force.

    Raises StopRun and RetryLater as the store does.
    """
    path = settings.data_dir / FILE
    known = _known(path)
    key = str(known.get("key") or secrets.token_hex(16))
    now = dict(_digests(settings, bytes.fromhex(key)))
    before = known.get("settings")
    if before == now:
        return
    if isinstance(before, dict):
        changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        event = configuration_changed(settings.policy.organization, login_name(), changed, datetime.now(UTC))
        store.append_audit([event])
    beside = path.with_name(f"{FILE}.{secrets.token_hex(4)}")
    with writing("data_dir", settings.data_dir):
        with open(beside, "x", encoding="ascii", opener=open_private) as file:
            json.dump({"key": key, "settings": now}, file)
        beside.replace(path)


def _known(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="ascii"))
        bytes.fromhex(known["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return dict(known)


def _digests(settings: Settings, key: bytes) -> Iterator[tuple[str, str]]:
    for name, value in _flat("", settings.model_dump()):
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        digest = hmac.new(key, f"{name}={plain!r}".encode("utf-8", "surrogatepass"), hashlib.sha256)
        yield name, digest.hexdigest()[:16]


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Each setting by its dotted name, as in the file; a list counts as one."""
    if isinstance(value, Mapping) and value:
        for name, one in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), one)
    else:
        yield prefix, value
