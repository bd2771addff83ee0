"""Graphs on OpenVINO, where ``firstread[openvino]`` brought it and the CPU is what runs them.

ONNX Runtime convolves three dimensions by copying every neighbourhood out first; OpenVINO does not, and runs segmenters
unasked. A tower runs on it where the site names it (``model.require_runner``). Two things are done otherwise than it
would:

- Its normalisation adds up a whole window in one float, which loses two digits of seven. Means over several axes are
  taken axis by axis here; a clamp that changes nothing stands between, since OpenVINO would merge them again.
- ``import openvino`` sends an event to an analytics service of its makers where ``openvino_telemetry`` is installed, as
  it is beside every wheel. That package is withheld while it is imported, and nothing is sent.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.runners.encoder import TOLERANCE, Arrays, OnnxEncoder, VisionEncoder, graph_digest, largest_error
from models.weight_loading.verified import fixed_pixels
from pipeline.errors import StopRun

RUNNER = "openvino-cpu"
PROOF_FILE = "openvino.json"
_LARGEST = 3e38
_WITHHELD = "openvino_telemetry"
_NOT_RUN = (ImportError, RuntimeError, ValueError)
"""What it raises without a file for this machine, or for an operator that it does not know."""

log = logging.getLogger(__name__)


class OpenVinoEncoder:
    """A graph of inputs [n, ...], row by row, as many rows at once as threads.

    So a row's result does not depend on the rows beside it. An axis of no fixed size is as long as the batch has it.
    """

    runner = RUNNER

    def __init__(self, graph: Path, *, threads: int = 0) -> None:
        """Compile ``graph``. ``threads`` 0: every core."""
        openvino = quiet_openvino()
        workers = threads or len(os.sched_getaffinity(0))
        core = openvino.Core()
        model = core.read_model(str(graph))
        self._inputs = {one.get_any_name(): one.get_element_type().to_dtype() for one in model.inputs}
        shapes = {one.get_any_name(): list(one.get_partial_shape())[1:] for one in model.inputs}
        model.reshape({name: openvino.PartialShape([1, *sizes]) for name, sizes in shapes.items()})
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
        self.shapes = {name: tuple(map(_length, sizes)) for name, sizes in shapes.items()}
        self._outputs = [one.get_any_name() for one in model.outputs]
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(workers):
            self._free.put(self._compiled.create_infer_request())
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="encoder")

    def encode(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """See :class:`~models.runners.encoder.VisionEncoder`."""
        given = {name: np.ascontiguousarray(inputs[name], kind) for name, kind in self._inputs.items()}
        count = len(next(iter(given.values())))
        rows = [{name: values[row : row + 1] for name, values in given.items()} for row in range(count)]
        results = list(self._pool.map(self._run, rows))
        return {name: np.concatenate([result[name] for result in results]) for name in self._outputs}

    def _run(self, row: Arrays) -> Arrays:
        request = self._free.get()
        try:
            found = request.infer(row, share_inputs=True, share_outputs=True)
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
    """A segmenter's ``graph``, proved against ONNX Runtime; None where it is not installed, or computes another thing.

    The proof is one window of a fixed pattern, kept beside the graph for this processor and version.
    """
    try:
        return _opened(graph, threads, _pattern)
    except PackageNotFoundError:
        return None
    except _NOT_RUN as problem:
        log.warning(
            "OpenVINO does not run this network (%s); ONNX Runtime does, slower", type(problem).__name__
        )
    except StopRun as apart:
        log.warning("%s: ONNX Runtime runs it, slower", apart.message)
    return None


def demand_openvino(graph: Path, example: Callable[[], Arrays], *, threads: int = 0) -> OpenVinoEncoder:
    """``graph``, which a site wants to run on OpenVINO, proved against ONNX Runtime on the inputs of ``example``.

    The proof is kept as in ``open_openvino``. Raises StopRun where OpenVINO is not installed, does not run the graph,
    or computes another thing.
    """
    try:
        return _opened(graph, threads, lambda _: example())
    except PackageNotFoundError:
        problem = "it is not installed (pip install 'firstread[openvino]')"
    except StopRun as apart:
        problem = apart.message
    except _NOT_RUN as error:
        problem = f"it does not run this network ({type(error).__name__})"
    message = f"the encoder cannot run on {RUNNER}, {problem}: mend that or change model.require_runner"
    raise StopRun("runner", message)


def openvino_parts(encoder: VisionEncoder) -> dict[str, str]:
    """What belongs into the recipe where ``encoder`` is on OpenVINO; nothing elsewhere."""
    return {"openvino": version("openvino")} if isinstance(encoder, OpenVinoEncoder) else {}


def _opened(graph: Path, threads: int, example: Callable[[OpenVinoEncoder], Arrays]) -> OpenVinoEncoder:
    """Proved; raises PackageNotFoundError, one of ``_NOT_RUN``, or StopRun where the proof fails."""
    installed = version("openvino")
    encoder = OpenVinoEncoder(graph, threads=threads)
    try:
        error = _proved(encoder, graph, installed, example)
        if not error <= TOLERANCE:
            raise StopRun("runner", f"OpenVINO is {error:.1e} away from ONNX Runtime for this network")
    except BaseException:
        encoder.__exit__(None, None, None)
        raise
    return encoder


def _pattern(encoder: OpenVinoEncoder) -> Arrays:
    """One row of every input, which all are of fixed size, between -1 and 1."""
    return {
        name: fixed_pixels((1, *shape)) * np.float32(2) - np.float32(1)
        for name, shape in encoder.shapes.items()
    }


def _proved(
    encoder: OpenVinoEncoder, graph: Path, installed: str, example: Callable[[OpenVinoEncoder], Arrays]
) -> float:
    """How far it is from ONNX Runtime, relative to the largest value."""
    proof, told = graph.with_name(PROOF_FILE), [installed, encoder.processor, graph_digest(graph)]
    try:
        held = json.loads(proof.read_text(encoding="utf-8"))
        if held["of"] == told:
            return float(held["error"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    given = example(encoder)
    with OnnxEncoder(graph, threads=1) as other:
        error = largest_error(encoder.encode(given), other.encode(given))
    part = proof.with_name(f".{PROOF_FILE}.{os.getpid()}")
    try:
        part.write_text(json.dumps({"of": told, "error": error}) + "\n", encoding="utf-8")
        part.replace(proof)
    except OSError:
        log.warning("what proves OpenVINO's answers cannot be kept; it is done again at the next start")
    return error


def _length(size: Any) -> int:
    """Of an axis; 0 where it has no fixed size."""
    return 0 if size.is_dynamic else int(size.get_length())


def _steady(model: Any) -> None:
    """Every mean and variance of a normalisation over several axes axis by axis, in place."""
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
        over = node.input_value(1).get_node()
        named = over.get_vector() if over.get_type_name() == "Constant" else ()
        axes = sorted((int(one) % rank for one in named), reverse=True)
        if len(axes) < 2:
            continue  # a LayerNormalization, which is over a token
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
