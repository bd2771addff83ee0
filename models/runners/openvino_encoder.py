"""Graphs of convolutions on OpenVINO, where ``firstread[segmentation]`` brought it and the CPU is what runs them.

ONNX Runtime convolves three dimensions by copying every neighbourhood out first; OpenVINO does not. Two things are done
otherwise than it would:

- Its normalisation adds up a whole window in one float, which loses two digits of seven. Means are taken axis by
  axis here; a clamp that changes nothing stands between, since OpenVINO would merge them again.
- ``import openvino`` sends an event to an analytics service of its makers where ``openvino_telemetry`` is installed, as
  it is beside every wheel. That package is withheld while it is imported, and nothing is sent.
"""

import json
import logging
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.runners.encoder import TOLERANCE, Arrays, OnnxEncoder, graph_digest, largest_error
from models.weight_loading.verified import fixed_pixels

RUNNER = "openvino-cpu"
PROOF_FILE = "openvino.json"
_LARGEST = 3e38
_WITHHELD = "openvino_telemetry"

log = logging.getLogger(__name__)


class OpenVinoEncoder:
    """A graph of one input [n, ...], the other axes of known size, row by row; as many rows at once as threads."""

    runner = RUNNER

    def __init__(self, graph: Path, *, threads: int = 0) -> None:
        """Compile ``graph``. ``threads`` 0: every core."""
        openvino = quiet_openvino()
        workers = threads or len(os.sched_getaffinity(0))
        core = openvino.Core()
        model = core.read_model(str(graph))
        self.shape = tuple(one.get_length() for one in list(model.input(0).get_partial_shape())[1:])
        model.reshape([1, *self.shape])
        _steady(model)
        self._compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",  # it takes bfloat16 unasked where the processor has it
                "INFERENCE_NUM_THREADS": workers,
                "NUM_STREAMS": workers,
                "ENABLE_CPU_PINNING": False,
            },
        )
        self.processor = str(core.get_property("CPU", "FULL_DEVICE_NAME"))
        self.input = next(iter(model.input(0).get_names()))
        self._outputs = [next(iter(one.get_names())) for one in model.outputs]
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(workers):
            self._free.put(self._compiled.create_infer_request())
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="encoder")

    def encode(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """See :class:`~models.runners.encoder.VisionEncoder`."""
        rows = np.ascontiguousarray(inputs[self.input], np.float32)
        results = list(self._pool.map(self._run, np.split(rows, len(rows))))
        return {name: np.concatenate([result[name] for result in results]) for name in self._outputs}

    def _run(self, row: NDArray[np.float32]) -> Arrays:
        request = self._free.get()
        try:
            found = request.infer({0: row}, share_inputs=True, share_outputs=True)
            return {name: found[place].copy() for place, name in enumerate(self._outputs)}
        finally:
            self._free.put(request)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()


def open_openvino(graph: Path, *, threads: int = 0) -> OpenVinoEncoder | None:
    """``graph`` on OpenVINO, proved against ONNX Runtime; None where it is not installed, or does not compute the same.

    The proof is one window of a fixed pattern, kept beside the graph for this processor and version.
    """
    try:
        installed = version("openvino")
    except PackageNotFoundError:
        return None
    try:
        encoder = OpenVinoEncoder(graph, threads=threads)
        error = _proved(encoder, graph, installed)
    except (
        ImportError,
        RuntimeError,
        ValueError,
    ) as problem:  # no file for this machine, an operator it does not know
        log.warning(
            "OpenVINO does not run this network (%s); ONNX Runtime does, slower", type(problem).__name__
        )
        return None
    if error <= TOLERANCE:
        return encoder
    encoder.__exit__(None, None, None)
    log.warning("OpenVINO is %.1e away from ONNX Runtime for this network, which runs it, slower", error)
    return None


def _proved(encoder: OpenVinoEncoder, graph: Path, installed: str) -> float:
    """How far it is from ONNX Runtime, relative to the largest value."""
    proof, told = graph.with_name(PROOF_FILE), [installed, encoder.processor, graph_digest(graph)]
    try:
        held = json.loads(proof.read_text(encoding="utf-8"))
        if held["of"] == told:
            return float(held["error"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    pattern = fixed_pixels((1, *encoder.shape)) * np.float32(2) - np.float32(1)
    with OnnxEncoder(graph, threads=1) as other:
        given = {encoder.input: pattern}
        error = largest_error(encoder.encode(given), other.encode(given))
    part = proof.with_name(f".{PROOF_FILE}.{os.getpid()}")
    try:
        part.write_text(json.dumps({"of": told, "error": error}) + "\n", encoding="utf-8")
        part.replace(proof)
    except OSError:
        log.warning("what proves OpenVINO's answers cannot be kept; it is done again at the next start")
    return error


def _steady(model: Any) -> None:
    """Every mean and variance of a normalisation axis by axis, in place."""
    from openvino import opset13 as ops
    from openvino.utils import replace_node

    def mean(values: Any, axes: list[int]) -> Any:
        for axis in axes:
            reduced = ops.reduce_mean(values, np.array([axis], np.int64), True)
            values = ops.clamp(reduced, -_LARGEST, _LARGEST)
        return values

    for node in model.get_ops():
        if node.get_type_name() != "MVN":
            continue
        said, values = node.get_attributes(), node.input_value(0)
        rank = len(values.get_partial_shape())
        axes = sorted((int(one) % rank for one in node.input_value(1).get_node().get_vector()), reverse=True)
        if not said["normalize_variance"] or str(said["eps_mode"]).upper() != "INSIDE_SQRT":
            continue  # none of ours; the proof decides
        apart = ops.subtract(values, mean(values, axes))
        spread = ops.sqrt(ops.add(mean(ops.multiply(apart, apart), axes), np.float32(said["eps"])))
        replace_node(node, ops.divide(apart, spread))


def quiet_openvino() -> Any:
    """The module; while it is imported the package that sends its events is not there."""
    held = sys.modules.get(_WITHHELD)
    sys.modules[_WITHHELD] = None  # type: ignore[assignment]  # what makes an import fail
    try:
        return import_module("openvino")
    finally:
        if held is None:
            del sys.modules[_WITHHELD]
        else:
            sys.modules[_WITHHELD] = held
