"""Progress bars on standard error, for whoever waits at a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from flows.environment.observer import OBSERVER


class Bars:
    """The observer that draws: one bar for each lane a person can wait for."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._found = progress.add_task("found", total=None)
        self._retrieved = progress.add_task("retrieved", total=0)
        self._settled = progress.add_task("drafted", total=0)
        self._claimed = 0

    def found(self, studies: int) -> None:
        """Move the count of what the archive has."""
        self._progress.advance(self._found, studies)

    def claimed(self, studies: int) -> None:
        """Lengthen the other two bars."""
        self._claimed += studies
        for bar in (self._retrieved, self._settled):
            self._progress.update(bar, total=self._claimed)

    def retrieved(self, studies: int) -> None:
        """Move the bar of retrieval."""
        self._progress.advance(self._retrieved, studies)

    def settled(self, studies: int) -> None:
        """Move the bar of what came to rest."""
        self._progress.advance(self._settled, studies)


@contextmanager
def progress_bars(show: bool) -> Iterator[None]:
    """Draw progress for the length of the block, where ``show`` and a terminal ask for it."""
    if not show:
        yield
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        token = OBSERVER.set(Bars(progress))
        try:
            yield
        finally:
            OBSERVER.reset(token)


@contextmanager
def counting(name: str, total: int, *, show: bool) -> Iterator[Callable[[int], None]]:
    """One bar of ``total`` steps; returns the function that is told how many are done."""
    columns = (TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
        bar = progress.add_task(name, total=total)
        yield lambda done: progress.update(bar, completed=done)
