"""When an answer stands on passages: enough of the question found, and a model's words held by what it cites."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.knowledge.terms import terms_of
from pipeline.passages import FoundPassage

LEAST_SHARE = 0.5
"""Of the weight of a question's terms that a passage has to hold; measured by tests.benchmarks.measure_knowledge."""
NEAR_BEST = 0.75
"""Of the best passage's share: what has less is not shown beside it."""
MOST_CITED = 3
LEAST_HELD = 0.5
"""Of a model's words that have to stand in the passages it cites, or in the question."""
_CITED = re.compile(r"[\[【]\s*(\d{1,3}(?:\s*[,，、;；]\s*\d{1,3})*)\s*[\]】]")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_UNKNOWN = re.compile(r"not in the knowledge base|知识库中没有", re.IGNORECASE)
_STEM = 5
"""Characters by which two forms of one word are taken for the same."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a model's answer stands on: the places of cited passages in their list, or why it is not shown."""

    cited: tuple[int, ...] = ()
    fault: str = ""
    unknown: bool = False
    """The model itself says that the passages do not answer."""


def worth_citing(found: Sequence[FoundPassage]) -> tuple[FoundPassage, ...]:
    """Of passages by falling share those that answer; none where the question is not in the base."""
    if not found or found[0].share < LEAST_SHARE:
        return ()
    least = max(LEAST_SHARE, found[0].share * NEAR_BEST)
    return tuple(one for one in found if one.share >= least)[:MOST_CITED]


def judged(answer: str, question: str, passages: Sequence[FoundPassage]) -> Judged:
    """Whether ``answer`` cites passages ([1] is the first), and they hold its numbers and most of its words."""
    if _UNKNOWN.search(answer):
        return Judged(unknown=True)
    numbers = [int(one) for marked in _CITED.findall(answer) for one in re.findall(r"\d+", marked)]
    if not numbers:
        return Judged(fault="it cites none of the passages")
    if not all(1 <= one <= len(passages) for one in numbers):
        return Judged(fault="it cites a passage that there is not")
    cited = tuple(dict.fromkeys(one - 1 for one in numbers))
    told = _CITED.sub(" ", answer)
    ground = "\n".join((question, *(f"{passages[one].title}\n{passages[one].text}" for one in cited)))
    if _numbers(told) - _numbers(ground):
        return Judged(fault="it holds a number that the passages it cites do not")
    if _held(told, ground) < LEAST_HELD:
        return Judged(fault="the passages it cites do not hold most of its words")
    return Judged(cited)


def _numbers(text: str) -> frozenset[str]:
    """Numbers as text; "0.10" and "0.1" are the same, a comma between digits is left as it is."""
    found = _NUMBER.findall(text)
    return frozenset(one.rstrip("0").rstrip(".") if "." in one and "," not in one else one for one in found)


def _held(told: str, ground: str) -> float:
    said, held = _forms(told), _forms(ground)
    return len(said & held) / len(said) if said else 0.0


def _forms(text: str) -> frozenset[str]:
    terms = terms_of(text)
    return frozenset((*(word[:_STEM] for word in terms.words.split()), *terms.pairs))
