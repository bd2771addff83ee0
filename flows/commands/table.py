"""What a person sees: progress bars and tables, on standard error, so that standard output stays for answers."""

from collections.abc import Callable, Iterator, Sequence
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
from rich.table import Table
from rich.text import Text

from flows.environment.observer import OBSERVER
from flows.tally import Tally

BANNER = "Machine-made drafts. Not read by a radiologist. Not for clinical use."


class Bars:
    """The observer that draws: one bar for each lane a person can wait for."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._found = progress.add_task("found", total=None)
        self._retrieved = progress.add_task("retrieved", total=0)
        self._rested = progress.add_task("drafted", total=0)
        self._claimed = 0

    def found(self, studies: int) -> None:
        """Move the count of what the archive has."""
        self._progress.advance(self._found, studies)

    def claimed(self, studies: int) -> None:
        """Lengthen the other two bars."""
        self._claimed += studies
        for bar in (self._retrieved, self._rested):
            self._progress.update(bar, total=self._claimed)

    def retrieved(self, studies: int) -> None:
        """Move the bar of retrieval."""
        self._progress.advance(self._retrieved, studies)

    def rested(self, studies: int) -> None:
        """Move the bar of what came to rest."""
        self._progress.advance(self._rested, studies)


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
    """One bar of ``total`` steps; gives the function that is told how many are done."""
    columns = (TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
        bar = progress.add_task(name, total=total)
        yield lambda done: progress.update(bar, completed=done)


def tally_table(tally: Tally) -> None:
    """Print a run's counts."""
    table = Table(title=None, box=None, pad_edge=False)
    for name in ("discovered", "reported", "skipped", "failed", "unchanged"):
        table.add_column(name, justify="right")
    table.add_column("seconds", justify="right")
    table.add_row(
        *(
            str(value)
            for value in (tally.discovered, tally.reported, tally.skipped, tally.failed, tally.unchanged)
        ),
        f"{tally.seconds:.1f}",
    )
    Console(stderr=True).print(table)


def rows_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", caption: str = ""
) -> None:
    """Print rows; long text is folded, and brackets in it are no markup."""
    table = Table(
        title=Text(title) if title else None,
        caption=Text(caption) if caption else None,
        caption_justify="left",
    )
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        table.add_row(*(Text(value) for value in row))
    Console(stderr=True).print(table)
