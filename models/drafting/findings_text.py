"""Reading a draft: its two sections, its sentences, and what each says is present or absent.

Written for English radiology prose and the vocabulary of ``models/vocabulary/english.py``; sentences in Chinese are
read by ``findings_text_zh``. A sentence that speaks of nothing known stays in the text and gives no Finding; nothing
is guessed from it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from models.drafting import findings_text_zh
from models.drafting.sections import split_sections
from models.family import Sections
from models.vocabulary.english import CLEAR_LUNGS, KIND_PATTERNS, SEVERITY_WORDS
from pipeline.errors import FailStudy
from pipeline.report import Finding, Side

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。\uff01\uff1f])\s*|\n+")
_CLAUSE_END = re.compile(
    r";|,?\s+\b(?:but|however|although|whereas|though)\b|,\s*(?=(?:there|a|an|the|no|and no)\b)|(?=\bwithout\b)"
)
_DENIED_BEFORE = re.compile(
    r"\b(?:no(?! (?:interval |significant |substantial )?change)|not|without|absence of|free of|negative for"
    r"|neither|nor|never|resolution of|resolved|excludes?|rules? out)\b"
)
_DENIED_AFTER = re.compile(r"^[\w\s]*?\b(?:not|no longer|absent|resolved|excluded|ruled out)\b")
_HEART_ENLARGED = re.compile(r"\bcardiomegaly\b|\benlarged\b|\benlargement\b")
_HEART_NORMAL = re.compile(r"\bnormal\b|\bunremarkable\b|\bwithin normal limits\b")
_CLEAR_LUNGS = re.compile(
    r"\b(?:lungs?|lung fields?)\b[^,;]*\b(?:is|are|remains?)\b[^,;]*\bclear\b|\bclear lungs\b"
)
_NOT_CLEAR = re.compile(r"\bnot\b[^,;]*\bclear\b")
_SIDES = re.compile(r"\b(?:(?P<both>bilateral(?:ly)?|both)|(?P<left>left)|(?P<right>right))\b")
_ZONES = re.compile(r"\b(upper|mid|middle|lower)\b")
_ZONE_NAMES = {"middle": "mid"}
_KINDS = {kind: re.compile(pattern) for kind, pattern in KIND_PATTERNS.items()}
_HEART = "cardiomegaly"


@dataclass(frozen=True, slots=True)
class ParsedDraft:
    """The two sections without their headings, the second "" where there is none, and what Findings states."""

    findings_text: str
    impression_text: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Mention:
    kind: str
    start: int
    end: int


def parse_draft(text: str, *, truncated: bool = False, held: Sections = Sections.BOTH) -> ParsedDraft:
    """Read a whole draft, ``held`` being what such a text holds.

    Raises FailStudy("draft-unparsable") when it was cut short or lacks what it should hold.
    """
    if truncated:
        raise FailStudy(
            "draft-unparsable", "the draft reached its length limit before it ended; a person has to report"
        )
    findings, impression = split_sections(text, held)
    return ParsedDraft(findings, impression, read_findings(findings))


def split_sentences(text: str) -> tuple[str, ...]:
    """Sentences with their full stops; joined by spaces they are the text again, but for white space."""
    return tuple(part.strip() for part in _SENTENCE_END.split(text) if part and part.strip())


def read_findings(text: str) -> tuple[Finding, ...]:
    """What the sentences of ``text`` state, in order; the same statement twice in a sentence counts once."""
    return tuple(finding for sentence in split_sentences(text) for finding in _read_sentence(sentence))


def _read_sentence(sentence: str) -> tuple[Finding, ...]:
    found: dict[tuple[str, bool, Side | None], Finding] = {}
    if findings_text_zh.SCRIPT.search(sentence):
        for finding in findings_text_zh.read_sentence(sentence):
            found.setdefault((finding.kind, finding.present, finding.side), finding)
        return tuple(found.values())
    lowered = sentence.lower()
    if len(lowered) != len(sentence):  # a letter whose lower case is longer: places would not match
        lowered = "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in sentence)
    for clause in _clauses(lowered):
        for finding in (*_read_clear_lungs(clause, sentence), *_read_clause(clause, sentence)):
            found.setdefault((finding.kind, finding.present, finding.side), finding)
    return tuple(found.values())


def _clauses(sentence: str) -> list[str]:
    return [part for part in _CLAUSE_END.split(sentence) if part.strip()]


def _read_clear_lungs(clause: str, sentence: str) -> Iterator[Finding]:
    if _CLEAR_LUNGS.search(clause) and not _NOT_CLEAR.search(clause):
        for kind in CLEAR_LUNGS:
            yield Finding(kind, present=False, side=_side(clause), sentence=sentence)


def _read_clause(clause: str, sentence: str) -> Iterator[Finding]:
    mentions = sorted(
        (
            _Mention(kind, match.start(), match.end())
            for kind, pattern in _KINDS.items()
            for match in pattern.finditer(clause)
        ),
        key=lambda mention: mention.start,
    )
    for index, mention in enumerate(mentions):
        before = clause[mentions[index - 1].end if index else 0 : mention.start]
        after = clause[mention.end : mentions[index + 1].start if index + 1 < len(mentions) else len(clause)]
        present = _heart_state(clause) if mention.kind == _HEART else _is_present(clause, mention, after)
        if present is None:
            continue
        own = clause[mention.start : mention.end]
        yield Finding(
            mention.kind,
            present=present,
            side=None if mention.kind == _HEART else _side(before) or _side(after),
            zone=_zone(before) or _zone(after) if present else "",
            severity=_severity(mention.kind, f"{before} {own} {after if mention.kind == _HEART else ''}")
            if present
            else "",
            sentence=sentence,
        )


def _is_present(clause: str, mention: _Mention, after: str) -> bool:
    return not (_DENIED_BEFORE.search(clause[: mention.start]) or _DENIED_AFTER.search(after))


def _heart_state(clause: str) -> bool | None:
    """Whether the heart is called enlarged or not; None where its size is not spoken of."""
    enlarged = _HEART_ENLARGED.search(clause)
    if enlarged:
        denied = _DENIED_BEFORE.search(clause[: enlarged.start()]) or _DENIED_AFTER.search(
            clause[enlarged.end() :]
        )
        return denied is None
    return False if _HEART_NORMAL.search(clause) else None


def _side(words: str) -> Side | None:
    named = {match.lastgroup for match in _SIDES.finditer(words)}
    if not named:
        return None
    if "both" in named or named >= {"left", "right"}:
        return Side.BILATERAL
    return Side.LEFT if "left" in named else Side.RIGHT


def _zone(words: str) -> str:
    match = _ZONES.search(words)
    return _ZONE_NAMES.get(match[1], match[1]) if match else ""


def _severity(kind: str, words: str) -> str:
    for word, severity in SEVERITY_WORDS.get(kind, {}).items():
        if re.search(rf"\b{word}s?\b", words):
            return severity
    return ""
