"""What a model takes in memory, what is free, and what would fit where it does not.

Weights: the number of parameters times the bytes of the precision. Beside them a text being written takes its keys and
values (two numbers per layer, key-value head, position and head width) and some working memory, which is a rough
allowance here: the aim is a sentence before the machine runs out, not an exact sum.
"""

import ctypes
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from pipeline.errors import ConfigurationError, StopRun

GIB = 1 << 30
WORKING_SHARE = 0.1
"""Allowance for working memory, libraries and fragmentation, as a share of the weights."""
WORKING_LEAST = GIB // 4


class Precision(StrEnum):
    """How weights are held in memory."""

    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"


RUNNER_COPIES = {"openvino-cpu": 2}
"""Copies of a tower's weights in 32 bits that a runner holds beside the one that is counted: measured on a ViT-S, of 86
MB, which OpenVINO held in 240 where ONNX Runtime took 97 (decision 22)."""
BYTES_PER_PARAMETER = {Precision.FP32: 4.0, Precision.BF16: 2.0, Precision.INT8: 1.0, Precision.INT4: 0.5}
QUANTISED = (Precision.INT8, Precision.INT4)
NAMES = {
    Precision.FP32: "32-bit",
    Precision.BF16: "16-bit (bf16)",
    Precision.INT8: "8-bit (int8)",
    Precision.INT4: "4-bit (int4)",
}


def weights_gib(parameters: float, precision: Precision) -> float:
    """GiB of ``parameters`` (in billions) at ``precision``: arithmetic, no cache and no activations."""
    return parameters * 1e9 * BYTES_PER_PARAMETER[precision] / GIB


@dataclass(frozen=True, slots=True)
class DecoderSize:
    """What the cache of a language model depends on."""

    layers: int = 0
    kv_heads: int = 0
    head_width: int = 0
    positions: int = 0

    def cache_bytes(self, batch: int, tokens: int) -> int:
        """Keys and values of ``batch`` texts of ``tokens`` positions, in 16 bits."""
        return 2 * 2 * self.layers * self.kv_heads * self.head_width * batch * tokens


@dataclass(frozen=True, slots=True)
class FreeMemory:
    """Free bytes of the device that a model would be loaded on: "cpu" or "cuda"."""

    device: str
    bytes: int

    @property
    def on_gpu(self) -> bool:
        """Whether it is a GPU's."""
        return self.device == "cuda"


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a model takes: parameters (a count) at a precision, and the cache of a batch.

    ``kept`` of the parameters take ``kept_bytes`` each where the others are held in 8 or 4 bits. ``beside`` are bytes
    that the runner of the tower takes for itself.
    """

    parameters: int
    precision: Precision
    decoder: DecoderSize = DecoderSize()
    batch: int = 1
    tokens: int = 2048
    kept: int = 0
    kept_bytes: int = 2
    beside: int = 0

    @property
    def weights(self) -> int:
        """Bytes of the weights."""
        kept = self.kept if self.precision in QUANTISED else 0
        return int((self.parameters - kept) * BYTES_PER_PARAMETER[self.precision]) + kept * self.kept_bytes

    @property
    def cache(self) -> int:
        """Bytes of the keys and values; half as many in 16 bits as in 32."""
        held = self.decoder.cache_bytes(self.batch, self.tokens)
        return held * 2 if self.precision is Precision.FP32 else held

    @property
    def total(self) -> int:
        """Bytes of all."""
        working = max(int(self.weights * WORKING_SHARE), WORKING_LEAST)
        return self.weights + self.cache + working + self.beside


def free_memory() -> FreeMemory:
    """What is free on the first GPU, or in main memory where torch has none."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return FreeMemory("cuda", int(torch.cuda.mem_get_info()[0]))
    return FreeMemory("cpu", int(psutil.virtual_memory().available))


def choose_precision(setting: str, *, on_gpu: bool) -> Precision:
    """The precision of ``model.precision``; "auto" is fp32 on a CPU and bf16 on a GPU.

    Raises ConfigurationError for 8 and 4 bits where they cannot be had.
    """
    if setting == "auto":
        return Precision.BF16 if on_gpu else Precision.FP32
    try:
        chosen = Precision(setting)
    except ValueError:
        known = ", ".join(["auto", *Precision])
        raise ConfigurationError(
            "precision", f"model.precision is {setting!r}; it is one of {known}"
        ) from None
    if chosen in QUANTISED and importlib.util.find_spec("bitsandbytes") is None:
        message = (
            f"{NAMES[chosen]} weights need the package bitsandbytes: pip install 'firstread[quantised]', or set "
            "model.precision to bf16"
        )
        raise ConfigurationError("precision", message)
    return chosen


def decoder_size(config: Mapping[str, Any]) -> DecoderSize:
    """The decoder of a ``config.json``; zeros where it does not say."""
    inner = config.get("text_config") or config.get("llm_config")
    text: Mapping[str, Any] = inner if isinstance(inner, Mapping) else config
    heads = _number(text, "num_attention_heads", "n_head")
    width = _number(text, "head_dim") or (_number(text, "hidden_size", "n_embd") // heads if heads else 0)
    return DecoderSize(
        _number(text, "num_hidden_layers", "n_layer"),
        _number(text, "num_key_value_heads") or heads,
        width,
        _number(text, "max_position_embeddings"),
    )


def check_memory(name: str, need: Need, free: FreeMemory) -> None:
    """Raises ConfigurationError, saying what would fit, where ``need`` is more than what is free."""
    if need.total > free.bytes:
        where = "the GPU's memory" if free.on_gpu else "main memory"
        message = (
            f"{name} needs about {need.total / GIB:.1f} GiB of {where} in {NAMES[need.precision]} "
            f"({need.parameters / 1e9:.3g} billion parameters) and {free.bytes / GIB:.1f} GiB are free: "
            f"{what_fits(need, free)}"
        )
        raise ConfigurationError("memory", message)


def what_fits(need: Need, free: FreeMemory) -> str:
    """Advice in words: the precisions and batches that would fit in what is free, or a server."""
    advice = []
    order = list(Precision)
    if need.beside and replace(need, beside=0).total <= free.bytes:
        advice.append(
            f"without model.require_runner it would fit ({replace(need, beside=0).total / GIB:.1f} GiB)"
        )
    for precision in order[order.index(need.precision) + 1 :] if need.precision in order else []:
        smaller = replace(need, precision=precision)
        if smaller.total <= free.bytes:
            advice.append(f'model.precision = "{precision}" would fit ({smaller.total / GIB:.1f} GiB)')
            break
    if need.batch > 1:
        for batch in (need.batch // 2, need.batch // 4, 1):
            smaller = replace(need, batch=max(batch, 1))
            if smaller.total <= free.bytes:
                advice.append(
                    f"model.generate_batch = {max(batch, 1)} would fit ({smaller.total / GIB:.1f} GiB)"
                )
                break
    if not advice:
        least = replace(need, precision=order[-1], batch=1)
        advice.append(
            f"nothing smaller fits here (the least is {least.total / GIB:.1f} GiB in {NAMES[order[-1]]})"
        )
    advice.append("or let a server with more memory answer (endpoint)")
    return "; ".join(advice)


@contextmanager
def explaining_out_of_memory(name: str, need: Need, free: FreeMemory) -> Iterator[None]:
    """Turn an allocation that failed inside the block into a StopRun that says what would fit.

    ``need`` was estimated to fit and did not: the advice is computed as if three quarters of what was needed, or of
    what was free where that is less, could be had.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        less = FreeMemory(free.device, min(free.bytes, need.total) * 3 // 4)
        message = f"{name} ran out of memory: {what_fits(need, less)}"
        raise StopRun("memory", message) from None


def give_back_memory() -> None:
    """Return freed memory to the system: glibc keeps what threads allocated, and the next ones allocate their own."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: torch raises a RuntimeError, of a class of its own on a GPU."""
    if isinstance(error, MemoryError):
        return True
    words = str(error).lower()
    return (
        type(error).__name__ == "OutOfMemoryError"
        or "out of memory" in words
        or "can't allocate memory" in words
    )


def _number(config: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0
