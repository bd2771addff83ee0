"""Frames of a video (MPEG-2, H.264, HEVC in one stream, PS3.5 A.4.5 to A.4.10), decoded in a process of its own.

PyAV is an extra, ``firstread[video]``. A video is never held as a whole; its decoder's process has bounds on memory and
time, opens nothing but the stream that it is given, and ends with its video.
"""

import importlib.util
import json
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np
import numpy.typing as npt

from pipeline.errors import FailStudy
from pipeline.images import video_program
from pipeline.images.decode import first_item
from pipeline.images.decoder_start import start_decoder
from pipeline.images.fragments import frame_table
from pipeline.images.headers import Header, integer, numbers, refusing

SYNTAXES = frozenset(
    f"1.2.840.10008.1.2.4.{number}{part}" for number in range(100, 109) for part in ("", ".1")
)
"""MPEG-2 at two levels, MPEG-4 AVC/H.264 at five, HEVC/H.265 at two; each also in several fragments."""
SECONDS = 600.0
"""For one video."""
_LONGEST_LINE = 64 << 20
_USUAL_RATE = 25.0


@dataclass(frozen=True, slots=True)
class VideoFrames:
    """The frames of one video that were asked for and can be decoded, by their number in the order they are shown.

    ``held`` is how many the stream has, ``pictures`` (number, whatever was made of it).
    """

    held: int
    pictures: tuple[tuple[int, npt.NDArray[np.float32], tuple[int, int]], ...]


def is_video(header: Header) -> bool:
    """Whether the pixels of an instance are a video stream, whatever its class."""
    return header.transfer_syntax in SYNTAXES


def video_frames(
    header: Header,
    choose: Callable[[Sequence[float]], Sequence[int]],
    make: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]],
) -> VideoFrames:
    """What ``make`` gives of the frames that ``choose`` names by the seconds at which all are shown (ascending).

    ``make`` is given one frame at a time as RGB uint8 [rows, columns, 3]. Raises FailStudy: "no-video-decoder" where
    the extra is not installed, "pixel-data-short" where the file is cut, "undecodable", "decoder-slow", "decoder-died".
    """
    if importlib.util.find_spec("av") is None:
        raise FailStudy("no-video-decoder", "a video, for which firstread[video] has to be installed")
    with refusing("undecodable", "the pixel data cannot be read"):
        table = frame_table(header.path, first_item(header), 1)
    pieces = table.pieces(0)
    if not sum(length for _, length in pieces):
        raise FailStudy("pixel-data-short", "the video is empty")
    with header.path.open("rb", buffering=0) as file, _program(file.fileno()) as (process, answers):
        _ask(process, {"pieces": pieces, "rate": _rate(header)})
        seconds = answers.line().get("seconds")
        if not isinstance(seconds, list) or not seconds:
            raise _undecodable()
        wanted = choose(seconds)
        _ask(process, list(wanted))
        pictures = []
        while told := answers.line():
            number, rows, columns = (int(str(told[name])) for name in ("frame", "rows", "columns"))
            if not 0 < rows * columns <= video_program.MOST_PIXELS:
                raise _undecodable()
            content = np.frombuffer(answers.exactly(rows * columns * 3), np.uint8)
            pictures.append((number, make(content.reshape(rows, columns, 3)), (rows, columns)))
    if not pictures:
        raise _undecodable()
    return VideoFrames(len(seconds), tuple(sorted(pictures, key=lambda one: one[0])))


def _rate(header: Header) -> float:
    """Frames a second by the header (PS3.3 C.7.6.5), for streams that do not say it."""
    step = (*numbers(header.dataset, "FrameTime"), 0.0)[0]
    said = 1000 / step if step > 0 else float(integer(header.dataset, "CineRate") or 0)
    return said if 0.001 <= said <= 10_000 else _USUAL_RATE


class _Answers:
    """What the process writes, until its time is over."""

    def __init__(self, stream: IO[bytes], end: float) -> None:
        self._stream, self._end, self._held = stream, end, b""

    def line(self) -> dict[str, object]:
        while (place := self._held.find(b"\n")) < 0:
            self._more()
            if len(self._held) > _LONGEST_LINE:
                raise _undecodable()
        line, self._held = self._held[:place], self._held[place + 1 :]
        told: dict[str, object] = json.loads(line)
        return told

    def exactly(self, size: int) -> bytes:
        parts, left = [], size
        while left:
            if not self._held:
                self._more()
            part, self._held = self._held[:left], self._held[left:]
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _more(self) -> None:
        waiting = select.poll()
        waiting.register(self._stream, select.POLLIN)
        if not waiting.poll(max(0.0, self._end - time.monotonic()) * 1000):
            raise FailStudy("decoder-slow", f"the decoder was not done with a video after {SECONDS:.0f} s")
        read = self._stream.read(1 << 20)
        if not read:
            raise EOFError
        self._held += read


@contextmanager
def _program(file: int) -> Iterator[tuple["subprocess.Popen[bytes]", _Answers]]:
    """The process of one video, which ends with it. Raises FailStudy where it ends before it has answered."""
    process = start_decoder(video_program, file)
    try:
        assert process.stdout is not None
        yield process, _Answers(process.stdout, time.monotonic() + SECONDS)
    except (EOFError, BrokenPipeError):
        if process.wait() < 0:
            raise FailStudy("decoder-died", "the process of a video's decoder was ended over it") from None
        raise _undecodable() from None
    finally:
        process.kill()
        with process:
            pass


def _ask(process: "subprocess.Popen[bytes]", question: object) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(question).encode("ascii") + b"\n")


def _undecodable() -> FailStudy:
    return FailStudy("undecodable", "the video is damaged, or none of the forms that DICOM names")
