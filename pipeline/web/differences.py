"""What changed from one draft to the next, word by word."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

from pipeline.lookup import ReportVersion

_MOST_WORDS = 1500
"""SequenceMatcher takes time that grows with the square of a text."""
_MOST_VERSIONS = 10


@dataclass(frozen=True, slots=True)
class Change:
    """A run of words; ``how`` is "kept", "new" or "gone"."""

    how: str
    text: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What version ``version`` says otherwise than ``before``, by section; only sections that changed."""

    version: int
    before: int
    sections: tuple[tuple[str, tuple[Change, ...]], ...]


def differences(versions: tuple[ReportVersion, ...]) -> tuple[Difference, ...]:
    """Of the last versions that a model wrote, each beside the one before; newest first, unchanged ones left out."""
    written = [one for one in versions if one.findings or one.impression][:_MOST_VERSIONS]
    found = (
        Difference(new.version, old.version, tuple(_sections(new, old))) for new, old in pairwise(written)
    )
    return tuple(one for one in found if one.sections)


def _sections(new: ReportVersion, old: ReportVersion) -> Iterator[tuple[str, tuple[Change, ...]]]:
    for name, now, then in (
        ("Findings", new.findings, old.findings),
        ("Impression", new.impression, old.impression),
    ):
        if now != then:
            yield name, tuple(_changes(_words(then), _words(now)))


def _words(text: str) -> list[str]:
    """Words with the space behind them; letters where a script has no spaces."""
    spaced = text.split(" ")
    if len(spaced) * 12 < len(text):
        return list(text)
    return [f"{word} " for word in spaced]


def _changes(then: list[str], now: list[str]) -> Iterator[Change]:
    if max(len(then), len(now)) > _MOST_WORDS:
        yield Change("gone", "".join(then).strip())
        yield Change("new", "".join(now).strip())
        return
    for how, a, b, c, d in SequenceMatcher(None, then, now, autojunk=False).get_opcodes():
        if how == "equal":
            yield Change("kept", "".join(then[a:b]))
            continue
        if b > a:
            yield Change("gone", "".join(then[a:b]))
        if d > c:
            yield Change("new", "".join(now[c:d]))
