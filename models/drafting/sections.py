"""A draft's two sections: the headings that models write, in the middle of a line or not, in markdown or plain."""

import re

from models.family import Sections
from pipeline.errors import FailStudy

_MARKS = r"[\s*#_]*"
_COLON = r"\s*[*_]*\s*[:\uff1a][*_]*"
_FINDINGS = re.compile(rf"\A{_MARKS}findings{_COLON}", re.I)
_IMPRESSION = re.compile(rf"(?:^|(?<=[.!?])){_MARKS}impressions?{_COLON}", re.I | re.M)
_FINDINGS_ZH = re.compile(rf"\A{_MARKS}(?:检查所见|影像所见|影像学所见|影像表现|所见){_COLON}")
_IMPRESSION_ZH = re.compile(
    rf"(?:^|(?<=[。\uff01？])){_MARKS}(?:印象|影像诊断|影像结论|诊断意见|诊断印象|诊断){_COLON}", re.M
)
_FINDINGS_MEDREGA = re.compile(rf"\A{_MARKS}影像诊断{_COLON}")
_IMPRESSION_MEDREGA = re.compile(rf"{_MARKS}影像结论{_COLON}")
_HEADINGS = (
    (_FINDINGS, _IMPRESSION),
    (_FINDINGS_ZH, _IMPRESSION_ZH),
    # MedRegA calls its findings by the word that others give to the impression
    (_FINDINGS_MEDREGA, _IMPRESSION_MEDREGA),
)
_ANY_IMPRESSION = re.compile(f"{_IMPRESSION.pattern}|{_IMPRESSION_ZH.pattern}|影像结论{_COLON}", re.I | re.M)


def split_sections(text: str, held: Sections = Sections.BOTH) -> tuple[str, str]:
    """Findings and Impression without their headings; the Impression is "" where the text has none.

    ``held`` is what such a text holds. Raises FailStudy("draft-unparsable") where BOTH has not both sections with words
    in each, or the others have no words at all.
    """
    for findings_heading, impression_heading in _HEADINGS:
        first = findings_heading.match(text)
        second = impression_heading.search(text, first.end()) if first else None
        if first and second:
            sections = text[first.end() : second.start()].strip(), text[second.end() :].strip()
            if all(map(_has_words, sections)):
                return sections
    if held is Sections.BOTH:
        message = (
            "the draft has not both a Findings and an Impression section with text; a person has to report"
        )
        raise FailStudy("draft-unparsable", message)
    return _findings_alone(text)


def summary_text(text: str) -> str:
    """An Impression that was asked for by itself, without a heading of its own."""
    heading = _ANY_IMPRESSION.match(text)
    return text[heading.end() if heading else 0 :].strip()


def _findings_alone(text: str) -> tuple[str, str]:
    for heading, _ in _HEADINGS:
        if first := heading.match(text):
            text = text[first.end() :]
            break
    second = _ANY_IMPRESSION.search(text)
    findings, impression = (text[: second.start()], text[second.end() :]) if second else (text, "")
    if not _has_words(findings):
        raise FailStudy("draft-unparsable", "the draft holds no words; a person has to report")
    return findings.strip(), impression.strip() if _has_words(impression) else ""


def _has_words(text: str) -> bool:
    return re.search(r"\w", text) is not None
