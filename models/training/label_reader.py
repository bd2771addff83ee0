"""Read the findings back from a drafted report: what evaluation counts. English and Chinese. Pure Python."""

import re
from dataclasses import dataclass

from models.vocabulary.chinese import (
    CHANGE_WORDS_ZH,
    FINDINGS_HEADING_ZH,
    IMPRESSION_HEADING_ZH,
    KIND_PATTERNS_ZH,
    NEGATION_WORDS_ZH,
    SEVERITY_WORDS_ZH,
    SIDES_ZH,
    ZONES_ZH,
)
from models.vocabulary.english import (
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
_REPORT_ZH = re.compile(rf"{FINDINGS_HEADING_ZH}([^\n]+。)\n{IMPRESSION_HEADING_ZH}([^\n]+。)")
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_CHANGE_WORDS = {"new": "new", "unchanged": "unchanged", "larger": "increased", "smaller": "decreased"}
_DEPTH_WORDS = {"anteriorly": "anterior", "posteriorly": "posterior"}
_DEPTH_WORDS_ZH = {"前部": "anterior", "后部": "posterior"}


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
    change: str = ""
    depth: str = ""


def split_sections(text: str) -> tuple[str, str]:
    """Findings and impression without their headings. Raises UnreadableReportError."""
    match = _REPORT.fullmatch(text.strip()) or _REPORT_ZH.fullmatch(text.strip())
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


def _first(meanings: dict[str, str], words: list[str] | str) -> str:
    return next((meaning for word, meaning in meanings.items() if word in words), "")


def read_sentence(sentence: str) -> tuple[StatedFinding, ...]:
    """What one sentence states, present or absent."""
    if _CHINESE.search(sentence):
        return _read_chinese(sentence)
    words, lower = _words(sentence), sentence.lower()
    denied = any(word in words for word in NEGATION_WORDS)
    if denied and "clear" in words:
        return tuple(StatedFinding(kind, present=False) for kind in CLEAR_LUNGS)
    kinds = [kind for kind in KINDS if re.search(KIND_PATTERNS[kind], lower)]
    if denied:
        return tuple(StatedFinding(kind, present=False) for kind in kinds)
    zone = next((zone for zone in ZONES if zone in words), "")
    change, depth = _first(_CHANGE_WORDS, words), _first(_DEPTH_WORDS, words)
    return tuple(
        StatedFinding(
            kind, True, _side(words), _first(SEVERITY_WORDS.get(kind, {}), words), zone, change, depth
        )
        for kind in kinds
    )


def _read_chinese(sentence: str) -> tuple[StatedFinding, ...]:
    if "双肺野清晰" in sentence:
        return tuple(StatedFinding(kind, present=False) for kind in CLEAR_LUNGS)
    kinds = [kind for kind in KINDS if re.search(KIND_PATTERNS_ZH[kind], sentence)]
    if any(word in sentence for word in NEGATION_WORDS_ZH):
        return tuple(StatedFinding(kind, present=False) for kind in kinds)
    said, _, compared = sentence.partition("较前")
    place = said.split("位于")[0]
    zone = next((zone for zone, word in ZONES_ZH.items() if word in place), "")
    side = next((side for side, word in SIDES_ZH.items() if word in place), "")
    change, depth = _first(CHANGE_WORDS_ZH, compared), _first(_DEPTH_WORDS_ZH, said)
    return tuple(
        StatedFinding(kind, True, side, _first(SEVERITY_WORDS_ZH.get(kind, {}), place), zone, change, depth)
        for kind in kinds
    )


def read_text(section: str) -> tuple[StatedFinding, ...]:
    """Every statement of one section, in its order."""
    sentences = [part.strip() for part in re.split(r"[.。]", section) if part.strip()]
    return tuple(stated for sentence in sentences for stated in read_sentence(sentence))


def read_report(text: str) -> tuple[StatedFinding, ...]:
    """The statements of a report's Findings section. Raises UnreadableReportError."""
    return read_text(split_sections(text)[0])
