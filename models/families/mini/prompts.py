"""What firstread-mini is asked, and what its answers mean: requests to prompts, answer texts to labels and places.

Only what the model was trained on can be asked; anything else is refused, never guessed at. Boxes and points are whole
numbers 0..100 over the whole film and leave here in pixels of the original.
"""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache

from models.drafting.findings_text import split_sentences
from models.family import Request, SeenImage, Task
from models.vocabulary.chinese import KIND_PATTERNS_ZH
from models.vocabulary.english import KIND_PATTERNS, KINDS
from models.vocabulary.prompts import headed, prompt_text
from models.vocabulary.task_words import (
    GRID,
    LANDMARKS,
    LIST_MARK,
    NAMES,
    NORMAL,
    ORGANS,
    box_text,
    every_question,
    every_target,
    question_text,
)
from pipeline.errors import ConfigurationError, FailStudy
from pipeline.report import Label, Place, Point, Region

_BOX = re.compile(r"\{<(\d{1,3})><(\d{1,3})><(\d{1,3})><(\d{1,3})>\}")
_POINT = re.compile(r"\{<(\d{1,3})><(\d{1,3})>\}")
_MARK = re.compile(r" ?\{[^{}]*\}")
_ABSENT = re.compile(r"No .+\.|未见.+。")
Box = tuple[int, int, int, int]


def prompt_for(request: Request, image: SeenImage | None = None) -> str:
    """The prompt for ``request``; ``image`` is the frontal film, which identify needs.

    Raises ConfigurationError for a question, label or target that the model was not trained on, and FailStudy for a
    region that is not one on the film.
    """
    language = request.language.value
    text = prompt_text(request.task.value, language)
    if request.task in (Task.DETECT, Task.LANDMARK):
        return text.replace("{target}", target_words(request.target, language, request.task))
    if request.task is Task.IDENTIFY:
        return text.replace("{box}", box_text(region_box(request.region, image)))
    if request.task is Task.VQA:
        return text.replace("{question}", _question(request.question, language))
    if request.task is Task.CLASSIFY:
        names = [NAMES[language][label_key(label)] for label in request.labels]
        if not names:
            raise ConfigurationError("no-labels", "classify needs labels; name those to choose among")
        return text.replace("{labels}", LIST_MARK[language].join(names))
    if request.task is Task.SUMMARIZE:
        return text.replace("{text}", _findings_section(request.text, language))
    return text


def _plain(words: str) -> str:
    """Words as they are compared: lower case, without article, end marks and doubled space."""
    lowered = " ".join(words.lower().replace("_", " ").split()).strip(" .?\u3002\uff1f")
    return re.sub(r"^(?:the|a|an) ", "", lowered)


@cache
def _labels() -> dict[str, str]:
    return {_plain(NAMES[language][key]): key for language in ("en", "zh") for key in (*KINDS, NORMAL)}


@cache
def _targets(language: str, task: Task) -> dict[str, str]:
    if task is Task.LANDMARK:
        return {
            _plain(words): NAMES[language][key] for key in LANDMARKS for words in (key, NAMES[language][key])
        }
    named = {_plain(words): words for words, _, _ in every_target(language)}
    return named | {_plain(key): NAMES[language][key] for key in (*KINDS, *ORGANS)}


@cache
def _questions(language: str) -> dict[str, str]:
    texts = (question_text(question, language) for question in every_question())
    return {_plain(text): text for text in texts}


def label_key(label: str) -> str:
    """The finding that a site's label names, or "normal". Raises ConfigurationError."""
    key = _labels().get(_plain(label))
    if key is None:
        known = ", ".join(NAMES["en"][key] for key in (*KINDS, NORMAL))
        raise ConfigurationError("unknown-label", f"firstread-mini cannot tell {label!r}; it knows: {known}")
    return key


def target_words(target: str, language: str, task: Task) -> str:
    """The words by which the model knows ``target``. Raises ConfigurationError."""
    known = _targets(language, task)
    words = known.get(_plain(target))
    if words is None:
        names = ", ".join(known_targets(language, task))
        raise ConfigurationError(
            "unknown-target", f"firstread-mini cannot look for {target!r}; it knows: {names}"
        )
    return words


def known_questions(language: str) -> tuple[str, ...]:
    """Every question that VQA answers."""
    return tuple(_questions(language).values())


def known_labels(language: str) -> tuple[str, ...]:
    """Every label that classify chooses among."""
    return tuple(NAMES[language][key] for key in (*KINDS, NORMAL))


def known_targets(language: str, task: Task) -> tuple[str, ...]:
    """Everything that detect or landmark looks for."""
    return tuple(sorted(set(_targets(language, task).values())))


def check_words(request: Request) -> None:
    """Raises ConfigurationError for a question, label or target that the model was not trained on."""
    if request.task in (Task.DETECT, Task.LANDMARK, Task.VQA, Task.CLASSIFY):
        prompt_for(request)


def _question(question: str, language: str) -> str:
    text = _questions(language).get(_plain(question))
    if text is None:
        near = get_close_matches(question, known_questions(language), n=3, cutoff=0.0)
        message = (
            f"firstread-mini cannot answer {question!r}; it was trained on fixed questions, the nearest are: "
            f"{' '.join(near)} All of them: firstread models show firstread-mini"
        )
        raise ConfigurationError("unknown-question", message)
    return text


def _findings_section(text: str, language: str) -> str:
    """The findings to summarise, with their heading; a text that has one keeps it, an impression is cut off."""
    body = re.split(r"^\s*(?:impression|印象)\s*[:\uff1a]", text, maxsplit=1, flags=re.I | re.M)[0]
    body = re.sub(r"^\s*(?:findings|检查所见)\s*[:\uff1a]", "", body, flags=re.I)
    words = " ".join(body.split()) if language == "en" else "".join(body.split())
    if not words:
        raise FailStudy("no-findings-text", "there is no findings text to summarise; a person has to look")
    return headed("findings", words, language)


def region_box(region: Region | None, image: SeenImage | None) -> Box:
    """A region as the model writes it. Raises FailStudy when it is not a region on ``image``."""
    if region is None or image is None or region.ref != image.ref or region.frame != image.frame:
        raise FailStudy(
            "region-elsewhere", "the region is not on the frontal film, the only one the model points at"
        )
    if not (0 <= region.x0 < region.x1 <= image.columns and 0 <= region.y0 < region.y1 <= image.rows):
        raise FailStudy(
            "region-outside", "the region does not lie on the film; give x0, y0, x1, y1 in its pixels"
        )
    across, down = GRID / image.columns, GRID / image.rows
    return (
        round(region.x0 * across),
        round(region.y0 * down),
        round(region.x1 * across),
        round(region.y1 * down),
    )


def read_boxes(text: str) -> list[Box]:
    """Every box in ``text`` that is one: corners in order, within 0..100."""
    boxes = []
    for match in _BOX.finditer(text):
        x1, y1, x2, y2 = (int(edge) for edge in match.groups())
        if x1 < x2 <= GRID and y1 < y2 <= GRID:
            boxes.append((x1, y1, x2, y2))
    return boxes


def says_absent(text: str) -> bool:
    """Whether an answer to detect says that the thing is not there."""
    return _ABSENT.fullmatch(text.strip()) is not None


def read_point(text: str) -> tuple[int, int] | None:
    """The one point that is the whole of ``text``, or None."""
    match = _POINT.fullmatch(text.strip())
    if match is None:
        return None
    x, y = int(match[1]), int(match[2])
    return (x, y) if x <= GRID and y <= GRID else None


def read_labels(text: str, labels: tuple[str, ...], language: str) -> tuple[Label, ...]:
    """Which of ``labels`` a classification names; none are given back where it names one that was not asked for."""
    stated = {_plain(part) for part in text.strip(" .\u3002").split(LIST_MARK[language].strip())}
    keys = {_labels().get(words) for words in stated} - {None}
    asked = {label: label_key(label) for label in labels}
    if not keys <= set(asked.values()) or (not keys and _plain(text) not in ("none", "均无")):
        return ()
    return tuple(Label(label, chosen=key in keys) for label, key in asked.items())


def plain_text(text: str) -> str:
    """The answer without boxes and points."""
    return _MARK.sub("", text)


def read_answer(
    request: Request, text: str, image: SeenImage | None
) -> tuple[tuple[Label, ...], tuple[Place, ...]]:
    """Labels and places of an answer; empty where it cannot be read. ``image`` is the frontal film."""
    language = request.language.value
    if request.task is Task.CLASSIFY:
        return read_labels(text, request.labels, language), ()
    if request.task is Task.VQA and request.options:
        chosen = [_plain(option) == _plain(text) for option in request.options]
        names = zip(request.options, chosen, strict=True)
        return tuple(Label(name, is_chosen) for name, is_chosen in names) if any(chosen) else (), ()
    if image is None:
        return (), ()
    if request.task is Task.DETECT:
        if says_absent(text):
            return (), (Place(request.target),)
        return (), tuple(Place(request.target, to_region(box, image)) for box in read_boxes(text))
    if request.task is Task.LANDMARK:
        point = read_point(text)
        return (), () if point is None else (Place(request.target, point=_to_point(point, image)),)
    if request.task is Task.IDENTIFY:
        return (), (Place(text.strip(" .\u3002"), request.region, text=text),) if text.strip() else ()
    return (), tuple(_grounded(text, language, image)) if request.task is Task.GROUNDED_REPORT else ()


def _grounded(text: str, language: str, image: SeenImage) -> Iterator[Place]:
    """A place per box of a grounded report, with its sentence."""
    patterns = KIND_PATTERNS if language == "en" else KIND_PATTERNS_ZH
    for sentence in split_sentences(text):
        said = plain_text(sentence)
        name = next((kind for kind in KINDS if re.search(patterns[kind], said.lower())), "")
        for box in read_boxes(sentence):
            yield Place(name, to_region(box, image), text=said)


def to_region(box: Box, image: SeenImage) -> Region:
    """A box in pixels of the original."""
    across, down = image.columns / GRID, image.rows / GRID
    x1, y1, x2, y2 = box
    return Region(image.ref, image.frame, x1 * across, y1 * down, x2 * across, y2 * down)


def _to_point(point: tuple[int, int], image: SeenImage) -> Point:
    return Point(image.ref, image.frame, point[0] * image.columns / GRID, point[1] * image.rows / GRID)
