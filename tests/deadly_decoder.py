"""Makes imagecodecs' JPEG-LS decoder deadly for one frame, from outside: by a ``sitecustomize`` that Python finds.

What it does to that frame is a line of Python; everything else is decoded as ever.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.encaps import generate_frames

from pipeline import dicom_writer as writer
from tests.synthetic import chest_pixels, radiograph_header, write_chest

HOOK = """
import hashlib, os, signal, sys, time
if any(one.endswith("decoder_program.py") for one in sys.orig_argv):
    import imagecodecs
    plain = imagecodecs.jpegls_decode
    noted = open({seen!r}, "a", buffering=1)  # now: a decoder at work opens no file but libraries
    def jpegls_decode(frame, **options):
        if hashlib.sha256(frame).hexdigest() == {digest!r}:
            noted.write(f"{{os.getpid()}}\\n")
            {deed}
        return plain(frame, **options)
    imagecodecs.jpegls_decode = jpegls_decode
"""
SYNTAX = writer.JPEG_LS_LOSSLESS


def pixels(number: int) -> npt.NDArray[np.uint16]:
    """The film of study ``number`` [rows, columns]: each has another frame."""
    return np.roll(chest_pixels(256, 256), number, axis=1)


def write_study(folder: Path, number: int, instance: int = 1) -> Path:
    """A film in JPEG-LS, of a study of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    header = radiograph_header(f"deadly-{number}", instance=instance)
    path = folder / f"{number}-{instance}.dcm"
    return write_chest(path, header, pixels=pixels(number + 50 * instance), transfer_syntax=SYNTAX)


def deadly(folder: Path, frame: bytes, deed: str) -> Mapping[str, str]:
    """The environment in which decoding ``frame`` does ``deed``; see ``seen`` for the processes that met it."""
    folder.mkdir(parents=True, exist_ok=True)
    hook = HOOK.format(digest=hashlib.sha256(frame).hexdigest(), seen=str(folder / "seen"), deed=deed)
    (folder / "sitecustomize.py").write_text(hook, encoding="utf-8")
    return {"PYTHONPATH": str(folder)}


def seen(folder: Path) -> list[int]:
    """Process ids of the decoders that were given the frame, in order."""
    path = folder / "seen"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def told(folder: Path) -> str:
    """What ``deed`` said in the one decoder that met the frame, by ``print(..., file=noted)``."""
    return (folder / "seen").read_text().partition("\n")[2]


def frame_of(path: Path) -> bytes:
    """The film's frame, as a decoder is given it."""
    frame = next(generate_frames(dcmread(path).PixelData, number_of_frames=1))
    return frame[: frame.rfind(b"\xff\xd9") + 2]


def alive(process: int) -> bool:
    """Whether there is such a process, and no zombie, which an init that reaps nobody leaves."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
