"""Who watches a run. The command line shows progress bars; a deployment has nobody watching.

The observer travels in a context variable, not in flow parameters, which Prefect stores.
"""

from contextvars import ContextVar
from typing import Protocol


class Observer(Protocol):
    """Told of progress by count; never of identifiers."""

    def found(self, studies: int) -> None:
        """So many more studies were found in the archive."""
        ...

    def claimed(self, studies: int) -> None:
        """So many more studies are being worked on."""
        ...

    def retrieved(self, studies: int) -> None:
        """So many more studies were brought here and decoded, or came to rest on the way."""
        ...

    def settled(self, studies: int) -> None:
        """So many more studies came to rest: reported, skipped, failed or unchanged."""
        ...


class Nobody:
    """The observer of an unattended run."""

    def found(self, studies: int) -> None:
        """Not shown."""

    def claimed(self, studies: int) -> None:
        """Not shown."""

    def retrieved(self, studies: int) -> None:
        """Not shown."""

    def settled(self, studies: int) -> None:
        """Not shown."""


OBSERVER: ContextVar[Observer] = ContextVar("observer", default=Nobody())  # noqa: B039 - Nobody holds no state
