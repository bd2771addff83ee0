"""A family's tower and projector: its graph, exported into the cache, and the runner that really runs it."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnxruntime as ort

from models.runners.encoder import (
    EXPORT_SOURCES,
    TOLERANCE,
    EncoderSource,
    TorchEncoder,
    VisionEncoder,
    export_encoder,
    open_encoder,
)
from models.runners.engine import EngineEncoder, open_best_engine
from models.runners.graph_cache import ENCODER_FILE, Exported, GraphFolder, ensure_graphs, find_graphs
from models.runners.openvino_encoder import RUNNER as OPENVINO
from models.runners.openvino_encoder import demand_openvino, open_openvino, openvino_parts
from models.weight_loading.memory import give_back_memory

SHAPING = (Path(__file__), *EXPORT_SOURCES)
"""Sources that shape the graph of every tower."""
LARGE_BYTES = 1_900_000_000
"""A tower of more bytes takes minutes and several times its memory to export: that is not done unasked."""


@dataclass(frozen=True, slots=True)
class Tower:
    """A tower as its family describes it, before anything is exported.

    ``files`` are the SHA-256 of the weights it came from, ``shaping`` the sources that shape its graph. ``source``
    gives the module in float32 on the CPU, ``size`` its bytes there; ``running`` gives it where and as the network is
    loaded, ``on_gpu`` where that is a GPU. A ``convolving`` one runs on OpenVINO unasked, if the CPU runs it.
    """

    model_id: str
    files: Mapping[str, str]
    shaping: tuple[Path, ...]
    source: Callable[[], EncoderSource]
    running: Callable[[], EncoderSource]
    size: int
    on_gpu: bool = False
    convolving: bool = False


def ensure_tower(tower: Tower, cache: Path) -> GraphFolder:
    """The exported graph under ``cache``. Raises StopRun where it does not compute what the network does."""

    def export(folder: Path) -> Exported:
        return Exported(export_encoder(tower.source(), folder / ENCODER_FILE), TOLERANCE, None, {})

    return ensure_graphs(cache, tower.model_id, tower.files, tower.shaping, export)


def open_tower(
    tower: Tower, cache: Path, require_runner: str, threads: int, *, release: bool = False
) -> tuple[VisionEncoder, dict[str, str]]:
    """The best runner of the tower, and the digests of what it runs for the recipe.

    ``release`` lets the network's own tower go where its graph runs instead: nothing else may use its weights then.

    A tower of more than ``LARGE_BYTES`` is exported when it is compiled or its runner is named, not unasked: until then
    it runs in torch. So does one that is on a GPU which nothing else here reaches.

    Raises StopRun where the graph is not the network's, or ``require_runner`` cannot be had.
    """
    unasked = not require_runner
    alone = tower.on_gpu and "CUDAExecutionProvider" not in ort.get_available_providers()
    if unasked and (alone or tower.size > LARGE_BYTES):
        graphs = find_graphs(cache, tower.model_id, tower.files, tower.shaping)
    else:
        graphs = None if require_runner == TorchEncoder.runner else ensure_tower(tower, cache)
    if graphs is None:
        return TorchEncoder(tower.running()), {}
    example: dict[str, Any] = {}
    if release and not tower.on_gpu:  # on a GPU it may yet be what runs
        running = tower.running()
        example = dict(running.inputs)  # it needs the weights
        _let_go(running.module)

    def better() -> VisionEncoder | None:
        engine = open_best_engine(graphs.folder, graphs.manifest.weights, require_runner)
        if engine is None and unasked and alone:
            return TorchEncoder(tower.running())
        gpu = "CUDAExecutionProvider" in ort.get_available_providers()
        if require_runner == OPENVINO:
            return demand_openvino(
                graphs.encoder, lambda: example or dict(tower.running().inputs), threads=threads
            )
        if engine is None and tower.convolving and unasked and not gpu:
            return open_openvino(graphs.encoder, threads=threads)
        return engine

    encoder = open_encoder(graphs.encoder, require_runner=require_runner, threads=threads, engine=better)
    give_back_memory()
    if isinstance(encoder, TorchEncoder):
        return encoder, {}
    return encoder, graph_parts(graphs, encoder)


def _let_go(module: Any) -> None:
    """Free the weights of ``module``, which stays in its place without them."""
    for parameter in module.parameters():
        parameter.data = parameter.data.new_empty(0)
    give_back_memory()


def graph_parts(graphs: GraphFolder, encoder: VisionEncoder) -> dict[str, str]:
    """What of the graphs and of the engine, where one runs, shapes an answer."""
    parts = {f"graph/{name}": digest for name, digest in graphs.manifest.graphs.items()}
    if isinstance(encoder, EngineEncoder):
        manifest = encoder.manifest
        parts |= {"engine": manifest.engine_sha256, "engine/precision": manifest.precision}
        parts[manifest.product] = manifest.product_version
    return parts | openvino_parts(encoder)


def halved(source: EncoderSource) -> EncoderSource:
    """The source with its weights in half precision; its inputs and outputs stay in float32."""
    return replace(source, module=copy.deepcopy(source.module).half())
