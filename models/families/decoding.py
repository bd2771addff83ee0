"""What a checkpoint's own ``generation_config.json`` says of decoding, beside sampling.

Texts are greedy whatever it says of sampling, since no recipe repeats a sampled text. A repetition penalty is as
repeatable as greedy decoding itself, and the authors' figures were made with it: it is applied. What would also make
other texts, and is not done here, is refused and never dropped unsaid.
"""

import math
from pathlib import Path
from typing import Any

from models.weight_loading.tensors import GENERATION_FILE
from models.weight_loading.tokenizer_check import read_json
from pipeline.errors import ConfigurationError, StopRun

NOT_DONE = {
    "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0, "min_length": 0, "min_new_tokens": 0, "num_beams": 1,
    "encoder_repetition_penalty": 1.0, "bad_words_ids": None, "suppress_tokens": None, "begin_suppress_tokens": None,
    "sequence_bias": None, "forced_bos_token_id": None, "forced_eos_token_id": None,
    "exponential_decay_length_penalty": None,
}  # fmt: skip
"""Settings that change a greedy text, and the value of each that changes none."""


def read_penalty(folder: Path) -> float:
    """The repetition penalty of a folder, 1.0 where it names none.

    Raises ConfigurationError for a setting of ``NOT_DONE``, StopRun for a penalty that is no positive number.
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
    penalty = stored.get("repetition_penalty")
    if penalty is None:
        return 1.0
    if isinstance(penalty, bool) or not isinstance(penalty, int | float) or not 0 < penalty < math.inf:
        raise StopRun(
            "weights", f"{GENERATION_FILE} has no positive number as repetition_penalty: copy it again"
        )
    return float(penalty)
