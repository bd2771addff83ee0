"""An encoder graph with its constant matrix products in 8-bit integers: faster on a CPU. No runner takes it unasked.

Weights are int8 per output channel, activations are measured per run and row block (dynamic quantisation of ONNX
Runtime), so no calibration images are needed. Convolutions, attention scores and norms stay in float32. On a CPU
without VNNI instructions weights use 7 bits: the 8-bit products of such CPUs saturate.
"""

import logging
import os
import tempfile
import warnings
from pathlib import Path

import onnxruntime as ort
from onnx.checker import ValidationError

from pipeline.errors import StopRun

INT8_FILE = "encoder.int8.onnx"
INT8_TOLERANCE = 0.1
"""Largest accepted difference of the quantised encoder from float32, relative to the largest value of an output."""
_CPU_FLAGS = Path("/proc/cpuinfo")


def quantised_graph(graph: Path) -> Path:
    """The quantised copy of ``graph`` beside it, made where it is not there yet; whole or not at all.

    It belongs to the folder of ``graph``, whose name is a digest over weights, sources and libraries, so it is never
    stale. Raises StopRun where the graph cannot be quantised.
    """
    from onnxruntime.quantization import (
        QuantType,
        quantize_dynamic,
    )  # slow to import, and only this choice needs it

    made = graph.with_name(f"{ort.__version__}-{'8' if has_vnni() else '7'}bit-{INT8_FILE}")
    if made.is_file():
        return made
    number, part = tempfile.mkstemp(prefix=".making-", suffix=".onnx", dir=graph.parent)
    os.close(number)
    root = logging.getLogger()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            root.addFilter(_no_advice)
            quantize_dynamic(
                graph,
                Path(part),
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=not has_vnni(),
                op_types_to_quantize=["MatMul", "Gemm"],
            )
        Path(part).replace(made)
    except (OSError, ValueError, RuntimeError, ValidationError) as error:
        raise StopRun(
            "quantise",
            f"the encoder cannot be run in 8 bits ({type(error).__name__}): run it in fp32",
        ) from None
    finally:
        root.removeFilter(_no_advice)
        Path(part).unlink(missing_ok=True)
    return made


def _no_advice(record: logging.LogRecord) -> bool:
    """Drop the quantiser's advice to run a pre-processing that changes nothing for these graphs."""
    return "pre-processing before quantization" not in record.getMessage()


def has_vnni(flags: str = "") -> bool:
    """Whether this CPU multiplies 8-bit integers without saturating (AVX-VNNI, AVX512-VNNI or ARM dot products)."""
    known = flags or (
        _CPU_FLAGS.read_text(encoding="utf-8", errors="replace") if _CPU_FLAGS.is_file() else ""
    )
    return any(flag in known for flag in ("avx512_vnni", "avx_vnni", "asimddp"))
