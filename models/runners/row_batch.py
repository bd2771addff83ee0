"""Rows of text that one worker writes together on ONNX Runtime, and the memory that they are written in."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.runners.decoder_graph import DecoderShape

Floats = NDArray[np.float32]
LEAST_POSITIONS = 64
"""Positions that the memory of a row has at first; it grows twofold as rows get longer."""


@dataclass(slots=True, eq=False)
class TextRow:
    """One text being written: its prompt [length, width], the most tokens it may have, and those it has so far.

    ``ended`` says that the end token came, which is not among ``ids``; ``written`` tells who waits for the row.
    """

    prompt: Floats
    limit: int
    ids: list[int] = field(default_factory=list)
    ended: bool = False
    written: Future[None] = field(default_factory=Future)


class RowMemory:
    """What the graph reads and writes in place for a number of rows, each in its own place.

    ``cache`` holds keys and values by name, each [places, kv_heads, capacity, head_width]; ``lengths`` the
    positions of each row minus one, ``chosen`` its last token.
    """

    def __init__(self, shape: DecoderShape, places: int, capacity: int) -> None:
        """Memory for ``places`` rows of at most ``capacity`` positions."""
        self.places, self.capacity = places, capacity
        one = (places, shape.kv_heads, capacity, shape.head_width)
        names = [f"{part}_{layer}" for layer in range(shape.layers) for part in ("key", "value")]
        self.cache = {name: np.zeros(one, np.float32) for name in names}
        self.lengths = np.zeros(places, np.int32)
        self.total = np.array(0, np.int32)
        self.first_position = np.zeros(places, np.int64)
        self.embeddings = np.empty((places, 1, shape.width), np.float32)
        self.chosen = np.zeros(places, np.int64)
        self.logits = np.empty((places, shape.vocabulary), np.float32)

    def take(self, other: "RowMemory", rows: slice) -> None:
        """Copy ``rows`` of ``other`` to the first places."""
        count = rows.stop - rows.start
        used = int(other.lengths[rows].max(initial=-1)) + 1
        for name, memory in self.cache.items():
            memory[:count, :, :used] = other.cache[name][rows, :, :used]
        self.lengths[:count], self.chosen[:count] = other.lengths[rows], other.chosen[rows]

    def move(self, place: int, to: int) -> None:
        """Copy the row at ``place`` to the place ``to``."""
        used = int(self.lengths[place]) + 1
        for memory in self.cache.values():
            memory[to, :, :used] = memory[place, :, :used]
        self.lengths[to], self.chosen[to] = self.lengths[place], self.chosen[place]

    def bind(self, session: Any, rows: slice, embeddings: Floats, last: NDArray[np.int64]) -> Any:
        """Bind ``rows`` of all memory; the graph reads and writes it in place at every run."""
        binding = session.io_binding()
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
        for name, array in (("next", self.chosen[rows]), ("logits", self.logits[rows])):
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        return binding


class RowBatch:
    """Rows being written together. More may join between two steps, and a row leaves as soon as it is done.

    A row that is done is replaced by the last one, so that a step costs what its open rows cost and only one row of
    the memory is moved.
    """

    def __init__(self, session: Any, table: Floats, shape: DecoderShape, end: int) -> None:
        """No rows yet. ``table`` [vocabulary, width] holds the token embeddings, ``end`` is the end token's id."""
        self._session, self._table, self._shape, self._end = session, table, shape, end
        self.clear()

    def clear(self) -> None:
        """Drop all rows and their memory."""
        self.rows: list[TextRow] = []
        self._read = 0
        self._memory = RowMemory(self._shape, 0, 0)
        self._bindings: dict[int, Any] = {}

    def join(self, rows: Sequence[TextRow]) -> None:
        """Add ``rows``; the next step reads their prompts."""
        self.rows += sorted(rows, key=lambda row: len(row.prompt))

    def step(self) -> list[TextRow]:
        """Choose a token: the first of each row that has joined, or else the next of every row.

        Returns the rows that are done with it; they have left.
        """
        if self._read < len(self.rows):
            first = self._read
            self.read_prompts()
            return self._take_tokens(first)
        self._write_tokens()
        return self._take_tokens(0)

    def read_prompts(self) -> Floats:
        """Read the prompts of the rows that have joined, choose their first tokens and give the logits [n, vocabulary].

        Prompts of one length are read together and never padded: padding would change the last bits of a row.
        """
        joined, start = self.rows[self._read :], self._read
        self._make_room(len(self.rows), max(len(row.prompt) for row in joined))
        memory = self._memory
        for length, rows in groupby(joined, key=lambda row: len(row.prompt)):
            prompts = np.ascontiguousarray(np.stack([row.prompt for row in rows]), np.float32)
            part = slice(start, start + len(prompts))
            memory.lengths[part], memory.total[...] = length - 1, length
            last = np.full(len(prompts), length - 1, np.int64)
            self._session.run_with_iobinding(memory.bind(self._session, part, prompts, last))
            start = part.stop
        logits = memory.logits[self._read : start]
        self._read = start
        return logits

    def give_half(self, other: "RowBatch") -> None:
        """Move the later half of the rows to ``other``, which has none; all prompts have been read."""
        keep = (len(self.rows) + 1) // 2
        gone = self.rows[keep:]
        other._make_room(len(gone), self._memory.capacity)
        other._memory.take(self._memory, slice(keep, len(self.rows)))
        other.rows, other._read = gone, len(gone)
        del self.rows[keep:]
        self._read = keep

    def _make_room(self, rows: int, positions: int) -> None:
        """Memory for ``rows`` of ``positions``, with the rows that have been read.

        It grows twofold at least, so that rows that join one by one, or get longer, are seldom copied; and it stays
        with the batch when its rows are done.
        """
        held = self._memory
        if rows <= held.places and positions <= held.capacity:
            return
        places, capacity = held.places, held.capacity
        if rows > places:
            places = max(rows, 2 * places)
        if positions > capacity:
            capacity = min(max(positions, 2 * capacity, LEAST_POSITIONS), self._shape.positions)
        self._memory = RowMemory(self._shape, places, capacity)
        self._memory.take(held, slice(0, self._read))
        self._bindings.clear()

    def _write_tokens(self) -> None:
        count = len(self.rows)
        longest = int(self._memory.lengths[:count].max()) + 2
        self._make_room(count, longest)
        memory = self._memory
        if count not in self._bindings:
            rows = slice(0, count)
            embeddings, position = memory.embeddings[rows], memory.first_position[rows]
            self._bindings[count] = memory.bind(self._session, rows, embeddings, position)
        np.take(self._table, memory.chosen[:count], axis=0, out=memory.embeddings[:count, 0])
        memory.lengths[:count] += 1
        memory.total[...] = longest
        self._session.run_with_iobinding(self._bindings[count])

    def _take_tokens(self, first: int) -> list[TextRow]:
        """Append the chosen tokens from row ``first`` on; rows that end, or are as long as they may be, leave."""
        done = []
        for place in reversed(range(first, len(self.rows))):
            row, token = self.rows[place], int(self._memory.chosen[place])
            row.ended = token == self._end
            if not row.ended:
                row.ids.append(token)
            if row.ended or len(row.ids) == row.limit:
                done.append(row)
                self._leave(place)
        return done

    def _leave(self, place: int) -> None:
        last = len(self.rows) - 1
        if place != last:
            self.rows[place] = self.rows[last]
            self._memory.move(last, place)
        self.rows.pop()
        self._read -= 1
