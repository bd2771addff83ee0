"""``firstread db``: bring the schema up, say where the database is, open a prompt on it."""

import json
import shutil
import subprocess
import sys
from urllib.parse import unquote, urlsplit, urlunsplit

from pipeline import settings as configuration
from pipeline.settings import Settings
from pipeline.store.migrations import upgrade
from pipeline.store.opening import Purpose, database_url
from pipeline.store.shell import read_and_run

READ_ONLY = "-c default_transaction_read_only=on -c search_path=firstread"
SHORT_LIVED = """\
the embedded server runs while a command uses it: keep `firstread serve` running, or use
`firstread db shell`"""


def upgrade_database(settings: Settings, *, as_json: bool) -> None:
    """Bring the schema to this version."""
    with database_url(settings, Purpose.MIGRATE) as url:
        revision = upgrade(url)
    if as_json:
        sys.stdout.write(json.dumps({"revision": revision}) + "\n")
    else:
        sys.stdout.write(f"schema is at {revision}\n")


def show_url(settings: Settings, *, with_password: bool, as_json: bool) -> None:
    """The address of the database, that of the embedded server too; its password only when a person asks."""
    embedded = not settings.database.url.get_secret_value()
    with database_url(settings) as url:
        shown = plain_url(url, with_password=with_password)
    if as_json:
        sys.stdout.write(json.dumps({"url": shown, "embedded": embedded}) + "\n")
    else:
        sys.stdout.write(f"{shown}\n")
    if embedded:
        sys.stderr.write(f"{SHORT_LIVED}\n")


def open_shell(settings: Settings) -> int:
    """``psql`` where it is installed, else a small prompt; it reads and changes nothing. Returns the exit code."""
    with database_url(settings) as url:
        program = shutil.which("psql")
        if program is None:
            sys.stderr.write(
                "psql is not installed: a statement ends with a semicolon, Ctrl-D ends this prompt\n"
            )
            return read_and_run(url, sys.stdin, sys.stdout, sys.stderr)
        parts = urlsplit(url)
        environment = {**configuration.environment(), "PGOPTIONS": READ_ONLY}
        if parts.password:  # not as an argument, which every user of this machine may read
            environment["PGPASSWORD"] = unquote(parts.password)
        command = [program, plain_url(url, with_password=False)]
        return subprocess.run(command, env=environment, check=False).returncode


def plain_url(url: str, *, with_password: bool) -> str:
    """``url`` as every client takes it, without the driver's name and, unless asked for, without the password."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    if not with_password:
        login = login.partition(":")[0]
    return urlunsplit(parts._replace(scheme="postgresql", netloc=f"{login}{at}{host}"))
