"""The words, boxes and answers of UMIT, Lingshu and CheXOne (systems reference 2.3, 5.1 and 0.2).

    UMIT      2D boxes (x1,y1),(x2,y2) and landmarks [x,y] in 0-1000 of the whole image; 3D boxes in pixels and slices
    Lingshu   its base's JSON ``bbox_2d``, in pixels of the image as the processor resized it
    CheXOne   ``<|ref|>name<|/ref|><|box|>(x1,y1),(x2,y2)<|/box|>`` in 0-100; answers stand in the last ``\\boxed{...}``

The scale of UMIT's landmarks is not documented; 0-1000 is assumed, as for its boxes.
"""

import json
import math
import re
import string
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
    whole_image_region,
)
from models.family import TEXT_TASKS, Request, SeenImage, Task
from models.prompts import Wordings, read_wordings
from pipeline.report import Extent, Label, Language, Place, Point

THOUSAND, HUNDRED = 1000, 100
_PAIR = r"\(\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\)"
_UMIT_BOX = re.compile(rf"<\|box_start\|>\s*{_PAIR}\s*,\s*{_PAIR}\s*<\|box_end\|>")
_VOXELS = re.compile(r"[\[(]\s*(\d{1,4})\s*,\s*(\d{1,4})\s*,\s*(\d{1,4})\s*[\])]")
_POINT = re.compile(r"\A\s*\[\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\]\s*\Z")
_OPTION = re.compile(r"\A\s*(\d{1,3})\s*[:：]\s*(.*?)\s*\Z", re.S)
_CHEXONE = re.compile(
    rf"<\|ref\|>([^<>]{{1,200}})<\|/ref\|>\s*((?:<\|box\|>\s*{_PAIR}\s*,\s*{_PAIR}\s*<\|/box\|>\s*){{1,64}})"
)
_CHEXONE_BOX = re.compile(rf"<\|box\|>\s*{_PAIR}\s*,\s*{_PAIR}\s*<\|/box\|>")
_QWEN_MARKS = re.compile(r"<\|/?(?:box|ref|object_ref|box_start|box_end|object_ref_start|object_ref_end)\|>")
_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.S)
_IMPRESSION = re.compile(r"\s+(?=impressions?\s*:)", re.I)
_PLURAL = re.compile(r"^impressions\s*:", re.I | re.M)
BOXED = "\\boxed{"
INSTRUCT = "-instruct"
"""How the wordings of CheXOne end that ask for the answer alone."""


class QwenWords:
    """What the three share; see ``models.families.native.dialect.Dialect``."""

    marks, reasons = True, False
    repetition_penalty: float | None = None
    system, blanks, greedy, most_tokens = "You are a helpful assistant.", False, False, 0
    ends: tuple[str, ...] = ("<|im_end|>", "<|endoftext|>")

    def __init__(self, prompts: str | Wordings, most_images: int) -> None:
        self.wordings = read_wordings(prompts) if isinstance(prompts, str) else prompts
        self.digest, self.most_images = self.wordings.digest, most_images

    def word(self, request: Request, seen: Sequence[SeenImage], modality: str) -> str:
        """See Dialect."""
        check_request(request)
        template = find_wording(self.wordings, request, self.variant(request, seen, modality))
        return self.frame(fill_slots(template, self.values(request, seen)))

    def values(self, request: Request, seen: Sequence[SeenImage]) -> dict[str, str]:
        """What goes into the slots of a wording."""
        return {
            "images": IMAGE_MARK * len(seen) if request.task not in TEXT_TASKS else "",
            "numbered": "".join(f"<image_{number}>: {IMAGE_MARK}" for number in range(1, len(seen) + 1)),
            "question": self.question(request),
            "options": self.number_options(request),
            "label_list": list_names(request.labels, request.language),
            "target": request.target.strip(),
            "text": request.text.strip(),
        }

    def frame(self, prompt: str) -> str:
        """See Dialect."""
        return fill_slots(self.wordings.texts["chat", Language.ENGLISH], {"prompt": prompt})

    def variant(self, request: Request, seen: Sequence[SeenImage], modality: str) -> str:
        """The name of the wording, "" for that of the task."""
        if request.variant:
            return request.variant
        return "vqa-options" if request.task is Task.VQA and request.options else ""

    def question(self, request: Request) -> str:
        """The question, after the text that it is asked about."""
        return "\n\n".join(part for part in (request.text.strip(), request.question.strip()) if part)

    def number_options(self, request: Request) -> str:
        """The options, a line each."""
        return "\n".join(request.options)

    def read(self, text: str, request: Request, seen: Sequence[SeenImage]) -> ParsedAnswer:
        """See Dialect: the text, and the options or classes that it names."""
        return ParsedAnswer(text.strip(), labels=read_labels(text, request))


class UmitWords(QwenWords):
    """UMIT; a series of slices has wordings of its own."""

    def __init__(self, prompts: str = "umit.toml", most_images: int = 32) -> None:
        super().__init__(prompts, most_images)

    def variant(self, request: Request, seen: Sequence[SeenImage], modality: str) -> str:
        """See QwenWords; more than a frontal and a lateral are a series."""
        if len(seen) > 2 and request.task in (Task.REPORT, Task.DETECT):
            return f"{request.task}-series"
        return super().variant(request, seen, modality)

    def question(self, request: Request) -> str:
        """Classification always asks something."""
        if request.task is Task.CLASSIFY and not request.question.strip():
            return "What does this image show?"
        return super().question(request)

    def number_options(self, request: Request) -> str:
        """Options numbered from 0 for classification, from 1 for VQA."""
        if request.task is Task.CLASSIFY:
            return "\n".join(f"{number}:{name}" for number, name in enumerate(request.labels))
        mark, apart = ("：", "\n ") if request.language is Language.CHINESE else (":", "\n")
        return apart.join(f"{number}{mark}{name}" for number, name in enumerate(request.options, 1))

    def read(self, text: str, request: Request, seen: Sequence[SeenImage]) -> ParsedAnswer:
        """See Dialect."""
        plain = _QWEN_MARKS.sub("", text).strip()
        if request.task is Task.CLASSIFY:
            return ParsedAnswer(plain, labels=read_numbered(text, request.labels, 0))
        if request.task is Task.VQA and request.options:
            return ParsedAnswer(plain, labels=read_numbered(text, request.options, 1))
        if request.task is Task.DETECT and seen:
            return ParsedAnswer(plain, places=_umit_places(text, request.target.strip(), seen))
        if request.task is Task.LANDMARK and seen:
            return ParsedAnswer(plain, places=_umit_landmark(text, request.target.strip(), seen[0]))
        return ParsedAnswer(plain)


def read_numbered(text: str, names: Sequence[str], first: int) -> tuple[Label, ...]:
    """The option that "1:Liver" names, numbered from ``first``; empty where number and name disagree."""
    found = _OPTION.match(text)
    if not found:
        return ()
    place = int(found[1]) - first
    if not 0 <= place < len(names) or found[2].casefold() != names[place].strip().casefold():
        return ()
    return tuple(Label(name, chosen=number == place) for number, name in enumerate(names))


def _umit_places(text: str, name: str, seen: Sequence[SeenImage]) -> tuple[Place, ...]:
    regions = [
        whole_image_region(seen[0], [float(edge) for edge in box.groups()], THOUSAND)
        for box in _UMIT_BOX.finditer(text)
        if all(int(edge) <= THOUSAND for edge in box.groups())
    ]
    if regions:
        return tuple(Place(name, region) for region in regions if region is not None)
    corners = [[int(value) for value in found.groups()] for found in _VOXELS.finditer(text)]
    return _voxel_places(name, corners, seen) if len(corners) == 2 else ()


def _voxel_places(name: str, corners: list[list[int]], seen: Sequence[SeenImage]) -> tuple[Place, ...]:
    """The extent of a 3D answer: x, y in pixels, z the index of the slice shown, both ends included.

    One that leaves the slices has no planes, which no answer is kept with.
    """
    (x0, y0, z0), (x1, y1, z1) = corners
    shown = seen[z0 : z1 + 1] if 0 <= z0 <= z1 < len(seen) else ()
    planes = tuple((image.ref, image.frame) for image in shown)
    return (Place(name, extent=Extent(planes, float(x0), float(y0), float(x1), float(y1))),)


def _umit_landmark(text: str, name: str, image: SeenImage) -> tuple[Place, ...]:
    found = _POINT.match(text)
    if not found or any(int(value) > THOUSAND for value in found.groups()):
        return ()
    x, y = (int(value) / THOUSAND for value in found.groups())
    return (Place(name, point=Point(image.ref, image.frame, x * image.columns, y * image.rows)),)


class LingshuWords(QwenWords):
    """Lingshu; its boxes need the size that the processor gave the image, so ``read_resized`` reads them."""

    repetition_penalty: float | None = 1.0  # its authors' evaluation passes it, whatever the checkpoint says
    greedy, most_tokens = True, 1024

    def __init__(self, prompts: str = "lingshu.toml", most_images: int = 6) -> None:
        super().__init__(prompts, most_images)

    def number_options(self, request: Request) -> str:
        """Options by letters."""
        return "\n".join(
            f"{letter}. {option}"
            for letter, option in zip(string.ascii_uppercase, request.options, strict=False)
        )

    def read(self, text: str, request: Request, seen: Sequence[SeenImage]) -> ParsedAnswer:
        """See Dialect. A report's Impression starts a line of its own, as readers of reports expect."""
        if request.task is Task.REPORT:
            return ParsedAnswer(apart_impression(text))
        return ParsedAnswer(text.strip(), labels=read_labels(text, request))

    def read_resized(
        self, text: str, request: Request, seen: Sequence[SeenImage], sizes: Sequence[tuple[int, int]]
    ) -> ParsedAnswer:
        """As ``read``, with the (rows, columns) in pixels that each image was resized to."""
        if request.task is Task.DETECT and seen:
            return ParsedAnswer(
                text.strip(), places=read_bbox_2d(text, seen[0], sizes[0], request.target.strip())
            )
        return self.read(text, request, seen)


def apart_impression(text: str) -> str:
    """A report whose Impression starts a line of its own, under its heading in the singular."""
    return _PLURAL.sub("Impression:", _IMPRESSION.sub("\n", text.strip()))


def read_bbox_2d(text: str, image: SeenImage, size: tuple[int, int], name: str) -> tuple[Place, ...]:
    """Boxes of a JSON list of ``{"bbox_2d": [x0, y0, x1, y1], "label": ...}``; empty where it is not one."""
    fenced = _FENCE.search(text)
    try:
        stored: Any = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return ()
    places = []
    for one in stored if isinstance(stored, list) else [stored]:
        box = one.get("bbox_2d") if isinstance(one, dict) else None
        if not isinstance(box, list) or len(box) != 4:
            return ()
        if any(isinstance(edge, bool) or not isinstance(edge, int | float) for edge in box):
            return ()
        if not all(math.isfinite(edge) and 0 <= edge <= max(size) for edge in box):
            return ()
        rows, columns = size
        shares = [edge / side for edge, side in zip(box, (columns, rows, columns, rows), strict=True)]
        region = whole_image_region(image, shares, 1.0)
        label = one.get("label")
        if region is not None:
            places.append(Place(label.strip() if isinstance(label, str) and label.strip() else name, region))
    return tuple(places)


class CheXOneWords(QwenWords):
    """CheXOne, in its reasoning mode: the answer is what the last ``\\boxed{...}`` holds.

    Its instruct mode is the wording ``findings-instruct``, whose answer stands alone.
    """

    reasons = True

    def __init__(self, prompts: str = "chexone.toml", most_images: int = 2) -> None:
        super().__init__(prompts, most_images)

    def read(self, text: str, request: Request, seen: Sequence[SeenImage]) -> ParsedAnswer:
        """See Dialect. What was asked for in a box and closes none holds thinking alone: it has no answer."""
        if request.task is Task.DETECT:
            plain = " ".join(_CHEXONE_BOX.sub("", _QWEN_MARKS.sub("", text)).split())
            return ParsedAnswer(plain, places=read_chexone(text, request, seen[0]) if seen else ())
        if request.variant.endswith(INSTRUCT):
            return super().read(text, request, seen)
        boxed = last_boxed(text)
        if boxed is None:
            return ParsedAnswer("", reasoning=text)
        answer, around = boxed.strip(), text.replace(f"{BOXED}{boxed}}}", "")
        return ParsedAnswer(answer, labels=read_labels(answer, request), reasoning=around)


def last_boxed(text: str) -> str | None:
    """What the last whole ``\\boxed{...}`` holds, braces counted; None where there is none."""
    start = text.rfind(BOXED)
    while start >= 0:
        depth, begin = 1, start + len(BOXED)
        for place in range(begin, len(text)):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            if not depth:
                return text[begin:place]
        start = text.rfind(BOXED, 0, start)
    return None


def read_chexone(text: str, request: Request, image: SeenImage) -> tuple[Place, ...]:
    """The boxes of each named thing; one Place without a region where the text denies what was asked for."""
    if text.strip().casefold() == f"no {request.target.strip()} detected.".casefold():
        return (Place(request.target.strip()),)
    places = []
    for found in _CHEXONE.finditer(text):
        for box in _CHEXONE_BOX.finditer(found[2]):
            edges = [int(edge) for edge in box.groups()]
            region = whole_image_region(image, edges, HUNDRED) if max(edges) <= HUNDRED else None
            if region is not None:
                places.append(Place(found[1].strip(), region))
    return tuple(places)
