"""Detects reference leakage: a prompt that already holds the report that the model is asked to write.

Used where prompts are made of a study's headers (``flows.given``), where a draft is checked, and where a data set is
evaluated. Spacing, case and punctuation hide nothing. A few words in a row occur by chance in any clinical text, so
that a common run counts by its length; a Chinese character counts half a word.
"""

import re
from collections.abc import Sequence

WHOLE = 5.0
"""Words of a report, or of one of its sections, that may not stand whole in a given text; shorter ones may."""
RUN = 9.0
"""Words in a row of a report that may not stand in a given text."""
EARLIER = "prior_report"
"""The given text that is meant to be a report, of an earlier study: it may share sentences and have a report's form."""

_TOKEN = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")
_FINDINGS = re.compile(r"\bfindings?\s*[:：]|(?:所见|表现)\s*[:：]", re.IGNORECASE)
_IMPRESSION = re.compile(
    r"\bimpressions?\s*[:：]|(?:印象|影像诊断|影像结论|诊断意见|诊断印象)\s*[:：]", re.IGNORECASE
)


def holds_report(given: str, report: str, *, parts: bool = True) -> bool:
    """True where ``given`` holds ``report`` or one of its sections whole, or with ``parts`` a long run of its words.

    ``parts`` False is for texts that are meant to share sentences with a report: an earlier report, or the findings
    of which the report is the impression.
    """
    held = _tokens(given)
    joined = f" {' '.join(held)} "
    for section in (report, *_sections(report)):
        wanted = _tokens(section)
        if _weight(wanted) >= WHOLE and f" {' '.join(wanted)} " in joined:
            return True
    return parts and _longest_run(held, _tokens(report)) >= RUN


def reads_like_report(text: str) -> bool:
    """True where ``text`` has headings of both sections of a report."""
    findings = _FINDINGS.search(text)
    return findings is not None and _IMPRESSION.search(text, findings.end()) is not None


def gives_away(name: str, text: str, reports: Sequence[str]) -> bool:
    """True where ``text``, given to a model as ``name``, holds one of the ``reports`` that it has to write."""
    return any(holds_report(text, report, parts=name != EARLIER) for report in reports)


def poses_as_report(name: str, text: str) -> bool:
    """True where ``text``, given to a model as ``name``, has the form of a report and should not."""
    return name != EARLIER and reads_like_report(text)


def shared_run(given: str, text: str) -> float:
    """Weight of the heaviest run of words that both texts hold, in words; a Chinese character counts half a word."""
    return _longest_run(_tokens(given), _tokens(text))


def _sections(text: str) -> list[str]:
    """What stands before and after the heading of the impression, without the headings."""
    heading = _IMPRESSION.search(text)
    if heading is None:
        return []
    before = text[: heading.start()]
    first = _FINDINGS.search(before)
    return [before[first.end() if first else 0 :], text[heading.end() :]]


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text.lower())


def _weight(words: Sequence[str]) -> float:
    return sum(0.5 if "\u3400" <= word <= "\u9fff" else 1.0 for word in words)


def _longest_run(held: Sequence[str], wanted: Sequence[str]) -> float:
    """Weight of the heaviest run of tokens that both hold, word for word."""
    heaviest = 0.0
    lengths = [0.0] * (len(wanted) + 1)
    for word in held:
        row = [0.0] * (len(wanted) + 1)
        weight = _weight((word,))
        for index, other in enumerate(wanted):
            if word == other:
                row[index + 1] = lengths[index] + weight
        heaviest = max(heaviest, *row)
        lengths = row
    return heaviest
