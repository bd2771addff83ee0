"""Uni-Med's prompts and answers: instructions, boxes of 0 to 100, classes.

A box is ``{<x1><y1><x2><y2>}``, x first, each value ``int(100 * pixel / side)`` of the whole image.
"""

import re
from collections.abc import Mapping, Sequence

from models.family import Request, SeenImage, Task
from pipeline.errors import FailStudy
from pipeline.report import Label, Place, Region

IMAGE_MARK = "<ImageHere>"
START, END = "[INST] ", "  [/INST]"
"""The published training puts a space behind every instruction, and the frame one of its own: two, a token more."""
BEFORE_IMAGE, AFTER_IMAGE = f"{START}<Img>", "</Img> "
OTHER_CAPTION = "[caption] Describe this input image."
"""The caption prompt of its MedPix set, for what is no chest film."""
NAMED_CLASSES = "[cls] Which category does this {} belong to: {}?"
TASK_OF = {
    Task.REPORT: "caption",
    Task.VQA: "vqa",
    Task.CLASSIFY: "cls",
    Task.DETECT: "refer",
    Task.IDENTIFY: "identify",
}
"""The connector's task for each of ours; the text-only question has none."""
FILMS = ("CR", "DX")
TRAINING_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "qa": (
        "[qa] If you are a doctor, please answer the following question briefly: {}",
        "[qa] {}",
    ),
    "vqa": (
        "[vqa] Based on the image, respond to this question with a short answer: {}",
        "[vqa] {}",
    ),
    "caption": ("[caption] {}",),
    "cls": ("[cls] {}",),
    "refer": (
        "[refer] give me the location of {}",
        "[refer] where is {} ?",
        "[refer] from this image, tell me the location of {}",
        "[refer] the location of {} is",
        "[refer] could you tell me the location for {} ?",
        "[refer] where can I locate the {} ?",
    ),
    "identify": (
        "[identify] what object is in this location {}",
        "[identify] identify the object present at this location {}",
        "[identify] what is it in {}",
        "[identify] describe this object in {}",
        "[identify] this {} is",
        "[identify] the object in {} is",
    ),
}
"""The wordings that training draws from. Captions and classifications are asked in whole sentences of the set."""
_MARKS = ("<s>", "</s>", "[INST]", "[/INST]", "<Img>", "</Img>", IMAGE_MARK)
_BOX = re.compile(r"\{<(\d{1,3})><(\d{1,3})><(\d{1,3})><(\d{1,3})>\}")
_SCALE = 100


def write_box(region: Region, image: SeenImage) -> str:
    """``region`` as the model writes it. Raises FailStudy where it does not lie inside its image."""
    inside = 0 <= region.x0 < region.x1 <= image.columns and 0 <= region.y0 < region.y1 <= image.rows
    if (region.ref, region.frame) != (image.ref, image.frame) or not inside:
        raise FailStudy("region", "the region does not lie inside the image that the model was shown")
    values = (
        region.x0 * _SCALE / image.columns,
        region.y0 * _SCALE / image.rows,
        region.x1 * _SCALE / image.columns,
        region.y1 * _SCALE / image.rows,
    )
    return "{" + "".join(f"<{int(value)}>" for value in values) + "}"


def read_places(text: str, name: str, image: SeenImage) -> tuple[Place, ...]:
    """Every box in ``text`` in pixels of the original image; one outside 0 to 100 or without area is left out."""
    places = []
    for found in _BOX.finditer(text):
        x0, y0, x1, y1 = map(int, found.groups())
        if not (x0 < x1 <= _SCALE and y0 < y1 <= _SCALE):
            continue
        across, down = image.columns / _SCALE, image.rows / _SCALE
        region = Region(image.ref, image.frame, x0 * across, y0 * down, x1 * across, y1 * down)
        places.append(Place(name, region))
    return tuple(places)


def read_class(text: str, labels: Sequence[str]) -> tuple[Label, ...]:
    """Every class with the one that is written; empty where the answer is none of them exactly, case aside."""
    written = text.strip().rstrip(".").casefold()
    if [label.casefold() for label in labels].count(written) != 1:
        return ()
    return tuple(Label(label, label.casefold() == written) for label in labels)


def word_instruction(template: str, request: Request, image: SeenImage | None, modality: str) -> str:
    """The instruction of a request, in the published words.

    Raises FailStudy where the request lacks what its task needs, or holds one of the model's own marks.
    """
    if request.task is Task.REPORT:
        return template if modality in FILMS else OTHER_CAPTION
    if request.task is Task.CLASSIFY:
        if len(request.labels) < 2:
            raise FailStudy("empty-request", "a classification needs at least two classes to choose among")
        classes = ", ".join(request.labels[:-1]) + f", or {request.labels[-1]}"
        _check(classes, request.question)
        return (
            NAMED_CLASSES.format(request.question, classes)
            if request.question
            else template.replace("{}", classes)
        )
    if request.task is Task.IDENTIFY:
        if request.region is None or image is None:
            raise FailStudy("empty-request", "identify needs a region")
        return template.replace("{}", write_box(request.region, image))
    value = request.target if request.task is Task.DETECT else request.question
    if request.task is Task.VQA and request.options:
        value += f" Choose one of: {', '.join(request.options)}."
    if request.task is Task.TEXT_QA:
        lettered = [f"{chr(65 + place)}: {option}" for place, option in enumerate(request.options)]
        value = " ".join([request.text, value, *lettered]).strip()
    if not value.strip():
        raise FailStudy(
            "empty-request", f"{request.task} was asked of nothing: give it its question or target"
        )
    _check(value)
    return template.replace("{}", value)


def _check(*texts: str) -> None:
    if any(mark in text for text in texts for mark in _MARKS):
        raise FailStudy(
            "special-token", "the request holds a mark that the model reads as a command, not as text"
        )
