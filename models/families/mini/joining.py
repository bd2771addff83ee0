"""What the joiner of firstread-mini takes of its encoder, and the fixed input that it is checked with."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

READ = ("tokens", "presence", "boxes", "organs", "landmarks", "severity", "zone", "state", "region")
"""What the joiner takes of the encoder's outputs: the fields of ``models.networks.mini.Readout``."""


def fixed_joining(outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """What the self-check asks of the joiner: the first task, each film compared with itself, a box in the middle."""
    count = len(outputs["tokens"])
    ones = np.ones(count, np.float32)
    return {
        **{name: outputs[name] for name in READ},
        "task": np.zeros(count, np.int64),
        "side": outputs["presence"],
        "sided": ones,
        "before": outputs["state"],
        "compared": ones,
        "box": np.tile(np.array([0.25, 0.25, 0.75, 0.75], np.float32), (count, 1)),
    }
