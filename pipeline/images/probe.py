"""Proof at start that every pinned decoder decodes: a codec that is missing or broken must not show as a
black film.
"""

import base64
import tomllib
import zlib
from importlib import resources

import numpy as np
import numpy.typing as npt

from pipeline.errors import FailStudy, StopRun
from pipeline.images import codecs

SIDE = 64
LOSSY_ERROR = {"1.2.840.10008.1.2.4.50": 2, "1.2.840.10008.1.2.4.51": 4}
"""Largest error allowed, in levels, for the syntaxes that lose something; all others must be exact."""


def probe_decoders() -> tuple[str, ...]:
    """Decode the stored frames of ``probe.toml`` and compare; returns the transfer syntaxes proved.

    Raises StopRun("decoder") naming the transfer syntax whose decoder is missing or wrong.
    """
    stored = tomllib.loads(resources.files(__package__).joinpath("probe.toml").read_text(encoding="ascii"))
    for syntax, encoded in stored.items():
        frame = zlib.decompress(base64.b64decode(encoded))
        try:
            decoded = _decoded(frame, syntax)
        except (FailStudy, ImportError):
            decoded = None
        if decoded is None or not _agrees(decoded, syntax):
            raise StopRun(
                "decoder",
                f"the decoder of transfer syntax {syntax} is missing or gives a wrong picture; "
                "install the packages of requirements.lock again",
            )
    return tuple(stored)


def probe_picture(syntax: str) -> npt.NDArray[np.uint16]:
    """The picture [64, 64] that the probe of ``syntax`` holds: 12 bits, 8 for JPEG baseline."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.uint16)
    if syntax == "1.2.840.10008.1.2.4.50":
        return np.asarray(x * 2 + y, np.uint16)
    return np.asarray((x * 61 + y * 3 + (x // 16) * (y // 16) * 97) % 4096, np.uint16)


def _decoded(frame: bytes, syntax: str) -> npt.NDArray[np.unsignedinteger]:
    if syntax == codecs.RLE:
        return codecs.decode_rle_frame(frame, SIDE, SIDE, 1, 16)
    return codecs.decode_frame(frame, syntax, SIDE, SIDE, 1)[0]


def _agrees(decoded: npt.NDArray[np.unsignedinteger], syntax: str) -> bool:
    error = np.abs(decoded.astype(np.int64) - probe_picture(syntax)).max()
    return bool(error <= LOSSY_ERROR.get(syntax, 0))
