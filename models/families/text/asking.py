"""From a request to the words of the question, and from the answer back to a choice."""

import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.family import Request, Task
from models.prompts import read_prompts
from pipeline.errors import FailStudy
from pipeline.report import Label, Language

PROMPTS_FILE, CHOICES_FILE = "text.toml", "text-choices.toml"
LETTERS = string.ascii_uppercase
_SLOT = re.compile(r"\{(text|question|options|schema)\}")
_FIRST_LETTER = re.compile(r"^[\s\"'*]*[(\[]?([A-Z])(?:[)\].:,、。*\"'\s]|$)")
_STATED_LETTER = re.compile(
    r"(?:answer|option|choice)\s*(?:is|:)\s*\**[(\[]?([A-Z])(?![A-Za-z])"
    r"|(?:答案|选项?)\s*(?:是|为|:)?\s*\(?([A-Z])(?![A-Za-z])"
)


@dataclass(frozen=True, slots=True)
class TextPrompts:
    """The words of every text task; ``digest`` joins the SHA-256 of the files."""

    plain: Mapping[tuple[Task, Language], str]
    choices: Mapping[Language, str]
    digest: str


def read_text_prompts() -> TextPrompts:
    """The prompts of ``text.toml`` and ``text-choices.toml``. Raises StopRun when they cannot be read."""
    plain, choices = read_prompts(PROMPTS_FILE), read_prompts(CHOICES_FILE)
    by_language = {language: text for (_, language), text in choices.texts.items()}
    return TextPrompts(plain.texts, by_language, f"{plain.digest}+{choices.digest}")


def word_question(prompts: TextPrompts, request: Request) -> str:
    """The question in words. Raises FailStudy for a request that lacks what its task needs."""
    given = request.question if request.task is Task.TEXT_QA else request.text
    if not given.strip():
        raise FailStudy("empty-request", f"{request.task} was asked of nothing: give it its text or question")
    if request.task is Task.TEXT_QA and request.options:
        if len(request.options) > len(LETTERS):
            raise FailStudy("too-many-options", f"a question has at most {len(LETTERS)} lettered options")
        prompt = prompts.choices[request.language]
    else:
        prompt = prompts.plain[request.task, request.language]
    question = f"{request.text}\n\n{request.question}" if request.text else request.question
    values = {
        "text": request.text,
        "question": question,
        "options": "\n".join(
            f"{letter}. {option}" for letter, option in zip(LETTERS, request.options, strict=False)
        ),
        "schema": request.schema,
    }
    # one pass, so that braces inside a report or a schema are never taken for a slot
    return _SLOT.sub(lambda slot: values[slot[1]], prompt).strip()


def read_choice(text: str, options: Sequence[str]) -> tuple[Label, ...]:
    """Every option with the one that ``text`` chose; empty where it names none of them or more than one.

    A letter is read at the start of the answer or after "answer is" (答案是); else an option's own words are looked
    for, the longer ones first, so that "no effusion" is not taken for "effusion".
    """
    text = unicodedata.normalize("NFKC", text)  # full-width letters, brackets and colons of Chinese answers
    chosen = _lettered(text, len(options))
    if chosen is None:
        chosen = _worded(text, options)
    if chosen is None:
        return ()
    return tuple(Label(option, index == chosen) for index, option in enumerate(options))


def _lettered(text: str, count: int) -> int | None:
    first = _FIRST_LETTER.match(text)
    if first:
        letters = {first[1]}
        # "A cough is ..." begins with an article, not with a choice
        if first[1] == "A" and re.match(r"^\s*A\s+[a-z]", text):
            letters = set()
    else:
        letters = set()
    if not letters:
        letters = {one or other for one, other in _STATED_LETTER.findall(text)}
    if len(letters) != 1:
        return None
    index = LETTERS.index(letters.pop())
    return index if index < count else None


def _worded(text: str, options: Sequence[str]) -> int | None:
    rest, found = text.casefold(), []
    for index in sorted(range(len(options)), key=lambda one: -len(options[one])):
        words = options[index].casefold().strip()
        place = re.search(rf"(?<!\w){re.escape(words)}(?!\w)", rest) if words.isascii() else None
        if words and (place or (not words.isascii() and words in rest)):
            found.append(index)
            rest = rest.replace(words, " ")
    return found[0] if len(found) == 1 else None
