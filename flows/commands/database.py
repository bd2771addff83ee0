"""``firstread db``: bring the schema up, say where the database is, open a prompt on it."""

import json
import sys

from pipeline.settings import Settings
from pipeline.store.migrations import upgrade
from pipeline.store.opening import database_url


def upgrade_database(settings: Settings, *, as_json: bool) -> None:
    """Bring the schema to this version."""
    with database_url(settings) as url:
        revision = upgrade(url)
    if as_json:
        sys.stdout.write(json.dumps({"revision": revision}) + "\n")
    else:
        sys.stdout.write(f"schema is at {revision}\n")
