"""The program of a decoder's own process: run as a file, it knows no DICOM and imports nothing of ours.

It shares a block of memory with the process that started it: the compressed frame is read there, the decoded picture is
written there. A request and its answer are one small record each, on standard input and output.
"""

import fcntl
import mmap
import os
import resource
import signal
import struct
import sys
from typing import Any, BinaryIO

REQUEST = struct.Struct("<24sQQ")
"""Name of the decoder, bytes of the frame, bytes that the picture may take."""
ANSWER = struct.Struct("<BccIII")
"""Whether it was decoded, NumPy's kind and size of a value, rows, columns and channels (0: none)."""
ANSWERED = ANSWER.pack(0, b"-", b"0", 0, 0, 0)
PAGE = 4096
ROOM = 1 << 31
"""Bytes of address space beside what the picture takes; a decoder that wants more is told that there is none."""
MEMORY_FOR_ONE = 16
"""Bytes of address space for each byte of the picture: OpenJPEG works in 32 bits, a channel a plane."""
THREADS = 2
"""OpenJPEG's own threads: JPEG 2000 takes ten times as long as any other syntax."""
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg8": ("jpeg8_decode", {}),
    "jpeg8-rgb": ("jpeg8_decode", {"colorspace": "RGB", "outcolorspace": "RGB"}),
    "jpegls": ("jpegls_decode", {}),
    "jpeg2k": ("jpeg2k_decode", {"numthreads": THREADS}),
    "jpegxl": ("jpegxl_decode", {"numthreads": THREADS}),
}
"""Functions of imagecodecs and their options."""
RECOMPRESSED = b"jbrd"
"""The box of a JPEG XL container that says how to give the JPEG back (ISO/IEC 18181-2 section 9)."""


def picture_offset(frame_bytes: int) -> int:
    """Where the picture begins in the shared memory: behind the frame, at a page."""
    return -(-frame_bytes // PAGE) * PAGE


def serve(memory: int, life: int) -> None:
    """Answer requests until standard input ends. ``life`` is a pipe whose other end only the parent holds."""
    _end_with_parent(life)
    with open(
        "/proc/self/oom_score_adj", "w", encoding="ascii"
    ) as score:  # memory runs out: this one, not the run
        score.write("800")
    shared = mmap.mmap(memory, PAGE)
    import imagecodecs  # noqa: F401 - before the first frame comes
    import numpy  # noqa: F401

    while len(request := _exactly(sys.stdin.buffer, REQUEST.size)) == REQUEST.size:
        name, frame_bytes, picture_bytes = REQUEST.unpack(request)
        offset = picture_offset(frame_bytes)
        if len(shared) < offset + picture_bytes:
            shared.close()
            shared = mmap.mmap(memory, offset + picture_bytes)
        most = ROOM + MEMORY_FOR_ONE * picture_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        sys.stdout.buffer.write(
            _answer(shared, name.rstrip(b"\0").decode("ascii"), frame_bytes, offset, picture_bytes)
        )
        sys.stdout.buffer.flush()


def _answer(shared: mmap.mmap, name: str, frame_bytes: int, offset: int, picture_bytes: int) -> bytes:
    import imagecodecs  # here and not above: who starts this program reads its records and decodes nothing
    import numpy as np

    function, options = DECODERS[name]
    frame = shared[:frame_bytes]
    try:
        if name == "jpegxl" and RECOMPRESSED in frame[:4096]:  # the JPEG that it was made from, to the bit
            function, options = DECODERS["jpeg8"]
            frame = bytes(imagecodecs.jpegxl_decode_jpeg(frame, numthreads=THREADS))
        decoded = getattr(imagecodecs, function)(frame, **options)
        if decoded.nbytes > picture_bytes or not 2 <= decoded.ndim <= 3:
            return ANSWERED
        np.frombuffer(shared, decoded.dtype, decoded.size, offset).reshape(decoded.shape)[...] = decoded
    except Exception:  # noqa: BLE001 - whatever a decoder raises means that the frame is damaged
        return ANSWERED
    rows, columns, channels = (*decoded.shape, 0)[:3]
    kind, size = decoded.dtype.kind.encode("ascii"), str(decoded.dtype.itemsize).encode("ascii")
    return ANSWER.pack(1, kind, size, rows, columns, channels)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    return stream.read(size)


def _end_with_parent(life: int) -> None:
    """The kernel ends this process when the pipe's other end is closed, also in the middle of a decoder's loop.

    A signal to the whole group (Ctrl-C, a service that is stopped) is the parent's to answer.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    try:
        os.read(life, 1)  # it had ended before we asked to be told
    except BlockingIOError:
        return
    os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
