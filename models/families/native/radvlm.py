"""RadVLM's words and boxes (uzh-dqbm-cmi/RadVLM 69fe946, ``radvlm/data/create_instructions.py``).

Boxes are ``[x1, y1, x2, y2]`` in shares 0 to 1 of the whole image, two decimals, x first, inside a sentence.
"""

import re
from collections.abc import Sequence

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
from models.family import Request, SeenImage, Task
from models.prompts import read_wordings
from pipeline.report import Language, Place

_SHARE = r"\s*([01](?:\.\d{1,4})?)\s*"
_BOX = re.compile(rf"\[{_SHARE},{_SHARE},{_SHARE},{_SHARE}\]")
MOST_BOXES = 64


class RadVlmWords:
    """See ``models.families.native.dialect.Dialect``."""

    most_images = 1
    marks = False
    reasons = False
    repetition_penalty: float | None = None
    system, blanks, greedy, most_tokens = "", False, True, 1500
    ends: tuple[str, ...] = ("<|im_end|>", "<|endoftext|>")

    def __init__(self, prompts: str = "radvlm.toml") -> None:
        self._wordings = read_wordings(prompts)
        self.digest = self._wordings.digest

    def frame(self, prompt: str) -> str:
        """See Dialect."""
        return fill_slots(self._wordings.texts["chat", Language.ENGLISH], {"prompt": prompt})

    def word(self, request: Request, seen: Sequence[SeenImage], modality: str) -> str:
        """See Dialect."""
        check_request(request)
        key = "vqa-options" if request.task is Task.VQA and request.options else request.variant
        values = {
            "image": f"{IMAGE_MARK}\n",
            "question": request.question.strip(),
            "options": "\n".join(request.options),
            "label_list": list_names(request.labels),
            "target": _lowered(request.target.strip()),
        }
        return self.frame(fill_slots(find_wording(self._wordings, request, key), values))

    def read(self, text: str, request: Request, seen: Sequence[SeenImage]) -> ParsedAnswer:
        """See Dialect."""
        places = read_boxes_of_one(text, request.target.strip(), seen[0]) if seen else ()
        if request.task is not Task.DETECT:
            places = ()
        return ParsedAnswer(text.strip(), labels=read_labels(text, request), places=places)


def _lowered(name: str) -> str:
    """As its data set writes a name: "Right lung" in small letters, "ETT" as it is."""
    return name.lower() if name[:1].isupper() and not name.isupper() else name


def read_boxes_of_one(text: str, name: str, image: SeenImage) -> tuple[Place, ...]:
    """The boxes of an answer, of which a share above 1 or an empty box is none."""
    boxes = [[float(edge) for edge in found.groups()] for found in _BOX.finditer(text)][:MOST_BOXES]
    regions = [whole_image_region(image, box, 1.0) for box in boxes if max(box) <= 1]
    return tuple(Place(name, region) for region in regions if region is not None)
