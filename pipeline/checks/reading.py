"""The checks' own reading of a section: its sentences, the findings they state or deny, and on which side."""
# ruff: noqa: RUF001  Chinese punctuation ends sentences too.

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.checks.lexicon import (
    ALL_NORMAL,
    DOUBT,
    HILUM,
    LEXICON,
    LUNGS_CLEAR,
    MIDLINE_STRUCTURE,
    NEGATED_AFTER,
    NEGATION,
    NO_CHANGE,
    NO_FURTHER,
    OLD,
    PLACED,
    SCOPE_END,
    SIDE,
    SIZE,
    ZONE,
    Term,
)
from pipeline.report import Side

MAX_CHARACTERS = 20_000
"""No section of a chest report is longer; what lies beyond is not read (the ``sections`` check fails it)."""

_SENTENCE_END = re.compile(r"(?<=[!?。；！？\n])\s*|(?<=[.;])(?=\s|$)\s*")
_PHRASE_START = re.compile(r"[,;，；、及]|\b(?:and|with|or)\b")
_LUNG_KEYS = frozenset({"consolidation", "pneumonia", "nodule", "mass"})


@dataclass(frozen=True, slots=True)
class Mention:
    """One finding named in a section: stated, denied, or left open (``doubtful``); ``old`` ones are not acute.

    ``zones`` and ``sizes`` are the words of the sentence for where and how much ("upper", "little"). Where the
    sentence names several findings they may belong to any of them: then ``zones`` is empty, and ``sizes`` are those of
    the words just before the finding.
    """

    term: Term
    present: bool
    doubtful: bool
    side: Side | None
    old: bool = False
    zones: frozenset[str] = frozenset()
    sizes: frozenset[str] = frozenset()


def sentences(text: str) -> tuple[str, ...]:
    """The sentences of ``text``, stripped, without empty ones; decimal points do not end a sentence."""
    return tuple(s for s in (part.strip() for part in _SENTENCE_END.split(text[:MAX_CHARACTERS])) if s)


def mentions(text: str) -> tuple[Mention, ...]:
    """Every finding of the lexicon that ``text`` states, denies or doubts, in reading order."""
    return tuple(mention for sentence in sentences(text) for mention in _in_sentence(sentence))


def says_all_normal(text: str) -> bool:
    """True where a sentence denies every acute finding ("no acute cardiopulmonary abnormality")."""
    return any(ALL_NORMAL.search(sentence) and not DOUBT.search(sentence) for sentence in sentences(text))


def _in_sentence(sentence: str) -> Iterator[Mention]:
    with_hilum = MIDLINE_STRUCTURE.sub(_blank, sentence)
    plain = HILUM.sub(_blank, with_hilum)
    spans = sorted(
        ((m.start(), m.end(), term) for term in LEXICON for m in term.terms.finditer(sentence)),
        key=lambda span: span[:2],
    )
    named = {term.key for _, _, term in spans}
    read_to = 0
    for index, (start, end, term) in enumerate(spans):
        following = spans[index + 1][0] if index + 1 < len(spans) else len(sentence)
        around = with_hilum if term.key in _LUNG_KEYS else plain
        side, read_to = _side(around, read_to, start, end, following)
        if not _speaks_of_others(sentence, start):
            denied = _denied(sentence, start, end, term)
            doubtful = _doubtful(sentence, start, end)
            alone = sentence if len(spans) == 1 else ""
            old = OLD.search(sentence) is not None
            sized = alone or _before(sentence, spans[index - 1][1] if index else 0, start)
            yield Mention(term, not denied, doubtful, side, old, _kinds(ZONE, alone), _kinds(SIZE, sized))
    for term in LEXICON:
        if term.key in named:
            continue
        if (term.normal is not None and term.normal.search(sentence)) or (
            term.key in _LUNG_KEYS and LUNGS_CLEAR.search(sentence)
        ):
            yield Mention(term, present=False, doubtful=False, side=None)


def _blank(match: re.Match[str]) -> str:
    return " " * len(match.group())


def _before(sentence: str, read_to: int, start: int) -> str:
    """The words of the phrase that ends in the finding at ``start``."""
    return _PHRASE_START.split(sentence[min(read_to, start) : start])[-1]


def _speaks_of_others(sentence: str, start: int) -> bool:
    return any(
        match.end() <= start and not SCOPE_END.search(sentence, match.end(), start)
        for match in NO_FURTHER.finditer(sentence)
        if not NO_CHANGE.match(sentence, match.start())
    )


def _denied(sentence: str, start: int, end: int, term: Term) -> bool:
    if term.normal is not None and term.normal.search(sentence):
        return True
    for match in NEGATION.finditer(sentence, 0, end):
        if NO_CHANGE.match(sentence, match.start()):
            continue
        if match.end() <= start and not SCOPE_END.search(sentence, match.end(), start):
            return True
        if start <= match.start():
            return True
    return NEGATED_AFTER.search(sentence[end:]) is not None


def _doubtful(sentence: str, start: int, end: int) -> bool:
    return DOUBT.search(sentence[max(0, start - 60) : end + 40]) is not None


def _kinds(pattern: re.Pattern[str], sentence: str) -> frozenset[str]:
    """Which alternatives of ``pattern`` the sentence holds."""
    return frozenset(match.lastgroup for match in pattern.finditer(sentence) if match.lastgroup)


def _side(sentence: str, read_to: int, start: int, end: int, following: int) -> tuple[Side | None, int]:
    """The side of the finding at ``start:end``, and up to where its side words were used up.

    A place named after it wins, then the words before it, then the first word after it.
    """
    placed = PLACED.search(sentence[end:following])
    if placed is not None:
        return _named(list(SIDE.finditer(placed.group()))), end + placed.end()
    before = list(SIDE.finditer(sentence[min(read_to, start) : start]))
    if before:
        return _named(before), end
    after = SIDE.search(sentence[end:following])
    if after is None:
        return None, end
    return None if following < len(sentence) else _named([after]), end


def _named(found: list[re.Match[str]]) -> Side | None:
    named = [(match.lastgroup or "").removesuffix("_zh") for match in found]
    if not named:
        return None
    if named[-1] == "both" or {"left", "right"} <= set(named):
        return Side.BILATERAL
    return Side(named[-1])
