"""LLaVA-Med v1.5's words: Mistral's instruction marks, the image before the question; it writes no boxes."""

from collections.abc import Sequence

from models.families.native.dialect import (
    ParsedAnswer,
    check_request,
    fill_slots,
    find_wording,
    list_names,
    read_labels,
)
from models.family import Request, SeenImage, Task
from models.prompts import read_wordings
from pipeline.report import Language


class LlavaMedDialect:
    """See ``models.families.native.dialect.Dialect``."""

    most_images = 1
    marks = False
    reasons = False
    repetition_penalty: float | None = None
    system, blanks, greedy, most_tokens = "", True, True, 1024
    ends: tuple[str, ...] = ("</s>",)

    def __init__(self, prompts: str = "llava-med.toml") -> None:
        self._wordings = read_wordings(prompts)
        self.digest = self._wordings.digest

    def frame(self, prompt: str) -> str:
        """See Dialect."""
        return fill_slots(self._wordings.texts["chat", Language.ENGLISH], {"prompt": prompt})

    def word(self, request: Request, seen: Sequence[SeenImage], modality: str) -> str:
        """See Dialect."""
        check_request(request)
        key = "vqa-options" if request.task is Task.VQA and request.options else ""
        values = {
            "question": request.question.strip(),
            "options": "\n".join(request.options),
            "label_list": list_names(request.labels),
        }
        prompt = fill_slots(find_wording(self._wordings, request, key), values)
        return self.frame(prompt)

    def read(self, text: str, request: Request, seen: Sequence[SeenImage]) -> ParsedAnswer:
        """See Dialect."""
        return ParsedAnswer(text.strip(), labels=read_labels(text, request))
