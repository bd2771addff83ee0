"""The words and answers of the InternVL families, in the conversation that their folder names.

Sources: OpenGVLab/InternVL ``conversation.py``; UbiquantAI/Fleming-VL README; Lingshu-I by its authors' MedEvalKit
(``models/InternVL``, ``utils/question_formats.py``). Neither family documents boxes.
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from models.families.native.qwen_words import LingshuWords
from models.family import TEXT_TASKS, Request, SeenImage, Task
from models.prompts import read_wordings
from pipeline.errors import ConfigurationError

_FIRST = "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
_LATER = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """One of the conversations that InternVL was trained on: its system line and what ends a turn."""

    name: str
    system: str
    end: str

    def frame(self, prompt: str) -> str:
        """The whole prompt whose words are ``prompt``."""
        return f"<|im_start|>system\n{self.system}{self.end}<|im_start|>user\n{prompt}{self.end}<|im_start|>assistant\n"


CONVERSATIONS = {
    one.name: one
    for one in (
        ChatFrame("Hermes-2", _FIRST, "<|im_end|>"),
        ChatFrame("internlm2-chat", _FIRST, "<|im_end|>"),
        ChatFrame("internvl2_5", _LATER, "<|im_end|>\n"),
    )
}
"""By the ``template`` of config.json."""


def conversation_of(name: str, system: Any = None) -> ChatFrame:
    """The conversation ``name``, with the system line of config.json where it sets one.

    Raises ConfigurationError for one that is not known here.
    """
    if name not in CONVERSATIONS:
        known = ", ".join(CONVERSATIONS)
        message = (
            f"config.json names the conversation {name!r}; known are {known}: bring the folder as published"
        )
        raise ConfigurationError("weights-folder", message)
    found = CONVERSATIONS[name]
    return found if not isinstance(system, str) else ChatFrame(name, system, found.end)


class FlemingWords:
    """Fleming-VL: a question is reasoned about between marks, the answer stands between its own.

    See ``models.families.native.dialect.Dialect``.
    """

    marks, reasons = False, False
    repetition_penalty: float | None = None
    blanks, greedy, most_tokens = False, True, 1024
    ends: tuple[str, ...] = ("<|im_end|>", "<|endoftext|>")

    def __init__(
        self,
        prompts: str = "fleming-vl.toml",
        most_images: int = 1,
        conversation: ChatFrame = CONVERSATIONS["internvl2_5"],
    ) -> None:
        self.wordings, self._conversation = read_wordings(prompts), conversation
        self.digest, self.most_images = self.wordings.digest, most_images
        self.system = conversation.system

    def frame(self, prompt: str) -> str:
        """See Dialect."""
        return self._conversation.frame(prompt)

    def word(self, request: Request, seen: Sequence[SeenImage], modality: str) -> str:
        """See Dialect."""
        check_request(request)
        key = "vqa-options" if request.task is Task.VQA and request.options else ""
        letters = zip(string.ascii_uppercase, request.options, strict=False)
        values = {
            "images": f"{IMAGE_MARK}\n" * len(seen) if request.task not in TEXT_TASKS else "",
            "question": "\n\n".join(
                part for part in (request.text.strip(), request.question.strip()) if part
            ),
            "options": " ".join(f"{letter}. {option}" for letter, option in letters),
        }
        return self.frame(fill_slots(find_wording(self.wordings, request, key), values))

    def read(self, text: str, request: Request, seen: Sequence[SeenImage]) -> ParsedAnswer:
        """See Dialect. What it thought was parted from it before (``models.families.reasoning``)."""
        return ParsedAnswer(text.strip(), labels=read_labels(text, request))


class LingshuIWords(LingshuWords):
    """Lingshu-I: Lingshu's own words, its images each on a line, under an empty system line.

    Its system line is that of MedEvalKit's conversation, whatever config.json names.
    """

    system = ""

    def __init__(
        self, prompts: str = "lingshu-i.toml", most_images: int = 6, conversation: ChatFrame | None = None
    ) -> None:
        super().__init__(prompts, most_images)
        self._conversation = ChatFrame("internvl2_5", "", "<|im_end|>\n")

    def frame(self, prompt: str) -> str:
        """See Dialect."""
        return self._conversation.frame(prompt)

    def word(self, request: Request, seen: Sequence[SeenImage], modality: str) -> str:
        """See Dialect."""
        check_request(request)
        seeing = request.task not in TEXT_TASKS
        values = {
            "images": f"{IMAGE_MARK}\n" * len(seen) if seeing else "",
            "numbered": "".join(f"<image_{number}>: {IMAGE_MARK}\n" for number in range(1, len(seen) + 1)),
            "question": self.question(request),
            "options": self.number_options(request),
            "label_list": list_names(request.labels, request.language),
        }
        template = find_wording(self.wordings, request, self.variant(request, seen, modality))
        return self.frame(fill_slots(template, values))


WORDS: Mapping[str, type[FlemingWords] | type[LingshuIWords]] = {
    "fleming-vl.toml": FlemingWords,
    "lingshu-i.toml": LingshuIWords,
}
"""The words that go with each prompt file of the catalogue."""
