"""How each text family is addressed: its chat template, its decoding and its limits.

Sources: the chat template of WiNGPT2-Llama-3-8B-Chat (that of the Gemma 2 model was not found: its tokenizer has to
bring it); MediaBrain-SJTU/MING ``ming/conversations.py`` and ``ming/serve/cli.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipeline.errors import ConfigurationError

QUESTION = "{question}"


@dataclass(frozen=True, slots=True)
class TextRecipe:
    """One family's way of being asked.

    ``template`` is the literal text around ``{question}``; "" takes the chat template that the tokenizer brings.
    ``own_first`` takes that template where there is one and the literal text only without it. ``starts`` says that the
    tokenizer's start token goes before the literal text, where it puts one. ``system`` is the system line of a
    tokenizer's template, "" its own default. ``ends`` are token texts that end an answer beside the model's own.
    ``positions`` is used where the model's configuration names no limit. ``repetition_penalty`` None is the
    checkpoint's own. ``expert_adapter`` says that the folder is a base model with MING-MOE's mixture of LoRA experts.
    ``greedy`` False refuses a checkpoint that samples: nothing is known of how its authors ask it. ``blanks`` allows a
    tokenizer that puts a blank in front of a text.
    """

    template: str = ""
    own_first: bool = False
    starts: bool = True
    system: str = ""
    ends: tuple[str, ...] = ()
    repetition_penalty: float | None = None
    max_new_tokens: int = 512
    positions: int = 2048
    expert_adapter: bool = False
    greedy: bool = True
    blanks: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for a template that has no place for the question."""
        if self.template and self.template.count(QUESTION) != 1:
            raise ValueError(f"a template holds {QUESTION} once")

    def literal(self, chat_template: str | None) -> str:
        """The literal text to ask with, "" where ``chat_template``, the tokenizer's, is asked with."""
        return "" if self.own_first and chat_template else self.template

    def turns(self, question: str) -> list[dict[str, str]]:
        """The turns that a chat template is given to ask ``question``."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": question}]


_WINGPT2 = TextRecipe(own_first=True, repetition_penalty=1.1, max_new_tokens=1024)
_WINGPT2_LLAMA = replace(
    _WINGPT2,
    template=f"User：{QUESTION}<|end_of_text|>\n Assistant：",
    starts=False,
    ends=("<|end_of_text|>",),
)
"""Its 7B and 14B, on the first Qwen, end on <|endoftext|> and have plain colons: a worker's (docs/models.md)."""
_MING_QWEN = TextRecipe(
    template="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n",
    ends=("<|im_end|>",),
    max_new_tokens=1024,
)

RECIPES: Mapping[str, TextRecipe] = {
    "text-llm": TextRecipe(greedy=False, blanks=True),
    "smollm2-135m": TextRecipe(),
    "medgemma-27b-text-it": TextRecipe(),
    "wingpt2-llama-3-8b": _WINGPT2_LLAMA,
    "wingpt2-gemma-2-9b": _WINGPT2,
    "ming-7b": TextRecipe(
        template="A chat between a curious user and an artificial intelligence assistant. The assistant gives "
        f"helpful, detailed, and polite answers to the user's questions. USER: {QUESTION} ASSISTANT:",
        ends=("</s>",),
        max_new_tokens=512,
    ),
    "ming-1.8b": _MING_QWEN,
    "ming-moe": TextRecipe(
        template=_MING_QWEN.template, ends=_MING_QWEN.ends, max_new_tokens=1024, expert_adapter=True
    ),
}
"""By catalogue id. Decoding is greedy for all: MING's own command samples, which no recipe could repeat."""


def recipe_of(model_id: str) -> TextRecipe:
    """The recipe of a catalogue id. Raises ConfigurationError for one that is not a text family."""
    try:
        return RECIPES[model_id]
    except KeyError:
        known = ", ".join(RECIPES)
        raise ConfigurationError(
            "unknown-model", f"{model_id} has no text recipe; the text families are {known}"
        ) from None
