"""MedRegA's own words, boxes and answers (systems reference 3.2, 3.3; xmed-lab/MedRegA demo data and evaluators).

Boxes are ``<ref>name</ref><box>[[x1, y1, x2, y2], ...]</box>``, x first, 0-999 over the whole image. Regional CoT is
two passes: the thing is looked for first, and the boxes found stand before the question of the second pass. It is asked
for by a ``target`` in a VQA or classify request.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from models.families.native.dialect import (
    IMAGE_MARK,
    SCANS,
    ParsedAnswer,
    check_region,
    check_request,
    fill_slots,
    find_wording,
    read_labels,
    whole_image_region,
)
from models.family import Request, SeenImage, Task
from models.prompts import read_wordings
from pipeline.errors import ConfigurationError
from pipeline.report import Label, Language, Place

FULL = 999
ORGANS = (
    "left lung",
    "right lung",
    "mediastinum",
    "cardiac silhouette",
    "left hilar structures",
    "right hilar structures",
    "left clavicle",
    "right clavicle",
    "left hemidiaphragm",
    "right hemidiaphragm",
    "right atrium",
    "abdomen",
)
"""What the English grounded report was trained to speak of."""
DEFAULT_ORGANS = ("right lung", "left lung")
"""Those of the published example."""
LESIONS = (
    "脑肿瘤",
    "缺血性脑卒中",
    "脑出血",
    "鼻咽癌",
    "前庭神经鞘瘤",
    "肺癌",
    "肺栓塞",
    "肝癌",
    "结肠癌",
    "肾癌",
    "胰腺癌",
    "前列腺癌",
)
"""What the Chinese grounded report was trained to speak of; only 胰腺癌 is published, the others are translated."""

_NUMBER = r"\s*\d{1,4}\s*"
_BOX = rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]"
_NAMED = re.compile(
    rf"<ref>(?P<name>[^<>]{{1,200}})</ref>\s*<box>\s*\[\s*(?P<boxes>{_BOX}(?:\s*,\s*{_BOX}){{0,63}})\s*\]\s*</box>"
)
_MARKS = re.compile(r"<box>.*?</box>|</?(?:ref|box)>", re.S)


class MedRegaDialect:
    """See ``models.families.native.dialect.Dialect``."""

    most_images = 1
    marks = True
    reasons = False
    repetition_penalty: float | None = None
    system, blanks, greedy, most_tokens = "Answer the questions.", False, True, 0
    ends: tuple[str, ...] = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>")

    def __init__(self, prompts: str = "medrega.toml") -> None:
        self._wordings = read_wordings(prompts)
        self.digest = self._wordings.digest

    def first_pass(self, request: Request) -> Request | None:
        """The detection that comes before a VQA or classify request with a target; None where there is none."""
        if request.task not in (Task.VQA, Task.CLASSIFY) or not request.target.strip():
            return None
        if request.language is not Language.ENGLISH:
            raise ConfigurationError(
                "unsupported-task", "MedRegA detects in English alone: ask Regional CoT in English"
            )
        return replace(request, task=Task.DETECT)

    def frame(self, prompt: str) -> str:
        """See Dialect."""
        return fill_slots(self._wordings.texts["chat", Language.ENGLISH], {"prompt": prompt})

    def word(
        self,
        request: Request,
        seen: Sequence[SeenImage],
        modality: str,
        found: Sequence[Place] | None = None,
    ) -> str:
        """See Dialect. ``found`` are the places of the first pass."""
        check_request(request)
        scan = SCANS.get(modality, "medical image")
        values = {
            "question": request.question.strip(),
            "options": "\n".join(request.options),
            "labels": "\n".join(request.labels),
            "scan": scan,
            "a_scan": f"a {scan}",
            "objects": self._objects(request),
            "box": self._box(request, seen),
        }
        prompt = fill_slots(find_wording(self._wordings, request, self._key(request)), values)
        regions = [_write_place(place, seen[0]) for place in found or () if place.region is not None]
        if regions:
            joining = find_wording(self._wordings, request, "regional-cot")
            line = fill_slots(joining, {"regions": ", ".join(regions)})
            prompt = prompt.replace(f"{IMAGE_MARK}\n", f"{IMAGE_MARK}\n{line}")
        return self.frame(prompt)

    def _key(self, request: Request) -> str:
        if request.task is Task.VQA and request.options:
            return "vqa-options" if request.language is Language.ENGLISH else ""
        return request.variant

    def _objects(self, request: Request) -> str:
        names: Sequence[str] = (request.target,)
        if request.task is Task.GROUNDED_REPORT:
            names = request.labels
            if request.language is Language.ENGLISH:
                names = names or DEFAULT_ORGANS
                unknown = [name for name in names if name not in ORGANS]
                if unknown:
                    message = f"MedRegA speaks of {', '.join(ORGANS)}; not of {', '.join(unknown)}"
                    raise ConfigurationError("unknown-label", message)
            elif not names:
                message = f"name the lesions to look for in labels; it was trained on {'、'.join(LESIONS)}"
                raise ConfigurationError("no-labels", message)
        return ", ".join(f"<ref>{name.strip()}</ref>" for name in names)

    def _box(self, request: Request, seen: Sequence[SeenImage]) -> str:
        if request.task is not Task.IDENTIFY:
            return ""
        check_region(request.region, seen)
        return _write_box([Place("", request.region)], seen[0])

    def read(self, text: str, request: Request, seen: Sequence[SeenImage]) -> ParsedAnswer:
        """See Dialect."""
        plain = (
            " ".join(_MARKS.sub("", text).split())
            if request.language is Language.ENGLISH
            else _MARKS.sub("", text)
        )
        plain = plain.strip()
        if request.task is Task.CLASSIFY:
            return ParsedAnswer(plain, labels=nearest_labels(plain, request.labels))
        if request.task is Task.IDENTIFY:
            name = plain.strip(" .。")
            return ParsedAnswer(plain, places=(Place(name, request.region, text=plain),) if name else ())
        if request.task in (Task.DETECT, Task.GROUNDED_REPORT) and seen:
            return ParsedAnswer(
                plain, places=read_places(text, seen[0], told=request.task is Task.GROUNDED_REPORT)
            )
        return ParsedAnswer(plain, labels=read_labels(plain, request))


def read_places(text: str, image: SeenImage, *, told: bool = False) -> tuple[Place, ...]:
    """A place per box. ``told``: what follows a colon after a row of names is said of each of them."""
    matches = list(_NAMED.finditer(text))
    said = [""] * len(matches)
    if told:
        following = ""
        for number in reversed(range(len(matches))):
            end = matches[number + 1].start() if number + 1 < len(matches) else len(text)
            rest = text[matches[number].end() : end].lstrip()
            if rest[:1] in (":", "："):
                following = _MARKS.sub("", rest[1:]).strip(" \n,，")
            elif rest.strip(" \n,，、"):
                following = ""
            said[number] = following
    places = []
    for match, words in zip(matches, said, strict=True):
        for box in re.findall(_BOX, match["boxes"]):
            edges = [int(edge) for edge in re.findall(r"\d+", box)]
            # the paper's range ends one later than the prompt's
            region = whole_image_region(image, edges, FULL) if max(edges) <= FULL + 1 else None
            if region is not None and match["name"].strip():
                places.append(Place(match["name"].strip(), region, text=words))
    return tuple(places)


def nearest_labels(text: str, labels: Sequence[str]) -> tuple[Label, ...]:
    """Each label with whether the answer means it: comma-separated parts, each the label of the highest BLEU-1.

    That is the authors' own rule; theirs takes the first label where nothing matches, here such a part is no label, and
    an answer with a part that is none or is as near to two labels has none at all.
    """
    parts = [part.strip().lower() for part in re.split(r"[,，]", text.strip(" .。")) if part.strip()]
    chosen = set()
    for part in parts:
        scores = [bleu1(part, label.lower()) for label in labels]
        best = max(scores, default=0.0)
        if best == 0.0 or scores.count(best) != 1:
            return ()
        chosen.add(scores.index(best))
    if not chosen:
        return ()
    return tuple(Label(name, index in chosen) for index, name in enumerate(labels))


def bleu1(text: str, reference: str) -> float:
    """BLEU-1 of whitespace words: clipped precision with the brevity penalty, 0..1."""
    words, wanted = text.split(), reference.split()
    if not words or not wanted:
        return 0.0
    hits = sum(min(words.count(word), wanted.count(word)) for word in set(words))
    penalty = 1.0 if len(words) > len(wanted) else math.exp(1 - len(wanted) / len(words))
    return penalty * hits / len(words)


def _write_place(place: Place, image: SeenImage) -> str:
    return f"<ref>{place.name}</ref>{_write_box([place], image)}"


def _write_box(places: Sequence[Place], image: SeenImage) -> str:
    boxes = []
    for place in places:
        region = place.region
        if region is None:
            continue
        edges = (
            region.x0 / image.columns,
            region.y0 / image.rows,
            region.x1 / image.columns,
            region.y1 / image.rows,
        )
        boxes.append(f"[{', '.join(str(round(edge * FULL)) for edge in edges)}]")
    return f"<box>[{', '.join(boxes)}]</box>"
