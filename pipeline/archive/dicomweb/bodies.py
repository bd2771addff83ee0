"""Bodies of retrieved instances, read piece by piece into part files of a spool."""

import http.client
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from pipeline.archive.instance_file import PartFile
from pipeline.archive.spool import Spool

_LARGE_PART = 1 << 21
_PIECE = 1 << 18


class Parts:
    """Multipart parts, each into a part file of the spool; the pool takes the digests of large ones."""

    def __init__(self, spool: Spool, expected: str, pool: ThreadPoolExecutor) -> None:
        self._spool = spool
        self._expected = expected
        self._pool = pool
        self._part: PartFile | None = None

    def begin(self, headers: Mapping[str, str]) -> None:
        """Open a part."""
        length = headers.get("content-length", "")
        large = length.isdigit() and int(length) >= _LARGE_PART
        self._part = self._spool.open(self._pool if large else None)

    def write(self, piece: memoryview) -> None:
        """Take bytes of the part."""
        if self._part is not None:
            self._part.write(piece)

    def end(self) -> None:
        """Keep the part, which is whole."""
        part, self._part = self._part, None
        if part is not None:
            with part:
                self._spool.keep(part, expected=self._expected)

    def discard(self) -> None:
        """Remove a part that did not end."""
        if self._part is not None:
            self._part.discard()


def one_part(response: http.client.HTTPResponse, sink: Parts, readinto: Callable[[memoryview], int]) -> None:
    """An instance that is the whole body (PS3.18 10.4.1). Raises EOFError where the body is cut."""
    length = response.headers.get("Content-Length") or ""
    sink.begin({"content-length": length})
    pieces = [memoryview(bytearray(_PIECE)), memoryview(bytearray(_PIECE))]  # the sink may still look at one
    while count := readinto(pieces[0]):
        sink.write(pieces[0][:count])
        pieces.reverse()
    if response.length:
        raise EOFError("the body ends before its Content-Length")
    sink.end()


def body_of(response: http.client.HTTPResponse, spool: Spool) -> Callable[[memoryview], int]:
    """Reads the body into a piece, whose bytes count as progress of ``spool``; 0 at its end."""

    def readinto(piece: memoryview) -> int:
        spool.check()
        count = response.readinto(piece)
        spool.progressed()
        return count

    encoded = (response.headers.get("Content-Encoding") or "identity").strip().lower()
    return _Inflated(readinto).readinto if encoded in ("gzip", "x-gzip") else readinto


class _Inflated:
    """The body in a gzip that nobody asked for (RFC 9110 8.4.1.3), piece by piece."""

    def __init__(self, readinto: Callable[[memoryview], int]) -> None:
        self._readinto = readinto
        self._inflater = zlib.decompressobj(wbits=31)
        self._packed = memoryview(bytearray(_PIECE))

    def readinto(self, piece: memoryview) -> int:
        """As ``HTTPResponse.readinto``. Raises EOFError where the gzip does not end, ValueError where it is damaged."""
        while not self._inflater.eof:
            packed: bytes | memoryview = self._inflater.unconsumed_tail
            if not packed:
                packed = self._packed[: self._readinto(self._packed)]
            if not packed:
                raise EOFError("the gzip ends before its body does")
            try:
                plain = self._inflater.decompress(packed, len(piece))
            except zlib.error:
                raise ValueError("a damaged gzip") from None
            if plain:
                piece[: len(plain)] = plain
                return len(plain)
        while self._readinto(self._packed):
            pass  # so that the connection can be used again
        return 0
