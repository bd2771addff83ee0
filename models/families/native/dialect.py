"""What the image families share in asking and reading: slots, hostile marks, places in pixels of the original.

A reader never raises on what a model wrote and never guesses: a box outside its range, inverted or empty is left out.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from models.families.text.asking import read_choice
from models.family import Request, SeenImage, Task
from models.prompts import Wordings
from pipeline.errors import ConfigurationError, FailStudy
from pipeline.report import Label, Language, Place, Region

IMAGE_MARK = "<image>"
_SLOT = re.compile(r"\{([a-z_]+)\}")
_MARKS = re.compile(
    r"<\|[^|>]{1,40}\|>|</?s>|<bos>|<eos>|\[/?INST\]|</?(?:img|image|ref|box|IMG_CONTEXT|image_soft_token)\b[^>]*>"
    r"|<(?:start|end)_of_(?:turn|image)>|</?(?:think|thinking|answer)>|<unused9[45]>",
    re.I,
)
SCANS = {
    "CR": "chest x-ray image",
    "DX": "chest x-ray image",
    "CT": "CT scan",
    "MR": "MRI scan",
    "MG": "mammography image",
}


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """What an answer says: its text without the family's marks, labels, and places in pixels of the original.

    ``reasoning`` is what stood around the answer and is no part of it.
    """

    text: str
    labels: tuple[Label, ...] = ()
    places: tuple[Place, ...] = ()
    reasoning: str = ""


class Dialect(Protocol):
    """How one family is asked and how it answers.

    ``most_images`` is how many images it reads; ``ends`` are the texts of tokens that end an answer; ``marks`` says
    that its tokenizer has marks of boxes as special tokens, which have to be kept for ``read``; ``reasons`` that it
    thinks in words before each answer, which takes room; ``repetition_penalty`` stands before that of the
    checkpoint, None leaves it to it. ``system`` is its system line, "" where it has none; ``blanks`` says that its
    tokenizer puts a blank in front of a text, as it was trained; ``greedy`` that its authors' own code decodes greedily
    whatever the checkpoint says; ``most_tokens`` are the new tokens that it allows an answer, 0 where it says nothing.
    """

    most_images: int
    marks: bool
    reasons: bool
    repetition_penalty: float | None
    ends: tuple[str, ...]
    digest: str
    system: str
    blanks: bool
    greedy: bool
    most_tokens: int

    def frame(self, prompt: str) -> str:
        """The whole prompt whose words are ``prompt``: system line, turns and where the answer begins."""
        ...

    def word(self, request: Request, seen: Sequence[SeenImage], modality: str) -> str:
        """The whole prompt with ``<image>`` where the tokens of each image go. Raises ConfigurationError, FailStudy."""
        ...

    def read(self, text: str, request: Request, seen: Sequence[SeenImage]) -> ParsedAnswer:
        """The answer read; never raises."""
        ...


def find_wording(wordings: Wordings, request: Request, key: str = "") -> str:
    """The wording for a request, ``key`` naming a variant. Raises ConfigurationError where the family has none."""
    text = wordings.texts.get((key or request.task.value, request.language))
    if text is None:
        message = f"this family does not do {key or request.task} in {request.language}"
        raise ConfigurationError("unsupported-task", message)
    return text


def fill_slots(template: str, values: Mapping[str, str]) -> str:
    """``template`` with its named slots filled in one pass: braces inside a value are text."""
    return _SLOT.sub(lambda slot: values.get(slot[1], slot[0]), template)


def check_request(request: Request) -> None:
    """Raises FailStudy where the request lacks what its task needs, or holds a mark that a model obeys."""
    needs = {
        Task.VQA: request.question,
        Task.TEXT_QA: request.question,
        Task.DETECT: request.target,
        Task.SUMMARIZE: request.text,
        Task.STRUCTURED: request.text,
        Task.CLASSIFY: "".join(request.labels),
    }
    if not needs.get(request.task, "given").strip():
        raise FailStudy("empty-request", f"{request.task} was asked of nothing: give it what it needs")
    context = request.context
    given = (request.question, request.target, request.text, *request.labels, *request.options)
    given += (context.indication, context.technique, context.comparison, context.prior_report)
    if any(_MARKS.search(text) for text in given):
        message = "the text holds a mark that models read as a command, not as text: it was not asked"
        raise FailStudy("special-token", message)


def read_labels(text: str, request: Request) -> tuple[Label, ...]:
    """The option or classes that an answer names; empty where it names none or anything else."""
    if request.task in (Task.VQA, Task.TEXT_QA):
        return read_choice(text, request.options) if request.options else ()
    if request.task is not Task.CLASSIFY:
        return ()
    known = {name.casefold(): name for name in request.labels}
    parts = [
        part.strip().casefold()
        for part in re.split(r"[,;\n，、；]", text.strip().rstrip(".。"))
        if part.strip()
    ]
    if parts == ["none"]:
        return tuple(Label(name, chosen=False) for name in request.labels)
    if not parts or any(part not in known for part in parts):
        return ()
    return tuple(Label(name, name.casefold() in parts) for name in request.labels)


def whole_image_region(seen: SeenImage, box: Sequence[float], full: float) -> Region | None:
    """A box x0, y0, x1, y1 in 0..``full`` of the whole image, in pixels of the original; None if it is not a box."""
    if not all(math.isfinite(edge) for edge in box):
        return None
    x0, y0, x1, y1 = (min(max(edge / full, 0.0), 1.0) for edge in box)
    if not (x0 < x1 and y0 < y1):
        return None
    return Region(seen.ref, seen.frame, x0 * seen.columns, y0 * seen.rows, x1 * seen.columns, y1 * seen.rows)


def check_region(region: Region | None, seen: Sequence[SeenImage]) -> SeenImage:
    """The image that the region of a request lies on. Raises FailStudy where it lies on none that the model sees."""
    for image in seen:
        if region is not None and (region.ref, region.frame) == (image.ref, image.frame):
            if 0 <= region.x0 < region.x1 <= image.columns and 0 <= region.y0 < region.y1 <= image.rows:
                return image
            message = "the region does not lie on the image; give x0, y0, x1, y1 in its pixels"
            raise FailStudy("region-outside", message)
    raise FailStudy("region-elsewhere", "the region is not on an image that the model sees")


def list_names(names: Sequence[str], language: Language = Language.ENGLISH) -> str:
    """Names in a row."""
    return ("、" if language is Language.CHINESE else ", ").join(names)
