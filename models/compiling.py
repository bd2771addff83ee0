"""Compile a family's vision encoder for a GPU: what ``firstread models compile`` calls."""

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from models.catalog import CatalogEntry
from models.families.checked_weights import check_brought
from models.families.registry import check_use_limits, find_function
from models.families.towers import Tower, ensure_tower, halved
from models.model_choice import ModelChoice
from models.runners.encoder import EncoderSource, TorchEncoder, export_encoder, largest_error
from models.runners.engine import (
    PLAN_FILE,
    PRODUCTS,
    TOLERANCES,
    EngineEncoder,
    EngineManifest,
    Precision,
    Product,
    engine_folder,
    find_device,
    find_product,
    write_manifest,
)
from models.runners.engine_building import EngineOrder, build_engine
from models.runners.graph_cache import ENCODER_FILE, GraphFolder
from pipeline.errors import ConfigurationError, StopRun

MINI = "firstread-mini"
TOWERS = {
    "uni-med": "models.families.uni_med.uni_med_family:uni_med_towers",
    "internvl": "models.families.native.chat:chat_towers",
    "internvl3": "models.families.native.internvl:internvl_towers",
    "llava": "models.families.native.chat:chat_towers",
    "llava-onevision": "models.families.native.onevision:onevision_towers",
    "gemma3": "models.families.native.chat:chat_towers",
    "biomedclip": "models.families.native.biomedclip:clip_towers",
    "qwen2-vl": "models.families.native.qwen:qwen_towers",
    "qwen2.5-vl": "models.families.native.qwen:qwen_towers",
    "qwen3-vl": "models.families.native.qwen:qwen_towers",
}
"""Module and function that give a loader of each tower in a folder of weights, by adapter."""
MOST_IMAGES = 8
"""Images at once that an engine takes at most where their size varies, and half of them what it is tuned for."""
_PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "fp16")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What to build for: ``product`` "" takes tensorrt, else tensorrt_rtx, whichever is installed; ``capability`` ""
    takes the GPU's own and is demanded where there is none.
    """

    product: str = ""
    capability: str = ""
    precision: str = "fp32"


def compile_encoder(
    entry: CatalogEntry, choice: ModelChoice, cache: Path, order: CompileOptions
) -> list[EngineManifest]:
    """Export each encoder of a family and build its engine under ``cache``; returns their manifests.

    A family has one encoder, or one per checkpoint where its folder holds several. The weights are checked as when the
    family is opened. Where the device is present the engine is run and measured against torch. Raises
    ConfigurationError for a choice that cannot be had, StopRun when weights, graph or engine are unsound.
    """
    check_use_limits(entry, choice)
    if choice.endpoint is not None or (entry.adapter != MINI and entry.adapter not in TOWERS):
        raise ConfigurationError("compile", f"{entry.id} has no vision encoder on this machine to compile")
    folder = choice.folder(entry)
    engine = EngineOrder(
        entry.id,
        _product(order.product),
        order.capability or _own_capability(),
        _precision(order.precision),
    )
    find_product(engine.product)
    if not entry.weights:
        check_brought(entry, folder, precision=choice.precision, sha256=choice.sha256)
    if entry.adapter == MINI:
        return [_compile(*_mini(entry, folder, cache), engine)]
    return [_compile(*_exported(load(), cache), engine) for load in _towers(entry, folder, choice)]


def _mini(entry: CatalogEntry, folder: Path, cache: Path) -> tuple[GraphFolder, EncoderSource]:
    from models.families.mini.export import encoder_source, load_network  # needs torch
    from models.families.mini.mini_family import ensure_mini_graphs

    return ensure_mini_graphs(entry, folder, cache), encoder_source(load_network(folder))


def _exported(tower: Tower, cache: Path) -> tuple[GraphFolder, EncoderSource]:
    return ensure_tower(tower, cache), tower.source()


def _towers(entry: CatalogEntry, folder: Path, choice: ModelChoice) -> list[Callable[[], Tower]]:
    loaders = cast(
        "Callable[[CatalogEntry, Path, str], list[Callable[[], Tower]]]", find_function(TOWERS[entry.adapter])
    )
    return loaders(entry, folder, choice.precision)


def _compile(graphs: GraphFolder, source: EncoderSource, order: EngineOrder) -> EngineManifest:
    """Build the engine of a graph; ``source`` is what it was exported from, in float32."""
    folder = engine_folder(graphs.folder, order.product, order.precision, order.capability)
    graph, error = graphs.encoder, graphs.manifest.exported.measured_error
    if order.precision == "fp16":  # a graph of its own
        folder.mkdir(parents=True, exist_ok=True)
        graph = folder / ENCODER_FILE
        error = export_encoder(halved(source), graph, reference=source, tolerance=TOLERANCES["fp16"])
    order = replace(order, graph_error=error)
    if source.lengths is not None:
        lengths = (source.lengths.smallest, source.lengths.best, source.lengths.largest)
        order = replace(order, best_batch=MOST_IMAGES // 2, largest_batch=MOST_IMAGES, lengths=lengths)
    manifest = build_engine(graph, folder, order, graphs.manifest.weights)
    log.info("compiled %s for compute capability %s", order.model_id, order.capability)
    return _measured(manifest, folder, source)


def _product(name: str) -> Product:
    installed = [one for one in PRODUCTS if importlib.util.find_spec(one) is not None]
    if not name and installed:
        return installed[0]
    for one in PRODUCTS:
        if one == name:
            return one
    message = "install tensorrt or tensorrt_rtx" if not name else f"{name} is not tensorrt or tensorrt_rtx"
    raise ConfigurationError("engine-product", message)


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


def _measured(manifest: EngineManifest, folder: Path, reference: EncoderSource) -> EngineManifest:
    """The manifest with the engine's own error where this machine's device can run it. Raises StopRun over
    tolerance.
    """
    device = find_device()
    if device is None or device.capability != manifest.capability:
        return manifest
    trt = find_product(_product(manifest.product))
    with EngineEncoder(trt, folder / PLAN_FILE, manifest) as engine, TorchEncoder(reference) as network:
        error = largest_error(engine.encode(reference.inputs), network.encode(reference.inputs))
    measured = replace(manifest, engine_error=error)
    write_manifest(folder, measured)
    if not error <= manifest.tolerance:
        raise StopRun(
            "engine-error", f"the engine is {error:.1e} away from torch, over {manifest.tolerance:.0e}"
        )
    return measured
