"""The program of a video decoder's own process: run as a file, it knows no DICOM and imports nothing of ours.

It reads the pieces of a video out of an open file, tells when each frame is shown, is told which are wanted, and writes
those as red, green and blue. Requests and answers are lines of JSON, pictures follow theirs as bytes. It is shut in as
the decoders of frames are (``decoder_program``).
"""

import io
import json
import os
import resource
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from importlib.util import module_from_spec, spec_from_file_location
from itertools import accumulate
from pathlib import Path
from typing import Any

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,mpegts,mpeg,mpegvideo,h264,hevc"
"""Forms of a video in DICOM (PS3.5 A.4.5 to A.4.10); none that names other files or addresses, as playlists do."""
CODECS = "mpeg1video,mpeg2video,h264,hevc"
MOST_FRAMES = 1 << 20
MOST_PIXELS = 1 << 26
ROOM = 3 << 30
"""Bytes of address space: frames that refer to each other are held, at most sixteen of the largest."""
PROCESSOR_SECONDS = 600
"""After them the kernel ends this process, also where its parent is gone."""
HIGH = 720
"""Rows from which a video that names no matrix is of BT.709; those of standard definition are of BT.601."""


class Pieces(io.RawIOBase):
    """Pieces of a file as one: never held as a whole."""

    def __init__(self, file: int, pieces: Sequence[tuple[int, int]]) -> None:
        """``pieces`` are (place, length) in bytes."""
        self._file, self._starts = file, [start for start, _ in pieces]
        self._ends = list(accumulate(length for _, length in pieces))
        self._place = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next byte comes from."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file."""
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._ends[-1]}[whence]
        self._place = max(0, begin + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        """At most to the end of a piece."""
        piece = bisect_right(self._ends, self._place)
        if piece == len(self._ends):
            return 0
        begin = self._ends[piece - 1] if piece else 0
        size = min(len(buffer), self._ends[piece] - self._place)
        content = os.pread(self._file, size, self._starts[piece] + self._place - begin)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


class Video:
    """The first video stream of what was opened; every pass opens it anew."""

    def __init__(self, file: int, pieces: Sequence[tuple[int, int]], rate: float) -> None:
        """``rate`` is what the header says of frames a second, for streams that do not say when frames are shown."""
        self._source = file, pieces
        self._rate = rate
        self.shown: list[int | None] = []
        self.groups: list[int] = []
        self.seconds: list[float] = []
        self._scan()

    def _packets(self) -> Iterator[tuple[Any, Any]]:
        import av

        options = {"format_whitelist": CONTAINERS, "codec_whitelist": CODECS}
        with av.open(Pieces(*self._source), mode="r", options=options, metadata_errors="replace") as opened:
            stream = opened.streams.video[0]
            if stream.codec_context.width * stream.codec_context.height > MOST_PIXELS:
                raise ValueError("too large")
            stream.thread_count = 1
            stream.codec_context.options = {"err_detect": "explode"}
            with suppress(av.FFmpegError):  # cut short: what came is there
                for packet in opened.demux(stream):
                    if packet.size:
                        yield stream, packet
            yield stream, None

    def _scan(self) -> None:
        """When each frame is shown, and the group of pictures of each packet, by the packets alone."""
        group, base = -1, Fraction(1)
        for stream, packet in self._packets():
            base = stream.time_base
            if packet is None:
                continue
            if len(self.shown) >= MOST_FRAMES:
                raise ValueError("too long")
            group += bool(packet.is_keyframe)
            self.shown.append(packet.pts)
            self.groups.append(group)
        told = [one for one in self.shown if one is not None]
        if len(told) == len(self.shown) and len(set(told)) == len(told) and told:
            self.order = sorted(range(len(told)), key=lambda packet: told[packet])
            first = min(told)
            self.seconds = [float((told[packet] - first) * base) for packet in self.order]
        else:
            self.order = []
            self.seconds = [number / self._rate for number in range(len(self.shown))]

    def frames(self, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """The wanted frames (numbers in the order they are shown) that can be decoded, in any order."""
        left = set(wanted)
        if self.order:
            yield from self._decoded(left, self._needed(wanted))
        if left:
            yield from self._decoded(left, None)

    def _needed(self, wanted: Sequence[int]) -> set[int]:
        """The groups of pictures that hold the wanted frames, and the one before where one precedes its key picture."""
        keys: dict[int, int | None] = {}
        for packet, group in enumerate(self.groups):
            keys.setdefault(group, self.shown[packet])
        needed: set[int] = set()
        for number in wanted:
            packet = self.order[number]
            group = self.groups[packet]
            needed |= {group, group - 1} if (self.shown[packet] or 0) < (keys[group] or 0) else {group}
        return needed

    def _decoded(self, left: set[int], groups: set[int] | None) -> Iterator[tuple[int, Any]]:
        import av

        numbers = {self.shown[packet]: number for number, packet in enumerate(self.order)}
        count, skipped = 0, False
        for position, (stream, packet) in enumerate(self._packets()):
            context = stream.codec_context
            if packet is not None and groups is not None and self.groups[position] not in groups:
                skipped = True
                continue
            found = []
            if skipped and packet is not None:
                found += _drained(context)
                context.flush_buffers()
                skipped = False
            with suppress(av.FFmpegError):  # a damaged picture is not shown; what follows may be sound
                found += context.decode(packet)
            for frame in found:
                number = numbers.get(frame.pts) if self.order else count
                count += 1
                if number in left and not frame.is_corrupt:
                    left.discard(number)
                    yield number, frame
            if not left:
                return


def _drained(context: Any) -> list[Any]:
    import av

    try:
        return list(context.decode(None))
    except av.FFmpegError:
        return []


def as_rgb(frame: Any) -> Any:
    """The frame in full-range RGB, uint8 [rows, columns, 3], by its own matrix and range.

    What names no matrix is of BT.709 from ``HIGH`` rows on, else of BT.601; what names no range is of the video range.
    Accurate rounding alone shows every colour two levels too dark; with chrominance at full width it does not.
    """
    from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

    named = {1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601,
             7: Colorspace.SMPTE240M, 9: Colorspace.BT2020}  # fmt: skip
    matrix = named.get(
        int(frame.colorspace), Colorspace.ITU709 if frame.height >= HIGH else Colorspace.ITU601
    )
    full = int(frame.color_range) == int(ColorRange.JPEG) or frame.format.name.startswith("yuvj")
    return VideoReformatter().reformat(
        frame, format="rgb24", src_colorspace=matrix, dst_colorspace=matrix,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG, dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT, threads=1,
    ).to_ndarray()  # fmt: skip


def serve(file: int) -> None:
    """Answer one parent about one video."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing that a library prints is taken for an answer
    asked = json.loads(sys.stdin.buffer.readline())
    _confine()
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
    video = Video(file, [tuple(one) for one in asked["pieces"]], asked["rate"])
    _write(out, {"seconds": video.seconds})
    wanted = json.loads(sys.stdin.buffer.readline() or "[]")
    for number, frame in video.frames(wanted):
        picture = as_rgb(frame)
        _write(out, {"frame": number, "rows": picture.shape[0], "columns": picture.shape[1]})
        out.write(picture.tobytes())
    _write(out, {})


def _confine() -> None:
    """By the function of the file beside this one, which is no module of a package here."""
    beside = spec_from_file_location("decoder_program", Path(__file__).with_name("decoder_program.py"))
    assert beside is not None
    assert beside.loader is not None
    program = module_from_spec(beside)
    beside.loader.exec_module(program)
    program.confine()


def _write(out: Any, answer: object) -> None:
    out.write(json.dumps(answer).encode("ascii") + b"\n")
    out.flush()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
