"""Reading ``multipart/related`` bodies (RFC 2046 section 5.1, PS3.18 section 8.6.1.2) as a stream.

Bytes are read into two buffers in turn and handed on from there: a part is never in memory, nothing is copied but
a seam.
"""

import re
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Protocol

_MOST_HEADER_BYTES = 1 << 15
_CAPACITY = 1 << 19
_BOUNDARY = re.compile(r'(?:^|;)\s*boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)


class PartSink(Protocol):
    """Where parts go."""

    def begin(self, headers: Mapping[str, str]) -> None:
        """A part starts; header names are in lower case."""

    def write(self, piece: memoryview) -> None:
        """The next bytes of the part; they stay as they are until the next call of any method."""

    def end(self) -> None:
        """The part is whole: its closing delimiter was seen."""


class _Place(Enum):
    PREAMBLE = auto()
    HEADERS = auto()
    BODY = auto()
    EPILOGUE = auto()


def boundary_of(content_type: str) -> bytes:
    """The boundary parameter of a multipart Content-Type.

    Raises ValueError where it is not multipart or names none.
    """
    media_type, _, parameters = content_type.partition(";")
    if not media_type.strip().lower().startswith("multipart/"):
        raise ValueError("the answer is not multipart")
    named = _BOUNDARY.search(parameters)
    if named is None:
        raise ValueError("the answer names no multipart boundary")
    return (named[1] or named[2]).encode("latin-1", "replace")


class MultipartReader:
    """Reads one multipart body and drives a sink with its parts.

    With ``by_length`` a part that states its Content-Length is taken by it, unsearched, and must be followed by a
    delimiter; without, only delimiters count.
    """

    def __init__(
        self, boundary: bytes, sink: PartSink, *, by_length: bool = True, capacity: int = _CAPACITY
    ) -> None:
        self._by_length = by_length
        self._left: int | None = None
        self._delimiter = b"\r\n--" + boundary
        self._sink = sink
        size = max(capacity, 2 * _MOST_HEADER_BYTES)
        self._buffer, self._other = bytearray(size), bytearray(size)
        self._buffer[:2] = b"\r\n"  # so that a delimiter at the very start is found like any other
        self._filled = 2
        self._place = _Place.PREAMBLE

    def read(self, readinto: Callable[[memoryview], int]) -> None:
        """Read to the end of the body.

        Raises EOFError where the body ends before its closing delimiter, ValueError where its framing is
        broken, and whatever ``readinto`` or the sink raise.
        """
        while count := readinto(memoryview(self._buffer)[self._filled :]):
            self._filled += count
            used = self._consume(memoryview(self._buffer))
            left = self._filled - used
            if used:  # what the sink was given stays as it is while the other buffer is filled
                self._other[:left] = self._buffer[used : self._filled]
                self._buffer, self._other = self._other, self._buffer
            self._filled = left
        if self._place is not _Place.EPILOGUE:
            raise EOFError("the multipart body ends before its closing delimiter")

    def _consume(self, view: memoryview) -> int:
        """Take all that can be told apart; returns how many bytes were used."""
        at = 0
        while True:
            place = self._place
            if place is _Place.EPILOGUE:
                return self._filled
            if place is _Place.HEADERS:
                after = self._headers(at)
            elif self._left:
                after = self._by_stated_length(view, at)
            else:
                after = self._until_delimiter(view, at)
            if after is None:
                return at
            at = after
            if at > self._filled - len(self._delimiter) and self._place is place:
                return at

    def _by_stated_length(self, view: memoryview, at: int) -> int | None:
        assert self._left is not None
        after = min(at + self._left, self._filled)
        self._emit(view[at:after])
        self._left -= after - at
        return after if after > at else None

    def _until_delimiter(self, view: memoryview, at: int) -> int | None:
        found = self._buffer.find(self._delimiter, at, self._filled)
        if self._left is not None and found != at and self._filled - at >= len(self._delimiter):
            raise ValueError("a part is not as long as its Content-Length says")
        if found < 0 and self._left is not None:
            return None
        if found < 0:
            safe = max(at, self._filled - len(self._delimiter) + 1)
            self._emit(view[at:safe])
            return safe if safe > at else None
        self._emit(view[at:found])
        line = found + len(self._delimiter)
        if self._buffer.startswith(b"--", line, self._filled):
            self._close()
            self._place = _Place.EPILOGUE
            return line + 2
        line_end = self._buffer.find(b"\n", line, min(self._filled, line + 256))
        if line_end < 0 and self._filled - line < 256:
            return found if found > at else None
        if line_end < 0 or bytes(self._buffer[line:line_end]).strip(b" \t\r"):
            self._emit(view[found : found + 2])  # the boundary's text inside a part, and no delimiter
            return found + 2
        self._close()
        self._place = _Place.HEADERS
        return line_end + 1

    def _headers(self, at: int) -> int | None:
        if self._buffer.startswith(b"\r\n", at, self._filled):
            block, after = b"", at + 2
        else:
            end = self._buffer.find(b"\r\n\r\n", at, self._filled)
            if end < 0:
                if self._filled - at > _MOST_HEADER_BYTES:
                    raise ValueError("a part's headers do not end")
                return None
            block, after = bytes(self._buffer[at:end]), end + 4
        headers = {}
        for line in block.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        self._place = _Place.BODY
        length = headers.get("content-length", "")
        self._left = int(length) if self._by_length and length.isascii() and length.isdigit() else None
        self._sink.begin(headers)
        return after

    def _emit(self, piece: memoryview) -> None:
        if self._place is _Place.BODY and piece:
            self._sink.write(piece)

    def _close(self) -> None:
        if self._place is _Place.BODY:
            self._sink.end()
