"""Writing text: greedy decoding in batches, on ONNX Runtime for the CPU, or with transformers.

Both sides take embeddings (visual tokens and prompt already joined) and give token ids. In float32 they give
the same ids, token for token; the transformers side is the reference and the path for a GPU.

A row's text does not depend on its neighbours: prompts are read without padding, every row attends to its own
length only, and ONNX Runtime's products with packed weights add up a row in the same order whatever the
batch.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.decoder_graph import DecoderShape

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class WrittenText:
    """Token ids of one text without its end token; ``truncated`` when the limit came before the end."""

    ids: tuple[int, ...]
    truncated: bool


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
    """The graph of ``models.decoder_graph`` on ONNX Runtime's CPU provider; threads may share one.

    Each worker thread writes rows of its own on one core: a step of a small model is too short to share, and
    threads that wait for one another inside a step lose most where other stages want the cores too.
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
        batch: int = 32,
    ) -> None:
        """Open ``graph``.

        ``table`` [vocabulary, width] holds the token embeddings, ``end`` is the end token's id, ``threads`` 0
        takes every core, ``batch`` is the most rows that one thread writes at once.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        source = graph if isinstance(graph, bytes) else str(graph)
        self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self._table, self._shape, self._end, self._batch = np.ascontiguousarray(table), shape, end, batch
        self._workers = threads or len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="language")

    def write(self, prompts: Sequence[Floats], max_new_tokens: int) -> list[WrittenText]:
        """See :class:`LanguageModel`."""
        _check_lengths(prompts, max_new_tokens, self._shape.positions)
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        shares = [order[start :: self._workers] for start in range(min(self._workers, len(order)))]
        batches = [
            share[start : start + self._batch]
            for share in shares
            for start in range(0, len(share), self._batch)
        ]

        def write_rows(rows: list[int]) -> list[WrittenText]:
            batch = _Batch(self._session, self._table, self._shape, self._end)
            return batch.write([prompts[row] for row in rows], max_new_tokens)

        written: dict[int, WrittenText] = {}
        for rows, texts in zip(batches, self._pool.map(write_rows, batches), strict=True):
            written.update(zip(rows, texts, strict=True))
        return [written[row] for row in range(len(prompts))]

    def first_logits(self, prompts: Sequence[Floats]) -> Floats:
        """Logits [n, vocabulary] of the first token after each prompt."""
        batches = (_Batch(self._session, self._table, self._shape, self._end) for _ in prompts)
        return np.concatenate(
            [batch.open([prompt], 1)[1] for batch, prompt in zip(batches, prompts, strict=True)]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()


class _Batch:
    """One batch being written: the cache, the memory that the graph reads and writes in place, and the open rows.

    The open rows are always the first ones. A row that ends is replaced by the last open one, so that a step
    costs what its open rows cost and only one row of the cache is moved.
    """

    def __init__(self, session: Any, table: Floats, shape: DecoderShape, end: int) -> None:
        self.session, self.table, self.shape, self.end = session, table, shape, end

    def write(self, prompts: Sequence[Floats], limit: int) -> list[WrittenText]:
        chosen, _ = self.open(prompts, limit)
        texts: list[list[int]] = [[] for _ in prompts]
        ended = [False] * len(prompts)
        rows = list(range(len(prompts)))
        binding = None
        for step in range(limit):
            before = len(rows)
            for place in reversed(range(before)):
                token = int(chosen[place])
                if token == self.end:
                    ended[rows[place]] = True
                    self._leave(rows, place, chosen)
                else:
                    texts[rows[place]].append(token)
            if not rows or step + 1 == limit:
                break
            count = len(rows)
            if binding is None or count != before:
                binding = self._bind(slice(count), self.embedding[:count], self.zeros[:count], chosen[:count])
            np.take(self.table, chosen[:count], axis=0, out=self.embedding[:count, 0])
            self.lengths += 1
            self.total[...] = self.lengths[:count].max() + 1
            self.session.run_with_iobinding(binding)
        return [WrittenText(tuple(ids), not done) for ids, done in zip(texts, ended, strict=True)]

    def open(self, prompts: Sequence[Floats], limit: int) -> tuple[NDArray[np.int64], Floats]:
        """Read the prompts, sorted by length; gives the first chosen tokens [n] and their logits.

        Prompts of one length are read together and never padded: padding would change the last bits of a row.
        """
        rows, shape = len(prompts), self.shape
        lengths = np.array([len(prompt) for prompt in prompts], np.int32)
        one = (rows, shape.kv_heads, int(lengths.max()) + limit, shape.head_width)
        self.cache = {
            f"{part}_{layer}": np.zeros(one, np.float32)
            for layer in range(shape.layers)
            for part in ("key", "value")
        }
        self.lengths = lengths - 1
        self.total = np.array(0, np.int32)
        self.zeros = np.zeros(rows, np.int64)
        self.embedding = np.empty((rows, 1, shape.width), np.float32)
        self.logits = np.empty((rows, shape.vocabulary), np.float32)
        chosen, last = np.empty(rows, np.int64), self.lengths.astype(np.int64)
        edges = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), rows]
        for start, stop in pairwise(edges):
            part = slice(start, stop)
            self.total[...] = lengths[start]
            joined = np.ascontiguousarray(np.stack(prompts[part]), np.float32)
            self.session.run_with_iobinding(self._bind(part, joined, last[part], chosen[part]))
        return chosen, self.logits

    def _leave(self, rows: list[int], place: int, chosen: NDArray[np.int64]) -> None:
        end = len(rows) - 1
        if place != end:
            rows[place] = rows[end]
            chosen[place] = chosen[end]
            used = int(self.lengths[end]) + 1
            self.lengths[place] = self.lengths[end]
            for memory in self.cache.values():
                memory[place, :, :used] = memory[end, :, :used]
        rows.pop()

    def _bind(
        self, rows: slice, embeddings: Floats, last: NDArray[np.int64], chosen: NDArray[np.int64]
    ) -> Any:
        """Bind ``rows`` of all memory; the graph reads and writes it in place at every run."""
        binding = self.session.io_binding()
        for name, memory in self.cache.items():
            part = memory[rows]
            binding.bind_input(f"past_{name}", "cpu", 0, np.float32, part.shape, part.ctypes.data)
            binding.bind_output(f"present_{name}", "cpu", 0, np.float32, part.shape, part.ctypes.data)
        for name, array in (
            ("embeddings", embeddings),
            ("last", last),
            ("seqlens_k", self.lengths[rows]),
            ("total_length", self.total),
        ):
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, array in (("next", chosen), ("logits", self.logits[rows])):
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        return binding


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
