"""MedGemma's words and boxes (systems reference 5.1).

Boxes are a JSON list of ``{"box_2d": [y0, x0, y1, x1], "label": ...}`` after "Final Answer:", y first, 0-1000 over the
image padded to a square, its middle kept. For every task but detection the image is squashed to the square instead,
as the published processor does.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from models.families.native.dialect import (
    IMAGE_MARK,
    ParsedAnswer,
    check_request,
    fill_slots,
    find_wording,
    list_names,
    read_labels,
)
from models.family import TEXT_TASKS, Request, SeenImage, Task
from models.prompts import read_wordings
from pipeline.report import Language, Place, Region

FULL = 1000
LONGITUDINAL, SERIES, PLANES = "report-longitudinal", "-series", "CT"
_FINAL = re.compile(r"Final Answer:", re.I)
_FENCE = re.compile(r"\A```(?:json)?\s*|\s*```\s*\Z")


class MedGemmaDialect:
    """See ``models.families.native.dialect.Dialect``."""

    marks = False
    reasons = False
    compares = False
    """Whether it has words for an earlier film, which then is the first of its two images."""
    repetition_penalty: float | None = None
    system, blanks, greedy, most_tokens = "You are an expert radiologist.", False, True, 0
    ends: tuple[str, ...] = ("<end_of_turn>", "<eos>")

    def __init__(self, prompts: str = "medgemma.toml", most_images: int = 2) -> None:
        self._wordings = read_wordings(prompts)
        self.digest, self.most_images = self._wordings.digest, most_images
        self.compares = (LONGITUDINAL, Language.ENGLISH) in self._wordings.texts

    def frame(self, prompt: str) -> str:
        """See Dialect."""
        return fill_slots(self._wordings.texts["chat", Language.ENGLISH], {"prompt": prompt})

    def word(self, request: Request, seen: Sequence[SeenImage], modality: str) -> str:
        """See Dialect."""
        series = modality == PLANES and len(seen) > 1 and self.compares
        if series and request.task in (Task.REPORT, Task.FINDINGS, Task.VQA):
            return self._word(request, seen, f"{'vqa' if request.task is Task.VQA else 'report'}{SERIES}")
        return self._word(request, seen, _key(request))

    def word_compared(self, request: Request, seen: Sequence[SeenImage]) -> str:
        """The whole prompt of a draft that compares: the earlier film's place, then that of the first image."""
        return self._word(request, seen[:1], LONGITUDINAL)

    def _word(self, request: Request, seen: Sequence[SeenImage], key: str) -> str:
        check_request(request)
        context = request.context
        known = {"INDICATION": context.indication.strip(), "TECHNIQUE": context.technique.strip()}
        images = IMAGE_MARK * len(seen) if request.task not in TEXT_TASKS else ""
        values = {
            "given": "".join(f"{name}: {text}\n" for name, text in known.items() if text),
            "question": "\n\n".join(
                part for part in (request.text.strip(), request.question.strip()) if part
            ),
            "options": "\n".join(request.options),
            "label_list": list_names(request.labels),
            "target": request.target.strip(),
            "text": request.text.strip(),
            "schema": request.schema,
            "images": images,
            "both": IMAGE_MARK * 2,
            "slices": "".join(f"{IMAGE_MARK}SLICE {number}" for number in range(1, len(seen) + 1)),
        }
        prompt = fill_slots(find_wording(self._wordings, request, key), values)
        plain = key == LONGITUDINAL or key.endswith(SERIES)  # its notebooks show these without a system line
        return (
            fill_slots(self._wordings.texts["chat-plain", Language.ENGLISH], {"prompt": prompt})
            if plain
            else self.frame(prompt)
        )

    def read(self, text: str, request: Request, seen: Sequence[SeenImage]) -> ParsedAnswer:
        """See Dialect."""
        if request.task is Task.DETECT:
            return ParsedAnswer(text.strip(), places=read_boxes(text, seen[0]) if seen else ())
        return ParsedAnswer(text.strip(), labels=read_labels(text, request))


class LaterMedGemmaDialect(MedGemmaDialect):
    """That of version 1.5: it compares with an earlier film and is shown the planes of a CT."""

    def __init__(self, prompts: str = "medgemma-1.5.toml", most_images: int = 85) -> None:
        super().__init__(prompts, most_images)


def _key(request: Request) -> str:
    return "vqa-options" if request.task is Task.VQA and request.options else ""


def read_boxes(text: str, image: SeenImage) -> tuple[Place, ...]:
    """The boxes of the last "Final Answer:"; empty where what follows is not one JSON list of boxes."""
    parts = _FINAL.split(text)
    if len(parts) < 2:
        return ()
    try:
        stored: Any = json.loads(_FENCE.sub("", parts[-1].strip()))
    except (ValueError, RecursionError):
        return ()
    if not isinstance(stored, list):
        return ()
    places = []
    for one in stored:
        if not isinstance(one, dict):
            return ()
        label, box = one.get("label"), one.get("box_2d")
        region = padded_region(image, box) if isinstance(box, list) else None
        if isinstance(label, str) and label.strip() and region is not None:
            places.append(Place(label.strip(), region))
    return tuple(places)


def padded_region(image: SeenImage, box: Sequence[Any]) -> Region | None:
    """y0, x0, y1, x1 in 0-1000 of the padded square, in pixels of the original; None where it is none or in the pad."""
    if len(box) != 4 or any(isinstance(edge, bool) or not isinstance(edge, int | float) for edge in box):
        return None
    if not all(math.isfinite(edge) and 0 <= edge <= FULL for edge in box):
        return None
    side = max(image.rows, image.columns)
    left, top = pads(image.rows, image.columns)
    y0, x0, y1, x1 = (edge / FULL * side for edge in box)
    x0, x1 = (min(max(x - left, 0.0), float(image.columns)) for x in (x0, x1))
    y0, y1 = (min(max(y - top, 0.0), float(image.rows)) for y in (y0, y1))
    if not (x0 < x1 and y0 < y1):
        return None
    return Region(image.ref, image.frame, x0, y0, x1, y1)


def pads(rows: int, columns: int) -> tuple[int, int]:
    """Pixels of padding on the left and on top that make a square of the image's longer side."""
    side = max(rows, columns)
    return (side - columns) // 2, (side - rows) // 2
