"""What a model thought in words before its answer, told apart from the answer by the family's own marks.

Thinking is never a draft and never part of one. Where marks do not tell the two apart for certain (an end that is
missing, that comes twice or that stands in the answer) there is no answer: nothing is guessed.
"""

import re
from dataclasses import dataclass

PAIRS = (("<think>", "</think>"), ("<thinking>", "</thinking>"), ("<unused94>thought", "<unused95>"))
"""Where thinking begins and ends: Qwen3, DeepSeek-R1, NV-Reason-CXR and others; the same spelt out; MedGemma."""
ANSWER = ("<answer>", "</answer>")
"""Where an answer begins and ends behind it (NV-Reason-CXR)."""
MOST_KEPT = 20_000
"""Characters of thinking that are kept beside a draft; its tokens are bounded where it is written."""

_BEGINS = "|".join(re.escape(begin) for begin, _ in PAIRS)
_ENDS = "|".join(re.escape(end) for _, end in PAIRS)
_MARK = re.compile(f"(?P<begin>{_BEGINS})|(?P<end>{_ENDS})", re.I)
_ANSWER_MARK = re.compile("|".join(map(re.escape, ANSWER)), re.I)
_OPENED = re.compile(rf"(?:{_BEGINS})\s*\Z", re.I)


@dataclass(frozen=True, slots=True)
class Parted:
    """An answer and the thinking before it; ``answer`` is "" where the two could not be told apart."""

    answer: str
    reasoning: str = ""


def opens_reasoning(prompt: str) -> bool:
    """Whether a prompt ends inside thinking, so that the text which follows begins with it."""
    return _OPENED.search(prompt) is not None


def part_reasoning(text: str, *, opened: bool = False) -> Parted:
    """Part a whole text; ``opened`` says that its prompt had begun the thinking.

    A text without marks is an answer. One end and at most one beginning, at the very start, part it; an end without a
    beginning closes what the prompt had begun, whoever wrote that.
    """
    marks = list(_MARK.finditer(text))
    if not marks and not opened:
        return _unwrapped(text, "")
    begins = [mark for mark in marks if mark["begin"]]
    ends = [mark for mark in marks if mark["end"]]
    if len(ends) != 1 or len(begins) > 1 or not _belong(text, begins, ends[0]):
        return Parted("", keep(text))
    start = begins[0].end() if begins else 0
    return _unwrapped(text[ends[0].end() :], text[start : ends[0].start()])


def _belong(text: str, begins: list[re.Match[str]], end: re.Match[str]) -> bool:
    """Whether the one beginning, where there is one, starts the text and is of the same pair as ``end``."""
    if not begins:
        return True
    begin = begins[0]
    pair = (begin[0].lower(), end[0].lower())
    return not text[: begin.start()].strip() and begin.end() <= end.start() and pair in PAIRS


def _unwrapped(answer: str, reasoning: str) -> Parted:
    """The answer without its own marks, where it has them: one of each, with nothing outside."""
    marks = [mark[0].lower() for mark in _ANSWER_MARK.finditer(answer)]
    plain = answer.strip()
    if not marks:
        return Parted(plain, keep(reasoning))
    begin, end = ANSWER
    if marks != [begin, end] or not plain.lower().startswith(begin) or not plain.lower().endswith(end):
        return Parted("", keep(f"{reasoning}\n{answer}"))
    return Parted(plain[len(begin) : -len(end)].strip(), keep(reasoning))


def keep(reasoning: str) -> str:
    """``reasoning`` as it is kept: its first ``MOST_KEPT`` characters, and how many were left out."""
    plain = reasoning.replace("\0", "").strip()  # Postgres keeps no NUL in JSON
    if len(plain) <= MOST_KEPT:
        return plain
    return f"{plain[:MOST_KEPT]} [{len(plain) - MOST_KEPT} characters more were not kept]"
