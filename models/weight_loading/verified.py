"""Loading weights safely: safetensors only, digests compared, no key missing or unexpected, a fixed input's answer.

``selfcheck.json`` beside the weights holds the SHA-256 of each file and what the network gave for a fixed
input when the file was written (``python -m models.training.selfcheck FOLDER``). Anything else found at load stops the
run.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from pipeline.errors import StopRun

SELF_CHECK_FILE = "selfcheck.json"
SAMPLES = 24
TOLERANCE = 2e-3
"""Largest accepted difference from the recorded answer, relative to the largest recorded value."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """``files``: SHA-256 per file name; ``expected``: evenly spaced values per output of the fixed input."""

    files: Mapping[str, str]
    expected: Mapping[str, tuple[float, ...]]
    tolerance: float = TOLERANCE

    def to_json(self) -> str:
        """The text of ``selfcheck.json``."""
        return json.dumps(asdict(self), indent=1) + "\n"


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file. Raises StopRun when it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise StopRun(
            "weights", f"{path.name} cannot be read ({error.strerror}); install the model again"
        ) from None


def read_weights(path: Path) -> dict[str, Floats]:
    """Every tensor of a safetensors file, by name. Raises StopRun when the file is not safetensors."""
    try:
        with safe_open(path, framework="numpy") as weights:
            return {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise StopRun("weights", f"{path.name} is not a readable safetensors file ({error})") from None


def check_keys(expected: Iterable[str], found: Iterable[str]) -> None:
    """Raises StopRun when a tensor is missing or unexpected, naming the first few."""
    wanted, held = set(expected), set(found)
    for word, names in (("missing", wanted - held), ("unexpected", held - wanted)):
        if names:
            some = ", ".join(sorted(names)[:3])
            message = (
                f"{len(names)} tensors {word} in the weights ({some}); they do not belong to this network"
            )
            raise StopRun("weights", message)


def read_self_check(folder: Path) -> SelfCheck:
    """The self-check of a weights folder. Raises StopRun when it is absent or cannot be read."""
    path = folder / SELF_CHECK_FILE
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        expected = {name: tuple(map(float, values)) for name, values in stored["expected"].items()}
        return SelfCheck(dict(stored["files"]), expected, float(stored["tolerance"]))
    except FileNotFoundError:
        message = f"{SELF_CHECK_FILE} is missing; write it with `python -m models.training.selfcheck FOLDER`"
        raise StopRun("weights", message) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise StopRun("weights", f"{SELF_CHECK_FILE} cannot be read; install the model again") from None


def verify_files(folder: Path, check: SelfCheck) -> None:
    """Raises StopRun for the first file whose digest is not the recorded one."""
    for name, digest in check.files.items():
        if file_digest(folder / name) != digest:
            raise StopRun("weights", f"{name} is not the file that was checked; install the model again")


def sample_outputs(outputs: Mapping[str, Floats]) -> dict[str, tuple[float, ...]]:
    """Evenly spaced values of each output, rounded to six digits."""
    sampled = {}
    for name, values in outputs.items():
        flat = values.ravel()
        places = np.linspace(0, flat.size - 1, min(SAMPLES, flat.size)).astype(int)
        sampled[name] = tuple(float(f"{value:.6g}") for value in flat[places])
    return sampled


def verify_outputs(check: SelfCheck, outputs: Mapping[str, Floats], tolerance: float = 0.0) -> None:
    """Raises StopRun when a runner's answer to the fixed input is not the recorded one.

    ``tolerance`` widens the recorded one for an engine in lower precision.
    """
    allowed = max(check.tolerance, tolerance)
    sampled = sample_outputs(outputs)
    for name, recorded in check.expected.items():
        wanted, got = np.array(recorded), np.array(sampled.get(name, ()))
        scale = float(np.abs(wanted).max(initial=1e-6))
        if wanted.shape != got.shape or not float(np.abs(wanted - got).max()) <= allowed * scale:
            message = (
                f"the network's {name} for the fixed input are not the recorded ones; do not draft with it"
            )
            raise StopRun("self-check", message)


def fixed_pixels(shape: tuple[int, ...]) -> Floats:
    """A pattern in 0..1 that is the same with every library version: the input of the self-check."""
    places = np.arange(int(np.prod(shape)), dtype=np.uint64)
    noise = (places * np.uint64(2654435761) % np.uint64(2**32)) / 2**32
    slow = 0.5 + 0.5 * np.sin(places / 977.0)
    return (0.25 * noise + 0.75 * slow).astype(np.float32).reshape(shape)
