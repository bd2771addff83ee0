"""Read the findings back from a drafted report: what evaluation counts. Pure Python."""

import re
from dataclasses import dataclass

from models.simulation.phrases import (
    BILATERAL_WORDS,
    CLEAR_LUNGS,
    FINDINGS_HEADING,
    IMPRESSION_HEADING,
    KIND_PATTERNS,
    KINDS,
    NEGATION_WORDS,
    SEVERITY_WORDS,
    SIDES,
    ZONES,
)

_REPORT = re.compile(rf"{FINDINGS_HEADING} (\S[^\n]*\.)\n{IMPRESSION_HEADING} (\S[^\n]*\.)")


class UnreadableReportError(ValueError):
    """A text that is not a Findings and an Impression section of whole sentences."""


@dataclass(frozen=True, slots=True)
class StatedFinding:
    """One statement of presence or absence: ``side`` is right, left, bilateral or ""; the others may be ""."""

    kind: str
    present: bool
    side: str = ""
    severity: str = ""
    zone: str = ""


def split_sections(text: str) -> tuple[str, str]:
    """Findings and impression without their headings. Raises UnreadableReportError."""
    match = _REPORT.fullmatch(text.strip())
    if match is None:
        raise UnreadableReportError("the text is not a Findings and an Impression section of whole sentences")
    return match[1], match[2]


def _words(sentence: str) -> list[str]:
    return re.findall(r"[a-z]+", sentence.lower())


def _side(words: list[str]) -> str:
    named = [side for side in SIDES if side in words]
    if len(named) == 2 or any(word in words for word in BILATERAL_WORDS):
        return "bilateral"
    return named[0] if named else ""


def _severity(kind: str, words: list[str]) -> str:
    return next((level for word, level in SEVERITY_WORDS.get(kind, {}).items() if word in words), "")


def read_sentence(sentence: str) -> tuple[StatedFinding, ...]:
    """What one sentence states, present or absent."""
    words, lower = _words(sentence), sentence.lower()
    denied = any(word in words for word in NEGATION_WORDS)
    if denied and "clear" in words:
        return tuple(StatedFinding(kind, present=False) for kind in CLEAR_LUNGS)
    kinds = [kind for kind in KINDS if re.search(KIND_PATTERNS[kind], lower)]
    if denied:
        return tuple(StatedFinding(kind, present=False) for kind in kinds)
    zone = next((zone for zone in ZONES if zone in words), "")
    side = _side(words)
    return tuple(StatedFinding(kind, True, side, _severity(kind, words), zone) for kind in kinds)


def read_text(section: str) -> tuple[StatedFinding, ...]:
    """Every statement of one section, in its order."""
    sentences = [part.strip() for part in section.split(".") if part.strip()]
    return tuple(stated for sentence in sentences for stated in read_sentence(sentence))


def read_report(text: str) -> tuple[StatedFinding, ...]:
    """The statements of a report's Findings section. Raises UnreadableReportError."""
    return read_text(split_sections(text)[0])
