"""The words, boxes and answers of Qwen3-VL fine-tunes: UniRG-CXR, and any that brings its own words in its folder.

Boxes are Qwen3-VL's JSON ``bbox_2d`` in 0-1000 of the whole image, whatever size the processor gave it.
"""

import re
from collections.abc import Sequence

from models.families.native.dialect import ParsedAnswer
from models.families.native.qwen_words import THOUSAND, QwenWords, apart_impression, read_bbox_2d
from models.families.reasoning import opens_reasoning
from models.family import Request, SeenImage, Task
from models.prompts import Wordings
from pipeline.errors import StopRun
from pipeline.report import Language

_SLOTS = re.compile(r"\{([a-z_]+)\}")
_SYSTEM = re.compile(r"\A<\|im_start\|>system\n(.*?)<\|im_end\|>", re.S)
_TABLE = re.compile(r"[a-z_]+")
LIMIT, THINKING_LIMIT = 1024, 4096
"""New tokens of an answer, and where the turns end in the beginning of thinking."""
NO_CONTEXT = "No additional clinical context."
"""What stands for the context of a study of which nothing is known."""


class Qwen3Words(QwenWords):
    """Any Qwen3-VL fine-tune. Its system line is what its chat wording begins with, "" where that has none."""

    def __init__(self, prompts: str | Wordings = "qwen3-vl.toml", most_images: int = 8) -> None:
        super().__init__(prompts, most_images)
        began = _SYSTEM.match(self.frame(""))
        self.system = began[1] if began else ""
        self.reasons = opens_reasoning(self.frame(""))
        self.most_tokens = THINKING_LIMIT if self.reasons else LIMIT

    def values(self, request: Request, seen: Sequence[SeenImage]) -> dict[str, str]:
        """See QwenWords; with what is known of the study."""
        held = {
            "Indication": request.context.indication,
            "Technique": request.context.technique,
            "Comparison": request.context.comparison,
            "Prior report": request.context.prior_report,
        }
        told = [f"{name}: {text.strip()}" for name, text in held.items() if text.strip()]
        return {**super().values(request, seen), "context": " ".join(told) or NO_CONTEXT}

    def read(self, text: str, request: Request, seen: Sequence[SeenImage]) -> ParsedAnswer:
        """See Dialect."""
        plain = text.strip()
        if request.task is Task.REPORT:
            return ParsedAnswer(apart_impression(plain))
        if request.task is Task.DETECT and seen:
            places = read_bbox_2d(plain, seen[0], (THOUSAND, THOUSAND), request.target.strip())
            return ParsedAnswer(plain, places=places)
        return super().read(text, request, seen)


class UniRgWords(Qwen3Words):
    """UniRG-CXR."""

    def __init__(self, prompts: str = "unirg-cxr.toml", most_images: int = 1) -> None:
        super().__init__(prompts, most_images)


def check_own_words(wordings: Wordings, name: str) -> None:
    """Raises StopRun where words that a folder brings could not be filled: a table or slot that is none of ours."""
    known = {
        "images", "numbered", "question", "options", "label_list", "target", "text", "context",
    }  # fmt: skip
    if "{prompt}" not in wordings.texts.get(("chat", Language.ENGLISH), ""):
        raise StopRun(
            "prompts", f"{name} has no [chat] with {{prompt}} in it: write the turns of these weights there"
        )
    for key, _ in wordings.texts:
        begins = _TABLE.match(key)
        if key != "chat" and (begins is None or begins[0] not in set(Task)):
            raise StopRun(
                "prompts", f"{name} has words for {key!r}, which is no task: name it by a task, or remove it"
            )
    for (key, _), text in wordings.texts.items():
        strange = sorted(set(_SLOTS.findall(text)) - (known if key != "chat" else {"prompt"}))
        if strange:
            message = (
                f"{name} has the slot {{{strange[0]}}} in {key}, which nothing fills: there are "
                f"{', '.join(sorted(known))}"
            )
            raise StopRun("prompts", message)
