"""Where weights are put and in what type: a device, a torch type, and 8 or 4 bits where a site chose them.

8 and 4 bits are bitsandbytes': whole numbers by row, and NF4 blocks. Only the language model's matrices are reduced:
tower, projector, token embeddings and output matrix stay as they are.
"""

import logging
from dataclasses import dataclass
from typing import Any

from models.weight_loading.memory import QUANTISED, Precision, choose_precision

TOWERS = ("vision_tower", "vision_model", "visual", "multi_modal_projector", "mlp1")
"""Parts of tensor names, ours and published, of a tower and its projector."""
KEPT = (*TOWERS, "embed_tokens", "lm_head")
"""Parts of tensor names, ours and published, that are never reduced."""
PATTERNS = [f".*{part}" for part in KEPT]
"""The same as transformers takes them: expressions that match a module's name from its start."""


@dataclass(frozen=True, slots=True)
class Placing:
    """``device`` is "cpu" or "cuda"; ``dtype`` the torch type of what is not reduced, None for the stored one."""

    device: str
    dtype: Any
    precision: Precision

    @property
    def reduced(self) -> bool:
        """Whether the language model's matrices are held in 8 or 4 bits."""
        return self.precision in QUANTISED

    @property
    def parts(self) -> dict[str, str]:
        """What of it shapes an answer, for the recipe."""
        kind = "stored" if self.dtype is None else str(self.dtype).removeprefix("torch.")
        return {"precision": kind} | ({"reduced": self.precision.value} if self.reduced else {})

    @property
    def arguments(self) -> dict[str, Any]:
        """What ``from_pretrained`` is given."""
        given: dict[str, Any] = {"dtype": self.dtype or "auto"}
        if self.reduced:
            given |= {"quantization_config": self.bits(), "device_map": {"": self.device}}
        return given

    def bits(self) -> Any:
        """The reduction, as transformers takes it."""
        import torch
        import transformers

        # it says of every matrix that its input is converted
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        configure: Any = transformers.BitsAndBytesConfig
        if self.precision is Precision.INT8:
            return configure(load_in_8bit=True, llm_int8_skip_modules=PATTERNS)
        return configure(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.float32 if self.device == "cpu" else torch.bfloat16,
            llm_int8_skip_modules=PATTERNS,
        )

    def put(self, network: Any) -> Any:
        """``network`` on the device; a reduced one is where it was read to."""
        return network if self.reduced else network.to(self.device)


def choose_placing(precision: str, *, stored: bool = False) -> Placing:
    """The placing for ``model.precision`` on this machine.

    "auto" is float32 on the CPU; on a GPU it is bfloat16, or with ``stored`` the type that the weights are stored in.
    8 and 4 bits leave the rest in that same type. Raises ConfigurationError for what cannot be had.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    chosen = choose_precision(precision, on_gpu=on_gpu)
    dtype: Any = None if stored and precision != Precision.BF16 else torch.bfloat16
    if chosen is Precision.FP32 or (chosen in QUANTISED and not on_gpu):
        dtype = torch.float32
    return Placing("cuda" if on_gpu else "cpu", dtype, chosen)
