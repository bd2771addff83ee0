"""Tensors of safetensors files, read and converted through a little memory that is used again.

What a conversion of weights costs is mostly memory that the process never held: each of its pages is asked of the
kernel, which clears it first. Here a tensor goes from the file in pieces that fit a core's caches into memory that its
reader keeps, and whoever lays it out in another form takes it from there.
"""

import os
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from models.weight_loading.weight_files import read_header
from pipeline.errors import StopRun

TYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
PIECE = 1 << 20
"""Bytes that are read at a time."""
MOST_THREADS = 8
"""Readers at most: each holds its scratch, and more than a few wait for the memory rather than for each other."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where one tensor lies: an open file, its first byte there, its type and shape."""

    file: int
    path: Path
    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    def rows(self, first: int, last: int) -> "StoredTensor":
        """The rows from ``first`` to before ``last`` of a matrix."""
        width = torch.Size(self.shape[1:]).numel()
        start = self.start + first * width * self.dtype.itemsize
        return replace(self, start=start, shape=(min(last, self.shape[0]) - first, *self.shape[1:]))

    def read(self, into: Tensor, staging: bytearray) -> None:
        """Fill ``into`` (as many numbers, one after another) by way of ``staging`` (``PIECE`` bytes).

        Raises StopRun where the file ends before its tensor or cannot be read.
        """
        flat, size = into.view(-1), self.dtype.itemsize
        stored, window = torch.frombuffer(staging, dtype=self.dtype), memoryview(staging)
        for first in range(0, flat.numel(), PIECE // size):
            count = min(PIECE // size, flat.numel() - first)
            self._fill(window[: count * size], self.start + first * size)
            flat[first : first + count].copy_(stored[:count])

    def _fill(self, window: memoryview, start: int) -> None:
        got = 0
        while got < len(window):
            try:
                read = os.preadv(self.file, [window[got:]], start + got)
            except OSError as error:
                raise StopRun("weights", f"{self.path.name} cannot be read ({error.strerror})") from None
            if not read:
                raise StopRun("weights", f"{self.path.name} became shorter while it was read: copy it again")
            got += read


class Scratch:
    """Memory of one reader: what ``read`` gives is valid until the next call."""

    def __init__(self) -> None:
        """Empty; it grows to the largest tensor that is read."""
        self.staging = bytearray(PIECE)
        self._values = torch.empty(0)

    def read(self, tensor: StoredTensor) -> Tensor:
        """``tensor`` in float32. Raises as ``StoredTensor.read``."""
        count = torch.Size(tensor.shape).numel()
        if self._values.numel() < count:
            self._values = torch.empty(count)
        values = self._values[:count].view(tensor.shape)
        tensor.read(values, self.staging)
        return values


@contextmanager
def open_stored(files: Sequence[Path]) -> Iterator[Mapping[str, StoredTensor]]:
    """The tensors of ``files`` by name; a name that two files hold is the last one's.

    Those of types other than 16 and 32 bit floats are left out. Raises StopRun for a file that is not sound.
    """
    tensors: dict[str, StoredTensor] = {}
    with ExitStack() as stack:
        for path in files:
            held = read_header(path)
            try:
                stream = stack.enter_context(path.open("rb", buffering=0))
                begins = 8 + int(struct.unpack("<Q", stream.read(8))[0])
            except (OSError, struct.error) as error:
                message = f"{path.name} cannot be read ({type(error).__name__}): copy it again"
                raise StopRun("weights", message) from None
            for name, one in held.items():
                if one.dtype in TYPES:
                    place = begins + one.start
                    tensors[name] = StoredTensor(stream.fileno(), path, place, TYPES[one.dtype], one.shape)
        yield tensors


def in_threads(works: Iterable[Callable[[Scratch], None]]) -> None:
    """Do each of ``works`` on one of as many threads as torch uses, at most ``MOST_THREADS``, with memory of its own.

    A tensor is too small for threads to share: they would wait for each other at every one. Raises what one of them
    raised; what was not begun then is left.
    """
    waiting, stop = deque(works), threading.Event()

    def drain() -> None:
        scratch = Scratch()
        with torch.inference_mode():
            while not stop.is_set():
                try:
                    work = waiting.popleft()
                except IndexError:
                    return
                try:
                    work(scratch)
                except BaseException:
                    stop.set()
                    raise

    usual = torch.get_num_threads()
    threads = min(usual, MOST_THREADS)
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, thread_name_prefix="weights") as pool:
            for done in [pool.submit(drain) for _ in range(threads)]:
                done.result()
    finally:
        torch.set_num_threads(usual)
