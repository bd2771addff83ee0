"""Docstrings and comments whose lines break too early, or end inside a parenthesis.

``python -m tests.prose`` lists them, ``python -m tests.prose --fix`` fills the paragraphs that hold one.
``tests/unit/test_prose.py`` holds that there is none.
"""

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("pipeline", "models", "flows", "sql", "tests", "scripts")
WIDTH = 120
SLACK = 14
"""Columns that a line may leave free although the next word would fit: room for a break after a sentence."""

_MARKED = re.compile(
    r"([-*|>#]|\d+[.)]|\S+: |:\w+)(\s|$)|.*\S {2,}\S|Revis|.*::$|.*(noqa|type: ignore|fmt: )"
)


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Consecutive lines of prose: where they begin in the file (from 0), what stands before each, and their words."""

    start: int
    prefix: str
    lines: tuple[str, ...]

    def is_ragged(self) -> bool:
        """True when a line ends early: after one or two words, or with ``SLACK`` columns and the next word to spare."""
        for line, following in zip(self.lines, self.lines[1:], strict=False):
            free = WIDTH - len(self.prefix) - len(line) - 1 - len(following.split()[0])
            if free >= 0 and (len(line.split()) <= 2 or free >= SLACK):
                return self.filled() != list(self.lines)
        return False

    def is_cut(self) -> bool:
        """True when the paragraph ends inside a parenthesis."""
        text = re.sub(r"`[^`]*`|\"[^\"]*\"|'[^' ]*'|[:;]-?[()]", "", " ".join(self.lines))
        return text.count("(") > text.count(")")

    def filled(self) -> list[str]:
        """Its lines filled to ``WIDTH``, the words of a literal kept together."""
        text = re.sub(
            r"``[^`]*``|\[[^\]]*\]", lambda found: found[0].replace(" ", "\0"), " ".join(self.lines)
        )
        lines = textwrap.wrap(text, WIDTH - len(self.prefix), break_long_words=False, break_on_hyphens=False)
        return [line.replace("\0", " ") for line in lines]


def paragraphs(text: str) -> list[Paragraph]:
    """The paragraphs of prose in the docstrings and comments of a module."""
    lines = text.splitlines()
    return [*_docstrings(text, lines), *_comments(text, lines)]


def _docstrings(text: str, lines: list[str]) -> Iterator[Paragraph]:
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            continue
        if (
            isinstance(node.value.value, str)
            and node.end_lineno is not None
            and node.end_lineno > node.lineno
        ):
            first = node.lineno - 1
            body = [" " * node.col_offset + lines[first].lstrip()[3:], *lines[node.lineno : node.end_lineno]]
            if not lines[first].lstrip().startswith('"""'):
                continue
            yield from _split(first, body, " " * node.col_offset)


def _comments(text: str, lines: list[str]) -> Iterator[Paragraph]:
    inside = {
        row
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno
        for row in range(node.lineno, node.end_lineno)
    }
    block: list[str] = []
    for row, line in enumerate([*lines, ""]):
        words = line.lstrip()
        indent = line[: len(line) - len(words)]
        if words.startswith("#") and row not in inside and (not block or block[-1].startswith(indent)):
            block.append(indent + words.removeprefix("#").removeprefix(" "))
            continue
        if block:
            before = lines[row - len(block)]
            column = " " * (len(before) - len(before.lstrip()))
            yield from _split(row - len(block), block, column, "# ")
        block = []


def _split(start: int, body: list[str], indent: str, mark: str = "") -> Iterator[Paragraph]:
    """Paragraphs of a block whose prose stands at ``indent``; what is indented, listed or aligned is left alone."""
    block: list[str] = []
    for number, line in enumerate([*body, ""]):
        words = line.removeprefix(indent).rstrip()
        plain = line.startswith(indent) and words[:1].strip() and words != '"""'
        if plain:
            block.append(words)
            continue
        if block and not any(_MARKED.match(one) for one in block) and not words.startswith(" "):
            yield Paragraph(start + number - len(block), indent + mark, tuple(block))
        block = []


def mended(text: str) -> str:
    """``text`` with every ragged paragraph filled; nothing but docstrings and comments is touched."""
    lines = text.splitlines()
    ragged = [one for one in paragraphs(text) if one.is_ragged()]
    for one in sorted(ragged, key=lambda paragraph: paragraph.start, reverse=True):
        opened = lines[one.start].lstrip().startswith('"""')
        first = '"""' if opened else ""
        filled = Paragraph(one.start, one.prefix, (first + one.lines[0], *one.lines[1:])).filled()
        lines[one.start : one.start + len(one.lines)] = [one.prefix + line for line in filled]
    return "\n".join(lines) + "\n"


def faults(path: Path) -> list[str]:
    """What is wrong in a module, each with its line."""
    name = path.relative_to(ROOT)
    found = []
    for one in paragraphs(path.read_text(encoding="utf-8")):
        if one.is_ragged():
            found.append(f"{name}:{one.start + 1}: a line breaks too early; python -m tests.prose --fix")
        if one.is_cut():
            found.append(f"{name}:{one.start + 1}: the paragraph ends inside a parenthesis")
    return found


def modules() -> list[Path]:
    """Every Python module of the repository."""
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def main(arguments: list[str]) -> int:
    """List the faults, or with ``--fix`` fill what is ragged; other arguments are files or folders to look at."""
    named = [ROOT / one for one in arguments if one != "--fix"]
    chosen = [path for path in modules() if not named or any(path.is_relative_to(one) for one in named)]
    for path in chosen:
        if "--fix" in arguments:
            text = path.read_text(encoding="utf-8")
            if (new := mended(text)) != text:
                path.write_text(new, encoding="utf-8")
    left = [fault for path in chosen for fault in faults(path)]
    print("\n".join(left))
    return 1 if left else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
