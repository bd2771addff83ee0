"""Opening the store that the settings name: the site's Postgres, or the embedded one under the data folder."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum

from pipeline.settings import Settings
from pipeline.store.connections import MACHINE, VIEWER
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.migrations import head
from pipeline.store.store import Store


class Purpose(Enum):
    """What a database is opened for; each has a login of its own where the site gave it one."""

    WORK = "url"
    SERVE = "serve_url"
    MIGRATE = "migration_url"


@contextmanager
def database_url(settings: Settings, purpose: Purpose = Purpose.WORK) -> Iterator[str]:
    """The URL of the database, for the length of the block: the embedded server runs that long."""
    site = settings.database
    if url := site.url.get_secret_value():
        yield getattr(site, purpose.value).get_secret_value() or url
        return
    with EmbeddedPostgres.ensure(settings.data_dir) as server:
        yield str(getattr(server, purpose.value))


@contextmanager
def open_store(
    settings: Settings,
    *,
    owner: str = "",
    purpose: Purpose = Purpose.WORK,
    patience_seconds: float = 60.0,
    connect_seconds: int = 10,
) -> Iterator[Store]:
    """The store; ``owner`` names its connections in the server's list of sessions.

    Opened to serve it reads, and writes the audit of what was read and nothing else. ``patience_seconds`` is how long a
    call waits for a database that is away, ``connect_seconds`` how long for a server that does not even refuse.

    The embedded database is at this program's schema when it is there; a site's own is brought up only by
    ``firstread db upgrade``. Raises StopRun when the schema is not the one expected, RetryLater when the database is
    away.
    """
    with ExitStack() as stack:
        url = stack.enter_context(database_url(settings, purpose))
        yield stack.enter_context(
            Store(
                url,
                revision=head(),
                owner=owner,
                role=VIEWER if purpose is Purpose.SERVE else MACHINE,
                patience_seconds=patience_seconds,
                connect_seconds=connect_seconds,
            )
        )
