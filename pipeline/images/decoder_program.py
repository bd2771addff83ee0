"""The program of a decoder's own process: run as a file, it knows no DICOM and imports nothing of ours.

It shares a block of memory with the process that started it: the compressed frame is read there, the decoded picture is
written there. A request and its answer are one small record each, on standard input and output. Beside these it can
reach programs and libraries, to read them, where the kernel has Landlock: no other file, no network, no other process.
"""

import ctypes
import fcntl
import io
import mmap
import os
import resource
import signal
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
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
SRGB = "srgb"
"""Brings an RGB picture to sRGB by its ICC profile: ``PROFILED``, the profile, the pixels as they are."""
PROFILED = struct.Struct("<III")
"""Rows, columns, bytes of the profile."""
REDUCED = {"jpeg8-2": 2, "jpeg8-4": 4, "jpeg8-8": 8}
"""By how much JPEGs in colours are reduced while libjpeg decodes them, by way of Pillow; many come as one (``packed``),
and their pictures, all of one size, lie below each other.
"""
RECOMPRESSED = b"jbrd"
"""The box of a JPEG XL container that says how to give the JPEG back (ISO/IEC 18181-2 section 9)."""


_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
"""System calls, of the same numbers on every architecture (linux/landlock.h)."""
_NO_NEW_PRIVILEGES = 38
_OF_FILES = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
"""Rights over files that can be taken away, by the version of Landlock that knows them."""
_EXECUTE_AND_READ = 0b1101
"""LANDLOCK_ACCESS_FS_EXECUTE, READ_FILE and READ_DIR."""
_READ_ONE_FILE = 0b100


def picture_offset(frame_bytes: int) -> int:
    """Where the picture begins in the shared memory: behind the frame, at a page."""
    return -(-frame_bytes // PAGE) * PAGE


def packed(frames: Sequence[bytes]) -> bytes:
    """Several frames as one that a decoder of ``REDUCED`` takes."""
    return b"".join([struct.pack(f"<{len(frames) + 1}I", len(frames), *map(len, frames)), *frames])


def serve(memory: int, life: int) -> None:
    """Answer requests until standard input ends. ``life`` is a pipe whose other end only the parent holds."""
    _end_with_parent(life)
    confine()
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
    import numpy as np  # here and not above: who starts this program reads its records and decodes nothing

    frame = shared[:frame_bytes]
    try:
        decoded = _in_srgb(frame) if name == SRGB else _decoded(name, frame)
        if decoded.nbytes > picture_bytes or not 2 <= decoded.ndim <= 3:
            return ANSWERED
        np.frombuffer(shared, decoded.dtype, decoded.size, offset).reshape(decoded.shape)[...] = decoded
    except Exception:  # noqa: BLE001 - whatever a decoder raises means that the frame is damaged
        return ANSWERED
    rows, columns, channels = (*decoded.shape, 0)[:3]
    kind, size = decoded.dtype.kind.encode("ascii"), str(decoded.dtype.itemsize).encode("ascii")
    return ANSWER.pack(1, kind, size, rows, columns, channels)


def _decoded(name: str, frame: bytes) -> Any:
    """The picture as an array; raises whatever the decoder does."""
    import imagecodecs

    if name in REDUCED:
        return _reduced(frame, REDUCED[name])
    function, options = DECODERS[name]
    if name == "jpegxl" and RECOMPRESSED in frame[:4096]:  # the JPEG that it was made from, to the bit
        function, options = DECODERS["jpeg8"]
        frame = bytes(imagecodecs.jpegxl_decode_jpeg(frame, numthreads=THREADS))
    return getattr(imagecodecs, function)(frame, **options)


def _reduced(frame: bytes, scale: int) -> Any:
    """JPEGs that came as one (``packed``), each a ``scale``-th of its size, below each other."""
    import numpy as np
    from PIL import Image

    (count,) = struct.unpack_from("<I", frame)
    place, pictures = 4 + 4 * count, []
    for length in struct.unpack_from(f"<{count}I", frame, 4):
        image = Image.open(io.BytesIO(frame[place : place + length]), formats=["JPEG"])
        image.draft("RGB", (image.width // scale, image.height // scale))
        pictures.append(np.asarray(image.convert("RGB")))
        place += length
    return np.concatenate(pictures)


def _in_srgb(frame: bytes) -> Any:
    """uint8 [rows, columns, 3] by the profile; raises ValueError for one that is none of RGB input."""
    import numpy as np
    from PIL import Image, ImageCms

    rows, columns, size = PROFILED.unpack_from(frame)
    pixels = PROFILED.size + size
    source = ImageCms.ImageCmsProfile(io.BytesIO(frame[PROFILED.size : pixels]))
    if source.profile.xcolor_space.strip() != "RGB":
        raise ValueError
    picture = Image.frombytes("RGB", (columns, rows), frame[pixels:])
    shown = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return np.asarray(shown, np.uint8)


def confine() -> None:
    """What a process that only decodes does before it reads a byte of a file."""
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
        score.write("800")  # memory runs out: this one, not the run
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a film is of a patient, and is left in no file
    shut_in()


def landlock_version() -> int:
    """The version of Landlock that the kernel has; less than 1 where it has none, or not turned on."""
    return int(ctypes.CDLL(None, use_errno=True).syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1))


def shut_in() -> bool:
    """From now on this process reaches no file but programs and libraries, to read, and nobody else (landlock(7)).

    What is open stays open. False where the kernel has no Landlock: then nothing is taken away. Called before there is
    a second thread, which it would not hold for.
    """
    version = landlock_version()
    if version < 1:
        return False
    kernel = ctypes.CDLL(None, use_errno=True).syscall
    files = sum(rights for known, rights in _OF_FILES.items() if known <= version)
    network, others = 0b11 * (version >= 4), 0b11 * (version >= 6)
    rules = struct.pack("<QQQ", files, network, others)
    ruleset = kernel(_LANDLOCK_CREATE, rules, ctypes.c_size_t(len(rules)), 0)
    if ruleset < 0:
        return False
    for place in _of_programs():
        with suppress(OSError):  # a place that there is not
            opened = os.open(place, os.O_PATH | os.O_CLOEXEC)
            rights = _EXECUTE_AND_READ if place.is_dir() else _READ_ONE_FILE
            kernel(_LANDLOCK_ADD, ruleset, 1, struct.pack("<Qi", rights, opened), 0)
            os.close(opened)
    ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    done: bool = kernel(_LANDLOCK_RESTRICT, ruleset, 0) == 0
    os.close(ruleset)
    return done


def _of_programs() -> set[Path]:
    """Where the interpreter, its packages and the system's libraries are."""
    packages = [find_spec(name) for name in ("imagecodecs", "numpy", "PIL")]
    homes = [Path(one.origin).parents[1] for one in packages if one and one.origin]
    return {
        *homes,
        *map(Path, (sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64", "/etc/ld.so.cache")),
    }


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
