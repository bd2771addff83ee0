"""Decoders in processes of their own, reused: a fault in native code ends one of them and not the run (decision 10).

Frame and picture are handed over in memory that both processes share. A process ends with this one, however that ends.
"""

import atexit
import logging
import mmap
import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import numpy.typing as npt

from pipeline.errors import FailStudy, RetryLater
from pipeline.images import decoder_program
from pipeline.images.decoder_start import start_decoder

log = logging.getLogger(__name__)

DECODE_SECONDS = 120.0
"""For one frame; the largest that is accepted takes about ten on a quiet machine."""
_ANSWERED = (b"u1", b"u2", b"i1", b"i2")
"""Kinds of values that a decoder gives."""
MOST_KEPT = 128 << 20
"""Bytes of shared memory; a process that needed more is not kept."""


class _Died(Exception):
    """The process ended before it answered; ``number`` is the signal that ended it, 0 where none did."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _DecoderProcess:
    """One process and the memory shared with it. For one thread at a time."""

    def __init__(self) -> None:
        self._memory_file = os.memfd_create("firstread-decoder")
        os.ftruncate(self._memory_file, decoder_program.PAGE)
        self._memory = mmap.mmap(self._memory_file, decoder_program.PAGE)
        life, self._life = os.pipe()
        try:
            self._process = start_decoder(decoder_program, self._memory_file, life)
        except BaseException:
            os.close(self._life)
            os.close(self._memory_file)
            raise
        finally:
            os.close(life)

    @property
    def kept(self) -> bool:
        """Whether it may be used again."""
        return self._process.poll() is None and len(self._memory) <= MOST_KEPT

    def decode(
        self, decoder: str, frame: bytes, picture_bytes: int, into: npt.NDArray[np.uint16] | None
    ) -> npt.NDArray[np.generic] | None:
        """The picture that ``decoder`` makes of ``frame``, in ``into`` where its form is that; None where it cannot.

        Raises _Died, and TimeoutError after ``DECODE_SECONDS``: then it is of no more use.
        """
        offset = decoder_program.picture_offset(len(frame))
        if len(self._memory) < offset + picture_bytes:
            self._memory.close()
            os.ftruncate(self._memory_file, offset + picture_bytes)
            self._memory = mmap.mmap(self._memory_file, offset + picture_bytes)
        self._memory[: len(frame)] = frame
        answer = self._asked(decoder_program.REQUEST.pack(decoder.encode("ascii"), len(frame), picture_bytes))
        done, kind, size, rows, columns, channels = decoder_program.ANSWER.unpack(answer)
        if not done:
            return None
        shape = (rows, columns, channels) if channels else (rows, columns)
        if kind + size not in _ANSWERED or rows * columns * (channels or 1) * int(size) > picture_bytes:
            return None  # nothing of ours: whatever runs there now, it draws no further than its place
        seen = np.frombuffer(
            self._memory, np.dtype((kind + size).decode("ascii")), rows * columns * (channels or 1), offset
        ).reshape(shape)
        if into is None or into.shape != shape or kind not in b"iu" or seen.itemsize != into.itemsize:
            return seen.copy()
        into[...] = seen.view(into.dtype)
        return into

    def _asked(self, request: bytes) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(request)
        except BrokenPipeError:
            raise self._death() from None
        heard = select.poll()
        heard.register(self._process.stdout, select.POLLIN)
        if not heard.poll(DECODE_SECONDS * 1000):
            raise TimeoutError
        answer: bytes = self._process.stdout.read(decoder_program.ANSWER.size)
        if len(answer) < decoder_program.ANSWER.size:
            raise self._death()
        return answer

    def _death(self) -> _Died:
        return _Died(max(0, -self._process.wait()))

    def close(self) -> None:
        """End it; nothing of it is left."""
        self._process.kill()
        with self._process:
            pass
        os.close(self._life)
        self._memory.close()
        os.close(self._memory_file)


class _Pool:
    """Processes that wait for work, as many as are ever needed at the same time. Threads share it."""

    def __init__(self) -> None:
        self._idle: list[_DecoderProcess] = []
        self._at_work = 0
        self._lock = threading.Lock()
        atexit.register(self.close)

    @contextmanager
    def borrow(self) -> Iterator[_DecoderProcess]:
        with self._lock:
            process = self._idle.pop() if self._idle else None
            self._at_work += 1
        kept = False
        try:
            process = process or _DecoderProcess()
            yield process
            kept = process.kept
        finally:
            with self._lock:
                self._at_work -= 1
                if kept and process is not None:
                    self._idle.append(process)
            if not kept and process is not None:
                process.close()

    def start(self, processes: int) -> None:
        with self._lock, suppress(OSError):
            while len(self._idle) + self._at_work < processes:
                self._idle.append(_DecoderProcess())

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.close()


_POOL = _Pool()


def start(processes: int) -> None:
    """Have so many processes ready before frames come: each takes a tenth of a second of CPU to start.

    A process that cannot be started is no error here: ``decode`` tries again and says so.
    """
    _POOL.start(processes)


def decode(
    decoder: str, frame: bytes, picture_bytes: int, into: npt.NDArray[np.uint16] | None = None
) -> npt.NDArray[np.generic] | None:
    """The picture that ``decoder`` makes of ``frame``; None where it cannot, or not in ``picture_bytes``.

    A picture of the shape of ``into`` and of 16 bits is written there, which is then what comes back.
    Raises FailStudy("decoder-died") where the frame ends its decoder's process, ("decoder-slow") where it takes longer
    than ``DECODE_SECONDS``, RetryLater("decoder-busy") where no process can be started.
    """
    for last in (False, True):
        try:
            with _POOL.borrow() as process:
                return process.decode(decoder, frame, picture_bytes, into)
        except _Died as death:
            # SIGKILL comes from outside, for want of memory or by hand: it may have meant another.
            if death.number != signal.SIGKILL or last:
                raise FailStudy(
                    "decoder-died", f"the decoder's process was ended by {_named(death.number)} over a frame"
                ) from None
            log.warning("the process of a decoder was killed; the frame is tried once more")
        except TimeoutError:
            raise FailStudy(
                "decoder-slow", f"the decoder was not done with a frame after {DECODE_SECONDS:.0f} s"
            ) from None
        except OSError:
            raise RetryLater(
                "decoder-busy", "no process for a decoder can be started; see the limits of this account"
            ) from None
    raise AssertionError("tried twice at most")


def _named(number: int) -> str:
    return signal.Signals(number).name if number else "itself"
