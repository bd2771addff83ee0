"""Random reads of a file that somebody else may shorten or replace at the same time.

A mapped file that is cut kills the process with a bus error that nothing can catch; here a cut is an EOFError.
"""

import os
from typing import Self

_WINDOW = 1 << 16


class GuardedFile:
    """The bytes of an open file as a sequence: ``len`` and slices without a step, read by ``pread``.

    The length is that of the moment of opening. Raises EOFError where bytes are not there any more, OSError as the
    system does.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._length = os.fstat(descriptor).st_size
        self._start = 0
        self._window = b""

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, span: slice) -> bytes:
        start, stop = span.start, span.stop
        if span.step is None and start is not None and stop is not None:  # the usual case
            at = start - self._start
            if 0 <= at <= stop - self._start <= len(self._window):
                return self._window[at : stop - self._start]
        start, stop, step = span.indices(self._length)
        if step != 1:
            raise ValueError("a step")
        at = start - self._start
        if at >= 0 and stop - self._start <= len(self._window):
            return self._window[at : at + max(0, stop - start)]
        if stop - start > _WINDOW:
            return self._read(start, stop - start)
        self._window = self._read(start, min(_WINDOW, self._length - start), least=stop - start)
        self._start = start
        return self._window[: max(0, stop - start)]

    def _read(self, start: int, count: int, least: int | None = None) -> bytes:
        """``count`` bytes from ``start``; at least ``least`` of them, all where it is None."""
        pieces = b""
        while len(pieces) < count:
            piece = os.pread(self._descriptor, count - len(pieces), start + len(pieces))
            if not piece:
                break
            pieces = pieces + piece if pieces else piece
        if len(pieces) < (count if least is None else least):
            raise EOFError("the file was cut while it was read")
        return pieces

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None
