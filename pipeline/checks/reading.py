"""The checks' own reading of a section: its sentences, the findings they state or deny, and on which side."""
# ruff: noqa: RUF001  Chinese punctuation ends sentences too.

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.checks.lexicon import (
    ADJACENT,
    ALL_NORMAL,
    ANATOMY,
    DIAPHRAGM,
    DOUBT,
    HILUM,
    LUNGS_CLEAR,
    MIDLINE_STRUCTURE,
    NEGATED_AFTER,
    NEGATION,
    NO_CHANGE,
    NO_FURTHER,
    OLD,
    OTHERWISE,
    PLACED,
    RECENT,
    SCOPE_END,
    SIDE,
    SIZE,
    ZONE,
)
from pipeline.checks.term import Term
from pipeline.checks.terms import LEXICON, RELATED
from pipeline.report import Side

MAX_CHARACTERS = 20_000
"""No section of a chest report is longer; what lies beyond is not read (the ``sections`` check fails it)."""

_SENTENCE_END = re.compile(r"(?<=[!?。；！？\n])\s*|(?<=[.;])(?=\s|$)\s*")
_PHRASE_START = re.compile(r"[,;，；、及]|\b(?:and|with|or)\b")
_CLAUSE_START = re.compile(r"[,;，；:：]")
_LUNG_KEYS = frozenset({"consolidation", "pneumonia", "opacity", "nodule", "mass"})
_OF_ANATOMY = frozenset({"hilum", "raised_diaphragm", "adenopathy"})
"""Findings of a structure whose own side is theirs."""
_NOUN = {
    name: re.compile(
        rf"(?:\b|(?<=[左右双侧]))(?:[\w-]+ ){{0,2}}?(?:{noun.pattern})|[^。；，]{{0,5}}?(?:{noun.pattern})",
        re.I,
    )
    for name, noun in ANATOMY.items()
}


@dataclass(frozen=True, slots=True)
class Mention:
    """One finding named in a section: stated, denied, or left open (``doubtful``); ``old`` ones are not acute.

    ``zones`` and ``sizes`` are the words of the sentence for where and how much ("upper", "little"). Where the
    sentence names several findings they may belong to any of them: then ``zones`` is empty, and ``sizes`` are those of
    the words just before the finding. A denial is ``recent`` where it leaves out what is old ("no acute fracture"),
    and ``implied`` where the words only imply it.
    """

    term: Term
    present: bool
    doubtful: bool
    side: Side | None
    old: bool = False
    zones: frozenset[str] = frozenset()
    sizes: frozenset[str] = frozenset()
    recent: bool = False
    implied: bool = False


def sentences(text: str) -> tuple[str, ...]:
    """The sentences of ``text``, stripped, without empty ones; decimal points do not end a sentence."""
    return tuple(s for s in (part.strip() for part in _SENTENCE_END.split(text[:MAX_CHARACTERS])) if s)


def mentions(text: str) -> tuple[Mention, ...]:
    """Every finding of the lexicon that ``text`` states, denies or doubts, in reading order."""
    return tuple(mention for sentence in sentences(text) for mention in _in_sentence(sentence))


def says_all_normal(text: str) -> bool:
    """True where a sentence denies every acute finding ("no acute cardiopulmonary abnormality")."""
    return any(
        ALL_NORMAL.search(sentence) and not DOUBT.search(sentence) and not OTHERWISE.search(sentence)
        for sentence in sentences(text)
    )


def sides_named(text: str) -> frozenset[Side]:
    """The sides that ``text`` names for anything at all but the heart's own parts and directions."""
    found = SIDE.finditer(MIDLINE_STRUCTURE.sub(_blank, text[:MAX_CHARACTERS]))
    return frozenset(side for match in found if (side := _named([match])) is not None)


def sides_of_structures(text: str) -> dict[str, frozenset[Side]]:
    """For each paired structure that ``text`` names with a side: those sides."""
    sides: dict[str, set[Side]] = {}
    for sentence in sentences(text):
        for match in SIDE.finditer(sentence):
            side = _named([match])
            for name, noun in _NOUN.items():
                if side is not None and noun.match(sentence[match.end() :].lstrip(" 侧")):
                    sides.setdefault(name, set()).add(side)
    return {name: frozenset(named) for name, named in sides.items()}


def _in_sentence(sentence: str) -> Iterator[Mention]:
    with_structures = MIDLINE_STRUCTURE.sub(_blank, sentence)
    with_hilum = DIAPHRAGM.sub(_blank, with_structures)
    plain = HILUM.sub(_blank, with_hilum)
    spans = sorted(
        ((m.start(), m.end(), term) for term in LEXICON for m in term.terms.finditer(sentence)),
        key=lambda span: span[:2],
    )
    groups = _overlapping(spans)
    read_to = 0
    earlier, earlier_side = frozenset[str](), None
    for index, group in enumerate(groups):
        start, end = group[0][0], max(span[1] for span in group)
        following = groups[index + 1][0][0] if index + 1 < len(groups) else len(sentence)
        keys = frozenset(term.key for _, _, term in group)
        around = with_structures if keys & _OF_ANATOMY else with_hilum if keys & _LUNG_KEYS else plain
        before = max(span[1] for span in groups[index - 1]) if index else 0
        side, read_to = _side(around, read_to, start, end, following)
        if side is None and _same_place(earlier, keys, sentence[before:start]):
            side = earlier_side
        earlier, earlier_side = keys, side
        alone = sentence if len(groups) == 1 else ""
        sized = alone or _before(sentence, before, start)
        for own_start, own_end, term in group:
            if not _speaks_of_others(sentence, own_start):
                yield Mention(
                    term,
                    present=not _denied(sentence, own_start, own_end, term),
                    doubtful=_doubtful(sentence, own_start, own_end, term),
                    side=side,
                    old=OLD.search(sentence) is not None,
                    zones=_kinds(ZONE, alone),
                    sizes=_kinds(SIZE, sized),
                    recent=RECENT.search(sentence) is not None,
                )
    yield from _said_normal(sentence, frozenset(term.key for _, _, term in spans))


def _same_place(earlier: frozenset[str], keys: frozenset[str], between: str) -> bool:
    """True where a finding lies where the one before it does ("consolidation compatible with pneumonia")."""
    related = any(earlier & {*RELATED.get(key, ())} for key in keys)
    return related or ADJACENT.search(between) is not None


def _overlapping(spans: list[tuple[int, int, Term]]) -> list[list[tuple[int, int, Term]]]:
    """``spans`` in groups of those that share words ("hydropneumothorax" is an effusion and a pneumothorax)."""
    groups: list[list[tuple[int, int, Term]]] = []
    end = 0
    for span in spans:
        if groups and span[0] < end:
            groups[-1].append(span)
        else:
            groups.append([span])
        end = max(end, span[1])
    return groups


def _said_normal(sentence: str, named: frozenset[str]) -> Iterator[Mention]:
    """Findings that the sentence denies without naming them, by calling a structure normal."""
    clear = None if OTHERWISE.search(sentence) else LUNGS_CLEAR.search(sentence)
    for term in LEXICON:
        if term.key in named:
            continue
        said = term.normal.search(sentence) if term.normal is not None else None
        said = said or (clear if term.key in _LUNG_KEYS else None)
        implied = term.implied.search(sentence) if said is None and term.implied is not None else None
        found = said or (None if OTHERWISE.search(sentence) else implied)
        if found is not None:
            start = max((m.end() for m in _CLAUSE_START.finditer(sentence, 0, found.start())), default=0)
            side = _named(list(SIDE.finditer(sentence[start : found.end()])))
            doubtful = DOUBT.search(sentence) is not None
            yield Mention(
                term,
                present=False,
                doubtful=doubtful,
                side=side if term.sided else None,
                recent=found is implied or RECENT.search(sentence) is not None,
                implied=found is implied,
            )


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


def _doubtful(sentence: str, start: int, end: int, term: Term) -> bool:
    if term.unless is not None and term.unless.search(sentence):
        return True
    return DOUBT.search(sentence[max(0, start - 60) : end + 40]) is not None


def _kinds(pattern: re.Pattern[str], sentence: str) -> frozenset[str]:
    """Which alternatives of ``pattern`` the sentence holds."""
    return frozenset(match.lastgroup for match in pattern.finditer(sentence) if match.lastgroup)


def _side(sentence: str, read_to: int, start: int, end: int, following: int) -> tuple[Side | None, int]:
    """The side of the finding at ``start:end``, and up to where its side words were used up.

    Its own words win ("collapse of the left lung"), then a place named after it, then the words before it, then the
    first word after it.
    """
    own = list(SIDE.finditer(sentence[start:end]))
    if own:
        return _named(own), end
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
