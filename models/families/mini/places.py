"""Where firstread-mini says that things are: the language model says what is there, the reading heads say where.

The model writes a box or point after what it speaks of, but copies the numbers less exactly than the heads read them
off the film. So every box and point of an answer is written anew from the heads: those of the finding and side of its
sentence, of the organ, or of the landmark that was asked for. What the model gave no place has none.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.drafting.findings_text import split_sentences
from models.vocabulary.chinese import KIND_PATTERNS_ZH
from models.vocabulary.english import KIND_PATTERNS, KINDS, SIDES
from models.vocabulary.task_words import (
    GRID,
    LANDMARKS,
    NAMES,
    ORGANS,
    SIDED,
    box_text,
    every_target,
    point_text,
)

_MARKS = re.compile(r"(?: ?\{[^{}]*\})+")
_PROMPT = re.compile(r"<(\w+)><(\w+)>(.*)", re.DOTALL)
_SIDE_WORDS = {
    "right": re.compile(r"\bright\b|右"),
    "left": re.compile(r"\bleft\b|左"),
}
_BOTH = re.compile(r"\bbilateral\b|\bboth\b|双", re.IGNORECASE)
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Places:
    """What the heads read of one film, in shares of its width and height: ``boxes`` [slots, 4], ``organs`` [3, 4],
    ``landmarks`` [8, 2]; ``presence`` logits [kinds, 3] say on which side a finding is likelier."""

    boxes: Floats
    organs: Floats
    landmarks: Floats
    presence: Floats

    def finding(self, kind: str, sides: tuple[str, ...]) -> str:
        """The boxes of ``kind`` on ``sides``; of an unsided kind, and without a side, the one likelier."""
        row = KINDS.index(kind)
        if kind not in SIDED:
            places = [0]
        elif sides:
            places = [SIDES.index(side) for side in SIDES if side in sides]
        else:
            chances = self.presence[row, 1:]
            places = [place for place in (0, 1) if chances[place] > 0] or [int(chances.argmax())]
        return "".join(_box(self.boxes[row * len(SIDES) + place]) for place in places)


def _whole(shares: Floats) -> list[int]:
    return [int(value) for value in np.clip(np.rint(shares * GRID), 0, GRID)]


def _box(shares: Floats) -> str:
    x1, y1, x2, y2 = _whole(shares)
    x1, y1 = min(x1, GRID - 1), min(y1, GRID - 1)
    return box_text((x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)))


def _point(shares: Floats) -> str:
    x, y = _whole(shares)
    return point_text((x, y))


def write_places(prompt: str, answer: str, places: Places) -> str:
    """``answer`` to ``prompt`` with its boxes and points as the heads read them; another text is left as it is."""
    match = _PROMPT.match(prompt)
    if match is None or "{" not in answer:
        return answer
    task, language, asked = match.groups()
    if task == "grounded_report":
        return _grounded(answer, language, places)
    if task == "landmark":
        named = [key for key in LANDMARKS if NAMES[language][key] in asked]
        return _point(places.landmarks[LANDMARKS.index(named[0])]) if named else answer
    if task == "detect":
        return _detected(asked, language, places) or answer
    return answer


def _detected(asked: str, language: str, places: Places) -> str:
    named = [target for target in every_target(language) if target[0] in asked]
    if not named:
        return ""
    _, key, side = max(named, key=lambda target: len(target[0]))
    if key in ORGANS:
        return _box(places.organs[ORGANS.index(key)])
    return places.finding(key, (side,) if side else ())


def _grounded(answer: str, language: str, places: Places) -> str:
    patterns = KIND_PATTERNS if language == "en" else KIND_PATTERNS_ZH
    written = answer
    for sentence in split_sentences(answer):
        marks = _MARKS.search(sentence)
        if marks is None:
            continue
        said = _MARKS.sub("", sentence)
        kind = next((name for name in KINDS if re.search(patterns[name], said.lower())), "")
        if not kind:
            continue
        both = _BOTH.search(said)
        sides = tuple(side for side in SIDES if both or _SIDE_WORDS[side].search(said.lower()))
        gap = " " if marks[0].startswith(" ") else ""
        bare = sentence[: marks.start()] + _MARKS.sub("", sentence[marks.end() :])
        placed = f"{bare[: marks.start()]}{gap}{places.finding(kind, sides)}{bare[marks.start() :]}"
        written = written.replace(sentence, placed, 1)
    return written
