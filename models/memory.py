"""What weights take in memory, computed from the number of parameters."""

from enum import StrEnum

GIB = 1 << 30


class Precision(StrEnum):
    """How weights are held in memory."""

    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"


BYTES_PER_PARAMETER = {Precision.FP32: 4.0, Precision.BF16: 2.0, Precision.INT8: 1.0, Precision.INT4: 0.5}


def weights_gib(parameters: float, precision: Precision) -> float:
    """GiB of ``parameters`` (in billions) at ``precision``: arithmetic, no cache and no activations."""
    return parameters * 1e9 * BYTES_PER_PARAMETER[precision] / GIB
