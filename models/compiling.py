"""Compile a family's vision encoder for a GPU: what ``firstread models compile`` calls."""

import importlib.util
import logging
from dataclasses import replace
from pathlib import Path

from models.catalog import show
from models.encoder import EncoderSource, TorchEncoder, export_encoder, largest_error
from models.engine import (
    PLAN_FILE,
    TOLERANCES,
    EngineEncoder,
    EngineManifest,
    EngineOrder,
    Precision,
    Product,
    build_engine,
    engine_folder,
    find_device,
    find_product,
    write_manifest,
)
from models.families.mini import ensure_mini_graphs
from models.graph_cache import ENCODER_FILE, GraphFolder
from pipeline.errors import ConfigurationError, StopRun

_log = logging.getLogger(__name__)


def compile_encoder(
    model_id: str,
    cache: Path,
    *,
    product: str = "",
    capability: str = "",
    precision: str = "fp32",
    weights_dir: Path | None = None,
) -> EngineManifest:
    """Export the encoder of ``model_id`` and build its engine under ``cache``, with its manifest.

    ``product`` "" takes tensorrt, else tensorrt_rtx, whichever is installed; ``capability`` "" takes the
    GPU's own and is demanded where there is none. Where the device is present the engine is run and measured
    against torch. Raises ConfigurationError for a choice that cannot be had, StopRun when graph or engine are
    unsound.
    """
    entry = show(model_id)
    if entry.adapter != "firstread-mini":
        raise ConfigurationError("compile", f"the encoder of {entry.id} cannot be compiled here")
    weights = weights_dir or entry.weights_folder
    if weights is None:
        raise ConfigurationError("weights-folder", f"{entry.id} needs a folder of weights")
    order = EngineOrder(entry.id, _product(product), capability or _own_capability(), _precision(precision))
    find_product(order.product)
    graphs = ensure_mini_graphs(entry, weights, cache)
    folder = engine_folder(graphs.folder, order.product, order.precision, order.capability)
    reference, graph, error = _graph(weights, graphs, folder, order.precision)
    order = replace(order, graph_error=error)
    manifest = build_engine(graph, folder, order, graphs.manifest.weights)
    _log.info("compiled %s for compute capability %s", entry.id, order.capability)
    return _measured(manifest, folder, reference)


def _product(name: str) -> Product:
    installed: list[Product] = [one for one in _PRODUCTS if importlib.util.find_spec(one) is not None]
    if not name and installed:
        return installed[0]
    for one in _PRODUCTS:
        if one == name:
            return one
    message = "install tensorrt or tensorrt_rtx" if not name else f"{name} is not tensorrt or tensorrt_rtx"
    raise ConfigurationError("engine-product", message)


_PRODUCTS: tuple[Product, ...] = ("tensorrt", "tensorrt_rtx")
_PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "fp16")


def _precision(name: str) -> Precision:
    for one in _PRECISIONS:
        if one == name:
            return one
    raise ConfigurationError("engine-precision", f"{name} is not one of {', '.join(_PRECISIONS)}")


def _own_capability() -> str:
    device = find_device()
    if device is None:
        raise ConfigurationError(
            "engine-capability", "there is no GPU here: say for which to build (--capability 8.9)"
        )
    return device.capability


def _graph(
    weights: Path, graphs: GraphFolder, folder: Path, precision: Precision
) -> tuple[EncoderSource, Path, float]:
    """The torch reference in float32, the graph to build from, and its error; half precision has a graph of its own."""
    from models.families.mini_export import encoder_source, load_network  # needs torch

    network = load_network(weights)
    reference = encoder_source(network)
    if precision != "fp16":
        return reference, graphs.encoder, graphs.manifest.exported.measured_error
    folder.mkdir(parents=True, exist_ok=True)
    graph = folder / ENCODER_FILE
    source = encoder_source(network, half=True)
    error = export_encoder(source, graph, reference=reference, tolerance=TOLERANCES[precision])
    return reference, graph, error


def _measured(manifest: EngineManifest, folder: Path, reference: EncoderSource) -> EngineManifest:
    """The manifest with the engine's own error where this machine's device can run it. Raises StopRun over
    tolerance.
    """
    device = find_device()
    if device is None or device.capability != manifest.capability:
        return manifest
    trt = find_product("tensorrt" if manifest.product == "tensorrt" else "tensorrt_rtx")
    with EngineEncoder(trt, folder / PLAN_FILE, manifest) as engine, TorchEncoder(reference) as network:
        error = largest_error(engine.encode(reference.inputs), network.encode(reference.inputs))
    measured = replace(manifest, engine_error=error)
    write_manifest(folder, measured)
    if not error <= manifest.tolerance:
        raise StopRun(
            "engine-error", f"the engine is {error:.1e} away from torch, over {manifest.tolerance:.0e}"
        )
    return measured
