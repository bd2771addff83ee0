"""What a person sees: tables on standard output, which fit 80 columns; progress bars on standard error.

Without lines and boxes, so that what is shown can be searched, cut and copied.
"""

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


def tally_table(tally: Tally) -> None:
    """Print a run's counts."""
    names = ["discovered", "reported", "skipped", "failed", "unchanged"]
    names += [name for name in ("still_failed", "reinstated") if getattr(tally, name)]
    values = [str(getattr(tally, name)) for name in names]
    table = _table()
    further = {"passed over": str(tally.passed_over)} if tally.passed_over else {}
    for name in (*names, "seconds", *further):
        table.add_column(name.replace("_", " "), justify="right")
    table.add_row(*values, f"{tally.seconds:.1f}", *further.values())
    Console().print(table)


def rows_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", caption: str = ""
) -> None:
    """Print rows; the first column is never broken, long text in others is folded, and brackets are no markup."""
    table = _table()
    for number, column in enumerate(columns):
        table.add_column(Text(column), overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(Text(value) for value in row))
    console = Console()
    if title:
        console.print(Text(title, style="bold"))
    console.print(table)
    if caption:
        console.print(Text(caption, style="dim"))


def _table() -> Table:
    return Table(box=None, pad_edge=False, header_style="bold")
