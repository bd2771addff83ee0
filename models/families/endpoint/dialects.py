"""The words of families that also run here, spoken to a server: their own prompt, without the frame of the chat.

A server puts the frame (turn marks, start token) around the turns itself; what stands between the marks and the places
of images is the family's (``models.families.native``), and so is the reading of its answers.
"""

import re
from collections.abc import Mapping, Sequence
from importlib import import_module

from models.families.endpoint.pictures import BLACK
from models.families.endpoint.template import IMAGE_MARK
from models.families.native.dialect import Dialect
from models.family import Answer, Request, SeenImage, Task
from pipeline.errors import ConfigurationError, StopRun

DIALECTS: Mapping[str, str] = {
    "medgemma-4b-it": "models.families.native.medgemma:MedGemmaDialect",
    "medgemma-27b-it": "models.families.native.medgemma:MedGemmaDialect",
    "medgemma-1.5-4b-it": "models.families.native.medgemma:LaterMedGemmaDialect",
    "llava-med": "models.families.native.llava_med:LlavaMedDialect",
    "medrega": "models.families.native.medrega:MedRegaDialect",
    "umit": "models.families.native.qwen_words:UmitWords",
    "lingshu-7b": "models.families.native.qwen_words:LingshuWords",
    "lingshu-32b": "models.families.native.qwen_words:LingshuWords",
    "chexone": "models.families.native.qwen_words:CheXOneWords",
    "radvlm": "models.families.native.radvlm:RadVlmWords",
    "lingshu-i-8b": "models.families.native.internvl_words:LingshuIWords",
    "fleming-vl-8b": "models.families.native.internvl_words:FlemingWords",
    "fleming-vl-38b": "models.families.native.internvl_words:FlemingWords",
    "nv-reason-cxr": "models.families.native.nv_reason:NvReasonWords",
    "unirg-cxr": "models.families.native.qwen3_words:UniRgWords",
    "qwen3-vl": "models.families.native.qwen3_words:Qwen3Words",
    "qwen3-vl-media": "models.families.native.qwen3_words:Qwen3Words",
}
"""Module and class of the dialect of each catalogue id that a server can speak."""

UNREADABLE = {"lingshu-7b": frozenset({Task.DETECT}), "lingshu-32b": frozenset({Task.DETECT})}
"""Tasks that a server cannot be asked: Lingshu's boxes are in pixels of an image that the server resized."""
MEDGEMMA_PADDING = {Task.DETECT: BLACK}
"""MedGemma reads the image padded to a square where it says a place."""
LLAVA_MED_PADDING = dict.fromkeys((Task.REPORT, Task.VQA, Task.CLASSIFY), (122, 116, 104))
"""LLaVA-Med was trained on squares of CLIP's mean colour; a server of its port cuts off the ends of what is none."""

_FRAMES = (
    re.compile(
        r"\A(?:<\|im_start\|>system\n(?P<system>.*?)<\|im_end\|>\n?)?<\|im_start\|>user\n(?P<user>.*)<\|im_end\|>\n?"
        r"<\|im_start\|>assistant\n\Z",
        re.S,
    ),
    # Gemma has no system turn: its template puts the system's words before the user's, as the dialect does
    re.compile(r"\A<bos><start_of_turn>user\n(?P<user>.*)<end_of_turn>\n<start_of_turn>model\n\Z", re.S),
    re.compile(r"\A(?:<s>)?\[INST\] (?P<user>.*) \[/INST\]\Z", re.S),
)


def turns_of(prompt: str) -> tuple[str, list[str]]:
    """The system's words ("" for none) and the user's texts between the places of images, of one framed prompt.

    Raises StopRun for a frame that is not known here: guessing would put marks into the words.
    """
    for frame in _FRAMES:
        found = frame.match(prompt)
        if found:
            parts = found.groupdict()
            return parts.get("system") or "", parts["user"].split(IMAGE_MARK)
    raise StopRun("prompts", "the family's chat has a frame that the endpoint adapter does not know")


class DialectWording:
    """A family's dialect as ``models.families.endpoint.wording.Speaking``."""

    frontal = lateral = prior = False

    def __init__(
        self, dialect: Dialect, *, padding: Mapping[Task, tuple[int, int, int]], lacks: frozenset[Task]
    ) -> None:
        self._dialect, self._padding, self.digest, self.lacks = dialect, padding, dialect.digest, lacks

    def ask(
        self, request: Request, roles: Sequence[str], seen: Sequence[SeenImage], modality: str
    ) -> tuple[str, list[str]]:
        """See ``Speaking``."""
        first = getattr(self._dialect, "first_pass", None)
        if first is not None and first(request) is not None:
            message = (
                "Regional CoT asks twice, which needs the weights here and not an endpoint: give no target"
            )
            raise ConfigurationError("unsupported-task", message)
        return turns_of(self._dialect.word(request, seen, modality))

    def read(self, text: str, request: Request, seen: Sequence[SeenImage]) -> Answer:
        """See ``Speaking``."""
        reading = self._dialect.read(text, request, seen)
        return Answer(
            reading.text,
            truncated=False,
            labels=reading.labels,
            places=reading.places,
            reasoning=reading.reasoning,
        )

    def padding(self, task: Task) -> tuple[int, int, int] | None:
        """See ``Speaking``."""
        return self._padding.get(task)

    def alone(self, task: Task) -> bool:
        """See ``Speaking``: never; the dialect says how many images it reads."""
        return False


def dialect_wording(model_id: str) -> DialectWording | None:
    """The wording of a family that also runs here, None for any other."""
    named = DIALECTS.get(model_id)
    if named is None:
        return None
    module, _, name = named.partition(":")
    dialect: Dialect = getattr(import_module(module), name)()
    lacks = UNREADABLE.get(model_id, frozenset())
    padding = LLAVA_MED_PADDING if model_id == "llava-med" else {}
    padding = MEDGEMMA_PADDING if model_id.startswith("medgemma") else padding
    return DialectWording(dialect, padding=padding, lacks=lacks)
