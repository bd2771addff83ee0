"""Writing text: greedy decoding in batches, on ONNX Runtime for the CPU, or with transformers.

Both sides take embeddings (visual tokens and prompt already joined) and give token ids. In float32 they give
the same ids, token for token; the transformers side is the reference and the path for a GPU.

A row's text does not depend on its neighbours: prompts are read without padding, every row attends to its own
length only, and ONNX Runtime's products with packed weights add up a row in the same order whatever the
batch.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.runners.decoder_graph import DecoderShape
from models.runners.row_batch import RowBatch, TextRow
from models.runners.row_line import RowLine
from models.runners.written_text import WrittenText

Floats = NDArray[np.float32]


class LanguageModel(Protocol):
    """Writes one text per prompt. Instances are context managers."""

    runner: str

    def write(self, prompts: Sequence[Floats], max_new_tokens: int) -> list[WrittenText]:
        """Greedy texts for ``prompts``, each float32 [length, width], in their order.

        Raises ValueError where a prompt with ``max_new_tokens`` does not fit the model's positions.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class OnnxLanguageModel:
    """The graph of ``models.runners.decoder_graph`` on ONNX Runtime's CPU provider; threads may share one.

    Each worker thread writes rows of its own on one core: a step of a small model is too short to share, and
    threads that wait for one another inside a step lose most where other stages want the cores too. Calls made at
    the same time are written together (``row_line``): a step costs its fixed part once for all of its rows.
    """

    runner = "onnxruntime-cpu"

    def __init__(
        self,
        graph: Path | bytes,
        table: Floats,
        shape: DecoderShape,
        end: int,
        *,
        threads: int = 0,
        batch: int = 16,
    ) -> None:
        """Open ``graph``.

        ``table`` [vocabulary, width] holds the token embeddings, ``end`` is the end token's id, ``threads`` 0
        takes every core, ``batch`` is the most rows that one thread writes at once: with more, what a step reads of
        their keys and values no longer stays in a core's caches, which costs what the fixed part saves.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        source = graph if isinstance(graph, bytes) else str(graph)
        self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self._table, self._shape, self._end = np.ascontiguousarray(table), shape, end
        self._line = RowLine(self._open_batch, threads or len(os.sched_getaffinity(0)), batch)

    def write(self, prompts: Sequence[Floats], max_new_tokens: int) -> list[WrittenText]:
        """See :class:`LanguageModel`.

        Raises ValueError also for a prompt of another width, RuntimeError where this is closed, and what ONNX
        Runtime raised in a step with one of these rows.
        """
        _check_lengths(prompts, max_new_tokens, self._shape.positions)
        width = self._shape.width
        if any(prompt.shape[1:] != (width,) for prompt in prompts):
            raise ValueError(f"a prompt is not [length, {width}]")
        rows = [TextRow(prompt, max_new_tokens) for prompt in prompts]
        self._line.write(rows)
        return [WrittenText(tuple(row.ids), truncated=not row.ended) for row in rows]

    def first_logits(self, prompts: Sequence[Floats]) -> Floats:
        """Logits [n, vocabulary] of the first token after each prompt."""
        logits = []
        for prompt in prompts:
            batch = self._open_batch()
            batch.join([TextRow(prompt, 1)])
            logits.append(batch.read_prompts())
        return np.concatenate(logits)

    def _open_batch(self) -> RowBatch:
        return RowBatch(self._session, self._table, self._shape, self._end)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.close()


class TransformersLanguageModel:
    """``generate`` of transformers on a causal language model: the reference, and the path for a GPU."""

    runner = "torch"

    def __init__(self, network: Any, end: int, *, pad: int = 0, batch: int = 32) -> None:
        """Wrap a loaded ``network`` (a transformers causal language model in evaluation mode, on its device)."""
        self._network, self._end, self._pad, self._batch = network, end, pad, batch

    def write(self, prompts: Sequence[Floats], max_new_tokens: int) -> list[WrittenText]:
        """See :class:`LanguageModel`."""
        _check_lengths(prompts, max_new_tokens, self._network.config.max_position_embeddings)
        written: list[WrittenText] = []
        for start in range(0, len(prompts), self._batch):
            written += self._write(prompts[start : start + self._batch], max_new_tokens)
        return written

    def _write(self, prompts: Sequence[Floats], limit: int) -> list[WrittenText]:
        import torch  # a drafting process on ONNX Runtime starts without the seconds that torch takes

        longest = max(len(prompt) for prompt in prompts)
        joined = np.zeros((len(prompts), longest, prompts[0].shape[1]), np.float32)
        mask = np.zeros((len(prompts), longest), np.int64)
        for row, prompt in enumerate(prompts):
            joined[row, longest - len(prompt) :] = prompt
            mask[row, longest - len(prompt) :] = 1
        device = self._network.device
        with torch.inference_mode():
            ids = self._network.generate(
                inputs_embeds=torch.from_numpy(joined).to(device, self._network.dtype),
                attention_mask=torch.from_numpy(mask).to(device),
                max_new_tokens=limit,
                do_sample=False,
                eos_token_id=self._end,
                pad_token_id=self._pad,
            ).tolist()
        return [self._until_end(row) for row in ids]

    def _until_end(self, ids: list[int]) -> WrittenText:
        if self._end in ids:
            return WrittenText(tuple(ids[: ids.index(self._end)]), truncated=False)
        return WrittenText(tuple(ids), truncated=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._network


def _check_lengths(prompts: Sequence[Floats], limit: int, positions: int) -> None:
    longest = max((len(prompt) for prompt in prompts), default=0)
    if limit < 1 or longest + limit > positions:
        raise ValueError(f"a prompt of {longest} and {limit} new tokens do not fit {positions} positions")
    if any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("a prompt is empty")
