"""Who keeps a record of a run: a site's Prefect API, or nobody where none is configured. The path is the same.

The recorder travels in a context variable, as the observer does. ``flows.deployments`` sets the one that speaks to
Prefect, which nothing else imports.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import ContextVar
from typing import Protocol, TypeVar

from pipeline.store.store import Store

Batch = TypeVar("Batch")
Outcome = TypeVar("Outcome")


class Recorder(Protocol):
    """Does each batch of a stage, and keeps a record of it by count and stage, never by study."""

    async def do(self, stage: Callable[[Batch], Awaitable[Outcome]], batch: Batch) -> Outcome:
        """The outcome of ``stage`` for one batch; raises what it raises."""
        ...

    async def began(self, store: Store) -> None:
        """The run begins its work on this ledger: note who does it, and put right the record of runs that are gone."""
        ...

    def place_at(self, archive: str) -> AbstractAsyncContextManager[None]:
        """One of the places that a site gives to all its runs together at this archive, while the block lasts."""
        ...


class Unrecorded:
    """The recorder of a run without a Prefect API: the work alone."""

    async def do(self, stage: Callable[[Batch], Awaitable[Outcome]], batch: Batch) -> Outcome:
        """The outcome of ``stage``."""
        return await stage(batch)

    async def began(self, store: Store) -> None:
        """Nothing is kept of it."""

    def place_at(self, archive: str) -> AbstractAsyncContextManager[None]:
        """Granted at once: ``concurrency`` of the archive bounds this run."""
        return nullcontext()


RECORDER: ContextVar[Recorder] = ContextVar("recorder", default=Unrecorded())  # noqa: B039 - it holds no state
