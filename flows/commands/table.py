"""Tables on standard output, which fit 80 columns or the terminal.

Without lines and boxes, so that what is shown can be searched, cut and copied. Written here and not by rich, whose
import costs a tenth of the time that ``status`` takes.
"""

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from unicodedata import category, combining, east_asian_width

from flows.tally import Tally
from pipeline import settings as configuration
from pipeline.characters import CONTROLS, DIRECTIONS, HALVES, one_of

BANNER = "Machine-made drafts. Not read by a radiologist. Not for clinical use."
NARROWEST = 8
"""Columns are not made narrower than this many cells to fit; a line may then be longer than the terminal."""
_GAP = "  "
_STEERS = one_of(CONTROLS, "\f\r", DIRECTIONS, HALVES)
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


def tally_table(tally: Tally) -> None:
    """Print a run's counts."""
    names = ["discovered", "reported", "skipped", "failed", "unchanged"]
    names += [name for name in ("still_failed", "reinstated") if getattr(tally, name)]
    counts = [(name.replace("_", " "), str(getattr(tally, name))) for name in names]
    counts.append(("seconds", f"{tally.seconds:.1f}"))
    if tally.passed_over:
        counts.append(("passed over", str(tally.passed_over)))
    names, values = [name for name, _ in counts], [value for _, value in counts]
    _write(_lines(names, [values], right=True))


def rows_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", caption: str = ""
) -> None:
    """Print rows; the first column is never broken, long text in others is folded at its spaces where it has any."""
    if title:
        sys.stdout.write(_styled(_BOLD, title) + "\n")
    _write(_lines([_shown(one) for one in columns], [[_shown(one) for one in row] for row in rows]))
    if caption:
        for line in _folded(caption, _width()):
            sys.stdout.write(_styled(_DIM, line) + "\n")


def cells(text: str) -> int:
    """How many cells of a terminal ``text`` takes (Unicode Standard Annex 11)."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def _cells_of(character: str) -> int:
    if combining(character) or category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if east_asian_width(character) in ("W", "F") else 1


def _shown(text: str) -> str:
    """Without what steers a terminal or turns the direction of writing, whatever an archive or a model wrote. Line ends
    stay."""
    return _STEERS.sub("", text.replace("\t", " "))


def _width() -> int:
    return shutil.get_terminal_size((80, 24)).columns


def _styled(style: str, text: str) -> str:
    environment = configuration.environment()
    plain = not sys.stdout.isatty() or "NO_COLOR" in environment or environment.get("TERM", "dumb") == "dumb"
    return text if plain else f"{style}{text}{_PLAIN}"


def _write(lines: Iterable[str]) -> None:
    for number, line in enumerate(lines):
        sys.stdout.write((_styled(_BOLD, line) if number == 0 else line) + "\n")


def _lines(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: bool = False) -> Iterator[str]:
    widths = _widths([columns, *rows])
    for row in (columns, *rows):
        parts = [_folded(text, width) for text, width in zip(row, widths, strict=True)]
        for number in range(max(map(len, parts), default=0)):
            line = [part[number] if number < len(part) else "" for part in parts]
            padded = [
                " " * (width - cells(text)) + text if right else text + " " * (width - cells(text))
                for text, width in zip(line, widths, strict=True)
            ]
            yield _GAP.join(padded).rstrip()


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """The width of each column in cells: what its longest line takes, the widest narrowed until all fit."""
    wanted = [
        max(cells(line) for text in column for line in (text.splitlines() or [""]))
        for column in zip(*rows, strict=True)
    ]
    room = _width() - len(_GAP) * (len(wanted) - 1)
    while sum(wanted) > room and len(wanted) > 1:
        widest = max(range(1, len(wanted)), key=lambda column: wanted[column])
        if wanted[widest] <= NARROWEST:
            break
        wanted[widest] -= 1
    return wanted


def _folded(text: str, width: int) -> list[str]:
    """The lines of ``text``, none wider than ``width`` cells: broken at spaces, and within words longer than that."""
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            if cells(longer) <= width:
                line = longer
                continue
            if line:
                lines.append(line)
            *full, line = _cut(word, width)
            lines += full
        lines.append(line)
    return lines


def _cut(word: str, width: int) -> list[str]:
    pieces = [""]
    for character in word:
        if pieces[-1] and cells(pieces[-1]) + _cells_of(character) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces
