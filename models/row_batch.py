"""Rows of text that one worker writes together on ONNX Runtime: their cache, and the memory of a step."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.decoder_graph import DecoderShape

Floats = NDArray[np.float32]
LEAST_SHARED = 2
"""Open rows of which half are handed over; fewer cost a second core more than they save."""


class RowBatch:
    """Rows being written: the cache, the memory that the graph reads and writes in place, and the open rows.

    The open rows are always the first ones. A row that ends is replaced by the last open one, so that a step
    costs what its open rows cost and only one row of the cache is moved.
    """

    def __init__(
        self,
        session: Any,
        table: Floats,
        shape: DecoderShape,
        end: int,
        names: Sequence[int],
        prompts: Sequence[Floats],
        limit: int,
    ) -> None:
        """``prompts``, each [length, width] and sorted by length, with a name each; at most ``limit`` tokens a row."""
        self._session, self._table, self._shape, self._end = session, table, shape, end
        self._names, self._prompts, self._limit = list(names), prompts, limit
        self._texts: list[list[int]] = [[] for _ in names]
        self._step = 0

    def write(
        self, claim: Callable[[], bool], start: Callable[["RowBatch"], None]
    ) -> Iterator[tuple[int, list[int], bool]]:
        """Name, token ids and whether the end token came, of each row when it is done.

        Between two steps, where ``claim`` gives a free worker, half of the open rows go to ``start``.
        """
        if self._step == 0:
            self.read_prompts()
            yield from self._take_tokens()
        binding, bound = None, 0
        while self._names:
            if len(self._names) >= LEAST_SHARED and claim():
                start(self._halve())
            count = len(self._names)
            if count != bound:
                rows, bound = slice(count), count
                binding = self._bind(rows, self._embedding[rows], self._zeros[rows], self._chosen[rows])
            np.take(self._table, self._chosen[:count], axis=0, out=self._embedding[:count, 0])
            self._lengths += 1
            self._total[...] = self._lengths[:count].max() + 1
            self._session.run_with_iobinding(binding)
            yield from self._take_tokens()

    def _take_tokens(self) -> Iterator[tuple[int, list[int], bool]]:
        """Append the chosen tokens; rows that end, or are as long as they may be, leave."""
        self._step += 1
        for place in reversed(range(len(self._names))):
            token, text = int(self._chosen[place]), self._texts[place]
            ended = token == self._end
            if not ended:
                text.append(token)
            if ended or self._step == self._limit:
                yield self._names[place], text, ended
                self._leave(place)

    def read_prompts(self) -> Floats:
        """Read the prompts and choose the first tokens; gives their logits [n, vocabulary].

        Prompts of one length are read together and never padded: padding would change the last bits of a row.
        """
        rows, shape = len(self._prompts), self._shape
        lengths = np.array([len(prompt) for prompt in self._prompts], np.int32)
        one = (rows, shape.kv_heads, int(lengths.max()) + self._limit, shape.head_width)
        names = [f"{part}_{layer}" for layer in range(shape.layers) for part in ("key", "value")]
        self._cache = {name: np.zeros(one, np.float32) for name in names}
        self._lengths = lengths - 1
        self._chosen = np.empty(rows, np.int64)
        self._make_room(rows)
        last = self._lengths.astype(np.int64)
        for start, stop in pairwise([0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), rows]):
            part = slice(start, stop)
            self._total[...] = lengths[start]
            joined = np.ascontiguousarray(np.stack(self._prompts[part]), np.float32)
            self._session.run_with_iobinding(self._bind(part, joined, last[part], self._chosen[part]))
        self._prompts = ()
        return self._logits

    def _make_room(self, rows: int) -> None:
        """The memory of a step of ``rows``."""
        self._total = np.array(0, np.int32)
        self._zeros = np.zeros(rows, np.int64)
        self._embedding = np.empty((rows, 1, self._shape.width), np.float32)
        self._logits = np.empty((rows, self._shape.vocabulary), np.float32)

    def _halve(self) -> Self:
        """Another batch with the later half of the open rows, which leave this one."""
        count = len(self._names)
        keep = (count + 1) // 2
        gone = slice(keep, count)
        other = type(self)(
            self._session, self._table, self._shape, self._end, self._names[gone], (), self._limit
        )
        other._texts, other._step = self._texts[gone], self._step
        other._cache = {name: memory[gone].copy() for name, memory in self._cache.items()}
        other._lengths, other._chosen = self._lengths[gone].copy(), self._chosen[gone].copy()
        other._make_room(count - keep)
        del self._names[keep:], self._texts[keep:]
        return other

    def _leave(self, place: int) -> None:
        last = len(self._names) - 1
        if place != last:
            self._names[place], self._texts[place] = self._names[last], self._texts[last]
            self._chosen[place] = self._chosen[last]
            used = int(self._lengths[last]) + 1
            self._lengths[place] = self._lengths[last]
            for memory in self._cache.values():
                memory[place, :, :used] = memory[last, :, :used]
        self._names.pop()
        self._texts.pop()

    def _bind(
        self, rows: slice, embeddings: Floats, last: NDArray[np.int64], chosen: NDArray[np.int64]
    ) -> Any:
        """Bind ``rows`` of all memory; the graph reads and writes it in place at every run."""
        binding = self._session.io_binding()
        for name, memory in self._cache.items():
            part = memory[rows]
            binding.bind_input(f"past_{name}", "cpu", 0, np.float32, part.shape, part.ctypes.data)
            binding.bind_output(f"present_{name}", "cpu", 0, np.float32, part.shape, part.ctypes.data)
        for name, array in (
            ("embeddings", embeddings),
            ("last", last),
            ("seqlens_k", self._lengths[rows]),
            ("total_length", self._total),
        ):
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, array in (("next", chosen), ("logits", self._logits[rows])):
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        return binding
