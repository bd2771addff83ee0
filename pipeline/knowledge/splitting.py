"""From the text of a file to passages of a size that a person reads at once, each with its place."""

import re
from collections.abc import Iterable, Iterator

from pipeline.knowledge.terms import name_key, terms_of
from pipeline.knowledge.visible import one_line, visible
from pipeline.passages import Passage

LONGEST = 1000
"""Characters of a passage at most."""
_LONGEST_TITLE = 120
_LONGEST_PLACE = 200
_MOST_NAMES = 20
_HEADING = re.compile(r"(#{1,6})\s+(\S.*)")
_NAMES = re.compile(r"[;；,，/()（）|]")  # noqa: RUF001 - Chinese punctuation
_ENDS = ".!?;\n。！？；"  # noqa: RUF001 - Chinese punctuation


def text_passages(text: str) -> Iterator[Passage]:
    """Passages of plain text or Markdown: paragraphs that stand together under one heading.

    The first short line of a file without headings is its title. A title's names (also in brackets) are what is spoken
    of.
    """
    headings: list[tuple[int, str]] = []
    gathered: list[tuple[int, int, str]] = []
    alone = ""
    for first, last, block in _blocks(text):
        heading = _HEADING.fullmatch(block)
        is_title = not headings and first == last and len(block) <= _LONGEST_TITLE and not gathered
        if heading or (is_title and block[-1] not in ".。;；:"):
            yield from _flush(headings, gathered)
            level = len(heading[1]) if heading else 1
            headings = [one for one in headings if one[0] < level]
            headings.append((level, heading[2] if heading else block))
            alone = "" if heading else block
            continue
        alone = ""
        if gathered and sum(len(one[2]) for one in gathered) + len(block) > LONGEST:
            yield from _flush(headings, gathered)
        gathered.append((first, last, block))
    yield from _flush(headings, gathered)
    if alone:  # a file of one line: its words, not a title of nothing
        yield from made("line 1", "", alone)


def made(place: str, title: str, text: str, names: Iterable[str] = ()) -> Iterator[Passage]:
    """``text`` as one passage, or as several where it is longer than ``LONGEST``. Raises ValueError as ``visible``."""
    title, place, text = one_line(visible(title))[:_LONGEST_TITLE], place[:_LONGEST_PLACE], visible(text)
    keys = tuple(dict.fromkeys(key for name in names if (key := name_key(name[:_LONGEST_TITLE]))))
    for piece in pieces(text):
        yield Passage(place, title, piece, terms_of(f"{title}\n{piece}"), keys[:_MOST_NAMES])


def names_in(title: str) -> tuple[str, ...]:
    """The names that a title holds: "Gadobutrol (Gadovist)" has two."""
    return tuple(part.strip() for part in _NAMES.split(title) if part.strip())


def pieces(text: str) -> Iterator[str]:
    """``text`` in pieces of at most ``LONGEST`` characters, broken after sentences, else words, where there are any."""
    at = 0
    while len(text) - at > LONGEST:
        end = _break(text[at : at + LONGEST]) + at
        if piece := text[at:end].strip():
            yield piece
        at = end
    if piece := text[at:].strip():
        yield piece


def _break(window: str) -> int:
    """Where a piece that begins ``window`` ends: in its second half after a sentence, else a space, else at its end."""
    for ends in (_ENDS, " \t"):
        last = max(window.rfind(one) for one in ends)
        if last >= LONGEST // 2:
            return last + 1
    return len(window)


def _flush(headings: list[tuple[int, str]], gathered: list[tuple[int, int, str]]) -> Iterator[Passage]:
    if gathered:
        first, last = gathered[0][0], gathered[-1][1]
        place = f"line {first}" if first == last else f"lines {first}-{last}"
        title = " - ".join(words for _, words in headings)
        names = names_in(headings[0][1]) if headings else ()
        yield from made(place, title, "\n".join(block for *_, block in gathered), names)
        gathered.clear()


def _blocks(text: str) -> Iterator[tuple[int, int, str]]:
    """Paragraphs and headings with their first and last line, from 1."""
    held: list[str] = []
    number = 0
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if held and (not line or _HEADING.fullmatch(line)):
            yield number - len(held), number - 1, "\n".join(held)
            held = []
        if _HEADING.fullmatch(line):
            yield number, number, line
        elif line:
            held.append(line)
    if held:
        yield number - len(held) + 1, number, "\n".join(held)
