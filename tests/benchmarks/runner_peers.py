"""What our runner of a graph is measured against: ONNX Runtime and OpenVINO, opened as most programs open them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from models.runners.encoder import EncoderSource
from models.runners.openvino_encoder import quiet_openvino

Run = Callable[[], dict[str, np.ndarray]]


def plain_session(graph: Path, source: EncoderSource, threads: int) -> Run:
    """ONNX Runtime as most programs open it: one session, ``threads`` threads inside an operator."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    names = list(source.outputs)
    return lambda: dict(zip(names, session.run(names, dict(source.inputs)), strict=True))


def openvino_sides(graph: Path, source: EncoderSource, threads: int) -> dict[str, Run]:
    """OpenVINO in float32, as one stream over all threads and as one stream a thread."""
    openvino = quiet_openvino()
    core, sides = openvino.Core(), {}
    for name, streams in {"openvino": 1, "openvino, streams": threads}.items():
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
        }
        compiled = core.compile_model(core.read_model(str(graph)), "CPU", options)
        parts = [
            {key: np.array_split(value, streams)[place] for key, value in source.inputs.items()}
            for place in range(streams)
        ]
        sides[name] = _streamed(openvino, compiled, parts, source.outputs)
        if threads == 1:
            break
    return sides


def _streamed(
    openvino: Any, compiled: Any, parts: list[dict[str, np.ndarray]], outputs: tuple[str, ...]
) -> Run:
    queue = openvino.AsyncInferQueue(compiled, len(parts))

    def run() -> dict[str, np.ndarray]:
        for part in parts:
            queue.start_async(part)
        queue.wait_all()
        return {
            name: np.concatenate([request.get_output_tensor(place).data for request in queue])
            for place, name in enumerate(outputs)
        }

    return run
