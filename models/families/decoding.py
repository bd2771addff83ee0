"""What a checkpoint's own ``generation_config.json`` says of decoding.

Texts are greedy, since no recipe repeats a sampled text. A repetition penalty, further end tokens and bounds on the new
tokens are as repeatable as greedy decoding itself, and the authors' figures were made with them: they are applied. What
would also make other texts, and is not done here, is refused and never dropped unsaid. So is sampling, unless the
authors' own code decodes greedily whatever the file says, or the file samples from the likeliest token alone.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.weight_loading.tensors import GENERATION_FILE
from models.weight_loading.tokenizer_check import read_json
from pipeline.errors import ConfigurationError, StopRun

NOT_DONE = {
    "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0, "min_length": 0, "num_beams": 1,
    "encoder_repetition_penalty": 1.0, "bad_words_ids": None, "suppress_tokens": None, "begin_suppress_tokens": None,
    "sequence_bias": None, "forced_bos_token_id": None, "forced_eos_token_id": None, "stop_strings": None,
    "exponential_decay_length_penalty": None, "guidance_scale": 1.0, "penalty_alpha": 0.0, "dola_layers": None,
}  # fmt: skip
"""Settings that change a greedy text, and the value of each that changes none."""
SMALLEST = {"temperature": 1e-3, "top_p": 1e-2, "top_k": 1}
"""At or under one of these a sampled text is the greedy one: published files say so (Qwen2-VL, Qwen2.5-VL)."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """``ends`` are token ids that end a text beside the family's own; ``most`` and ``least`` bound the new tokens.

    ``most`` 0 is the family's own limit. ``samples`` says how the file would have sampled, "" where it would not.
    """

    penalty: float = 1.0
    ends: tuple[int, ...] = ()
    most: int = 0
    least: int = 0
    samples: str = ""

    @property
    def words(self) -> str:
        """What of it shapes a text, for the recipe."""
        bounds = [f"at least {self.least} tokens"] if self.least else []
        bounds += [f"at most {self.most} tokens"] if self.most else []
        return ", ".join((f"greedy, repetition penalty {self.penalty:g}", *bounds))

    @property
    def told(self) -> str:
        """All of it, for a person."""
        ends = f"; ends on token {', '.join(map(str, self.ends))} too" if self.ends else ""
        samples = f"; the file would sample ({self.samples}), this family does not" if self.samples else ""
        return f"{self.words}{ends}{samples}"

    def room(self, limit: int) -> int:
        """New tokens at most where the family's own limit is ``limit``."""
        return min(limit, self.most) if self.most else limit


def read_decoding(folder: Path, *, greedy: bool = True) -> Decoding:
    """What the ``generation_config.json`` of a folder asks for; ``greedy``: its authors decode greedily all the same.

    Raises ConfigurationError for a setting of ``NOT_DONE`` and for sampling, StopRun for a value that cannot be.
    """
    stored = read_json(folder / GENERATION_FILE)
    for name, idle in NOT_DONE.items():
        value: Any = stored.get(name)
        if value not in (None, idle, []):
            message = (
                f"{GENERATION_FILE} sets {name} = {value}, which this family does not do, so its texts would be others "
                "than its authors': serve it behind the endpoint adapter, or take the setting out knowingly"
            )
            raise ConfigurationError("generation-config", message)
    samples = _sampling(stored)
    if samples and not greedy:
        message = (
            f"{GENERATION_FILE} samples ({samples}), and a sampled draft cannot be made again: set do_sample to false "
            "in it knowingly (texts are then greedy), or serve the model behind the endpoint adapter"
        )
        raise ConfigurationError("generation-config", message)
    ends: Any = stored.get("eos_token_id")
    return Decoding(
        _penalty(stored),
        tuple(_token(one) for one in (ends if isinstance(ends, list) else [] if ends is None else [ends])),
        _count(stored, "max_new_tokens"),
        _count(stored, "min_new_tokens"),
        samples,
    )


def _sampling(stored: Mapping[str, Any]) -> str:
    """The sampling that a file asks for in words, "" where its text is the greedy one."""
    if stored.get("do_sample") is not True:
        return ""
    held = {name: stored[name] for name in SMALLEST if isinstance(stored.get(name), int | float)}
    if any(value <= SMALLEST[name] and value > 0 for name, value in held.items()):
        return ""
    return ", ".join(("do_sample", *(f"{name} {value:g}" for name, value in held.items())))


def _penalty(stored: Mapping[str, Any]) -> float:
    penalty = stored.get("repetition_penalty")
    if penalty is None:
        return 1.0
    if isinstance(penalty, bool) or not isinstance(penalty, int | float) or not 0 < penalty < math.inf:
        raise StopRun(
            "weights", f"{GENERATION_FILE} has no positive number as repetition_penalty: copy it again"
        )
    return float(penalty)


def _token(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise StopRun("weights", f"{GENERATION_FILE} names an eos_token_id that is no token: copy it again")
    return value


def _count(stored: Mapping[str, Any], name: str) -> int:
    value = stored.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise StopRun("weights", f"{GENERATION_FILE} has no count of tokens as {name}: copy it again")
    return value
