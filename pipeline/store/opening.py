"""Opening the store that the settings name: the site's Postgres, or the embedded one under the data folder."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pipeline.settings import Settings
from pipeline.store.embedded import EmbeddedPostgres
from pipeline.store.migrations import head
from pipeline.store.store import Store


@contextmanager
def database_url(settings: Settings) -> Iterator[str]:
    """The URL of the database, for the length of the block: the embedded server runs that long."""
    url = settings.database.url.get_secret_value()
    if url:
        yield url
        return
    with EmbeddedPostgres.ensure(settings.data_dir) as server:
        yield server.url


@contextmanager
def open_store(
    settings: Settings, *, owner: str = "", patience_seconds: float = 60.0, connect_seconds: int = 10
) -> Iterator[Store]:
    """The store; ``owner`` names its connections in the server's list of sessions.

    ``patience_seconds`` is how long a call waits for a database that is away, ``connect_seconds`` how long for a server
    that does not even refuse.

    The embedded database is at this program's schema when it is there; a site's own is brought up only by
    ``firstread db upgrade``. Raises StopRun when the schema is not the one expected, RetryLater when the database is
    away.
    """
    with ExitStack() as stack:
        url = stack.enter_context(database_url(settings))
        yield stack.enter_context(
            Store(
                url,
                revision=head(),
                owner=owner,
                patience_seconds=patience_seconds,
                connect_seconds=connect_seconds,
            )
        )
