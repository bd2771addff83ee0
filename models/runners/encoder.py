"""Vision encoders: one ONNX graph per model (tower and projector), run by the best runner of the machine.

    tensorrt            a native engine compiled for this GPU, or tensorrt-rtx (models.runners.engine)
    onnxruntime-cuda    ONNX Runtime with its CUDA provider
    onnxruntime-cpu     ONNX Runtime on the CPU
    openvino-cpu        OpenVINO: segmenters, and whatever a site names it for (models.runners.openvino_encoder)
    torch               the network itself: the reference the others are measured against

ONNX Runtime falls back to the CPU silently, so what runs is asked of the session, never assumed.
"""

import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.runners.graph_file import WEIGHTS_SUFFIX, write_graph
from models.runners.long_attention import cpu_graph, write_cpu_graph
from models.weight_loading.verified import file_digest
from pipeline.errors import StopRun

Arrays = dict[str, NDArray[Any]]
RUNNER_OF_PROVIDER = {
    "TensorrtExecutionProvider": "onnxruntime-tensorrt",
    "CUDAExecutionProvider": "onnxruntime-cuda",
    "CPUExecutionProvider": "onnxruntime-cpu",
}
EXPORT_SOURCES = tuple(
    Path(__file__).with_name(name)
    for name in ("encoder.py", "graph_file.py", "graph_rewriting.py", "long_attention.py")
)
"""The sources that shape every exported graph."""
OPSET = 23
"""The first with Attention as one operator."""
TOLERANCE = 1e-4
"""Largest accepted difference from torch in float32, relative to the largest value of the output."""
APART_BYTES = 32_000_000
"""Weights of more bytes lie in a file beside their graph: ONNX Runtime maps it, where a message of them all is copied
while it is read. At 2 GB there is no choice, for an ONNX file is one protobuf message."""
PIECE_BYTES = 1_250_000
"""What a CPU worker is given at once: two images of 224 px. Of more, the activations leave a core's own cache."""

log = logging.getLogger(__name__)


class VisionEncoder(Protocol):
    """Runs a model's encoder graph; a context manager whose ``encode`` may be called from several threads."""

    runner: str

    def encode(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Outputs by name, each [n, ...], for inputs by name that share their first axis n."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Lengths:
    """A second dynamic axis that all inputs share: its name, what its size is a multiple of, and its range."""

    name: str
    multiple: int
    smallest: int
    best: int
    largest: int


@dataclass(frozen=True, slots=True)
class EncoderSource:
    """What is exported: a torch module, an example batch of two for its inputs by name in order, its outputs' names."""

    module: Any
    inputs: Mapping[str, NDArray[Any]]
    outputs: tuple[str, ...]
    lengths: Lengths | None = None

    @property
    def size(self) -> int:
        """Bytes of the module's weights."""
        return sum(value.numel() * value.element_size() for value in self.module.parameters())


class OnnxEncoder:
    """An encoder graph on ONNX Runtime.

    On the CPU every worker thread runs pieces of the batch on one core, so that it never waits inside an
    operator for a core that another stage holds. A row's result does not depend on the rows beside it. There it runs
    the graph that ``models.runners.long_attention`` wrote beside ``graph``, where it did.
    """

    def __init__(self, graph: Path, *, provider: str = "CPUExecutionProvider", threads: int = 0) -> None:
        """Open ``graph`` asking for ``provider``; ``runner`` says what was really given. ``threads`` 0: every core."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        with warnings.catch_warnings():
            # an unavailable provider is a warning to ONNX Runtime; here the session itself is asked below
            warnings.simplefilter("ignore", UserWarning)
            own = cpu_graph(graph)
            chosen = own if provider == "CPUExecutionProvider" and own.is_file() else graph
            self._session = ort.InferenceSession(str(chosen), options, providers=[provider])
        self.runner = RUNNER_OF_PROVIDER[self._session.get_providers()[0]]
        self._outputs = [output.name for output in self._session.get_outputs()]
        workers = threads or len(os.sched_getaffinity(0))
        self._workers = workers if self.runner == "onnxruntime-cpu" else 1
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="encoder")

    def encode(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """See :class:`VisionEncoder`."""
        pieces = [slice(start, stop) for start, stop in pairwise(self._edges(inputs))]
        results = list(
            self._pool.map(lambda piece: self._run({k: v[piece] for k, v in inputs.items()}), pieces)
        )
        return {name: np.concatenate([result[name] for result in results]) for name in self._outputs}

    def _edges(self, inputs: Mapping[str, NDArray[Any]]) -> list[int]:
        """Where the rows are cut into pieces: as many for each worker, and no piece much larger than PIECE_BYTES."""
        count = len(next(iter(inputs.values())))
        pieces = 1
        if self.runner == "onnxruntime-cpu":
            given = sum(values.nbytes for values in inputs.values())
            each = max(1, round(given / PIECE_BYTES / self._workers))
            pieces = max(1, min(count, each * self._workers))
        return [count * piece // pieces for piece in range(pieces + 1)]

    def _run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        outputs = self._session.run(self._outputs, dict(inputs))
        return dict(zip(self._outputs, outputs, strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()


class TorchEncoder:
    """The network itself, in torch, on its own device."""

    runner = "torch"

    def __init__(self, source: EncoderSource) -> None:
        """Run ``source.module``, in evaluation mode."""
        self._source = source

    def encode(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """See :class:`VisionEncoder`."""
        import torch  # a drafting process on ONNX Runtime starts without the seconds that torch takes

        device = next(self._source.module.parameters()).device
        given = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in self._source.inputs]
        with torch.inference_mode():
            outputs = self._source.module(*(values.to(device) for values in given))
        return {name: value.cpu().numpy() for name, value in zip(self._source.outputs, outputs, strict=True)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


def export_encoder(
    source: EncoderSource, path: Path, *, reference: EncoderSource | None = None, tolerance: float = TOLERANCE
) -> float:
    """Write ``source`` as ONNX with a dynamic batch and prove it; returns the largest relative error.

    The error is against torch running ``reference``, by default the source itself. The file's bytes depend on
    network, weights and library versions only. Weights of more than ``APART_BYTES`` go into a file of their own
    beside it, ``path`` with ``WEIGHTS_SUFFIX``. Where ONNX Runtime has a better graph on the CPU it is written and
    proved too (``models.runners.long_attention``). Raises StopRun above ``tolerance``.
    """
    write_graph(_export(source), path, apart=source.size > APART_BYTES)
    with TorchEncoder(reference or source) as network:
        wanted = network.encode(source.inputs)
    error = _error(path, source, wanted)
    if write_cpu_graph(path):
        error = max(error, _error(path, source, wanted))
    if not error <= tolerance:
        raise StopRun(
            "encoder-export", f"the exported encoder is {error:.1e} away from torch, over {tolerance:.0e}"
        )
    return error


def _error(path: Path, source: EncoderSource, wanted: Arrays) -> float:
    with OnnxEncoder(path, threads=1) as exported:
        return largest_error(exported.encode(source.inputs), wanted)


def _export(source: EncoderSource) -> Any:
    """The graph as an ``onnx_ir.Model``."""
    import torch

    axes: dict[int, Any] = {0: torch.export.Dim("batch", min=2, max=4096)}
    if source.lengths is not None:
        multiple = source.lengths.multiple
        axes[1] = multiple * torch.export.Dim(f"{source.lengths.name}_{multiple}", min=2, max=16384)
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own notes on its inner calls
            program = torch.onnx.export(
                source.module.eval(),
                tuple(torch.from_numpy(values) for values in source.inputs.values()),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=list(source.inputs),
                output_names=list(source.outputs),
                dynamic_shapes=tuple(axes for _ in source.inputs),
            )
    finally:
        quiet.setLevel(level)
    if program is None:
        raise StopRun("encoder-export", "torch gave no ONNX program for the encoder")
    return program.model


def graph_digest(graph: Path) -> str:
    """SHA-256 of a graph: of its file, and where its weights lie in a file of their own, of both digests."""
    weights = graph.with_name(graph.name + WEIGHTS_SUFFIX)
    if not weights.is_file():
        return file_digest(graph)
    return hashlib.sha256(f"{file_digest(graph)} {file_digest(weights)}".encode()).hexdigest()


def largest_error(values: Mapping[str, NDArray[Any]], reference: Mapping[str, NDArray[Any]]) -> float:
    """Largest difference over all outputs, each relative to the largest value of its reference."""
    errors = []
    for name, wanted in reference.items():
        scale = float(np.abs(wanted).max()) or 1.0
        errors.append(float(np.abs(values[name] - wanted).max()) / scale)
    return max(errors)


def open_encoder(
    graph: Path,
    *,
    require_runner: str = "",
    threads: int = 0,
    engine: Callable[[], VisionEncoder | None] = lambda: None,
) -> VisionEncoder:
    """The best runner for ``graph``; ``engine`` opens what is better than ONNX Runtime where there is such a thing.

    Raises StopRun when ``require_runner`` is named and another would run.
    """
    native = engine()
    if native is not None:
        return native
    provider = "CPUExecutionProvider"
    if (
        require_runner in ("", "onnxruntime-cuda")
        and "CUDAExecutionProvider" in ort.get_available_providers()
    ):
        provider = "CUDAExecutionProvider"
    encoder = OnnxEncoder(graph, provider=provider, threads=threads)
    if require_runner and encoder.runner != require_runner:
        raise StopRun(
            "runner",
            f"the encoder runs on {encoder.runner}, not on {require_runner} as demanded: install what that "
            "needs (for tensorrt: `firstread models compile` on this machine) or change model.require_runner",
        )
    log.info("the encoder runs on %s", encoder.runner)
    return encoder
