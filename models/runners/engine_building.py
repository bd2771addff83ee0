"""Build a compiled encoder engine and write its manifest.

``tensorrt_rtx`` builds ahead of time for a stated compute capability, on a machine without a GPU; ``tensorrt`` builds
for the GPU it finds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.runners.encoder import graph_digest
from models.runners.engine import (
    PLAN_FILE,
    TOLERANCES,
    EngineManifest,
    Precision,
    Product,
    find_device,
    find_product,
    library_digest,
    write_manifest,
    write_whole,
)
from models.weight_loading.verified import file_digest
from pipeline.errors import ConfigurationError, StopRun


@dataclass(frozen=True, slots=True)
class EngineOrder:
    """What to build: for which product, capability and precision, and the range of the batch.

    ``lengths`` is the range of a second axis that has none of its own, such as the patches of an image.
    """

    model_id: str
    product: Product
    capability: str
    precision: Precision = "fp32"
    graph_error: float = 0.0
    best_batch: int = 8
    largest_batch: int = 64
    lengths: tuple[int, int, int] = (0, 0, 0)


def build_engine(graph: Path, folder: Path, order: EngineOrder, weights: Mapping[str, str]) -> EngineManifest:
    """Compile ``graph`` into ``folder``, plan and manifest, replacing what was there.

    Raises ConfigurationError for a product, capability or device that cannot be had, and StopRun when the
    graph does not parse or build.
    """
    trt = find_product(order.product)
    device = find_device()
    if order.product == "tensorrt" and (device is None or device.capability != order.capability):
        found = device.capability if device else "no GPU"
        message = f"tensorrt builds for the GPU it runs on: asked for {order.capability}, found {found}"
        raise ConfigurationError("engine-device", message)
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = _parse(trt, builder, graph)
    profile = builder.create_optimization_profile()
    shapes = {}
    for index in range(network.num_inputs):
        entry = network.get_input(index)
        fixed = tuple(entry.shape)[1:]
        shapes[entry.name] = tuple(
            (batch, *(length if side < 0 else side for side in fixed))
            for batch, length in zip((1, order.best_batch, order.largest_batch), order.lengths, strict=True)
        )
        profile.set_shape(entry.name, *shapes[entry.name])
    config = _configure(trt, builder, order)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise StopRun(
            "engine-build", f"{order.product} built no engine for compute capability {order.capability}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / PLAN_FILE, bytes(plan))
    manifest = EngineManifest(
        model_id=order.model_id,
        product=order.product,
        product_version=trt.__version__,
        library_sha256=library_digest(order.product),
        capability=order.capability,
        gpu_name=device.name if device and device.capability == order.capability else "",
        precision=order.precision,
        weights=dict(weights),
        onnx_sha256=graph_digest(graph),
        engine_sha256=file_digest(folder / PLAN_FILE),
        shapes=shapes,
        graph_error=order.graph_error,
        tolerance=TOLERANCES[order.precision],
    )
    write_manifest(folder, manifest)
    return manifest


def _parse(trt: Any, builder: Any, graph: Path) -> Any:
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    if not parser.parse_from_file(str(graph)):
        faults = "; ".join(str(parser.get_error(index)) for index in range(min(parser.num_errors, 3)))
        raise StopRun("engine-parse", f"the encoder's graph does not parse: {faults}")
    _let_attention_be_split(trt, network)
    return network


def _let_attention_be_split(trt: Any, network: Any) -> None:
    """Allow plain products and a softmax where no fused kernel fits, as in float32; refusing is the default."""
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer  # get_layer gives the base class
            layer.attention.decomposable = True


def _configure(trt: Any, builder: Any, order: EngineOrder) -> Any:
    config = builder.create_builder_config()
    if order.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)
    else:
        config.set_flag(trt.BuilderFlag.TF32)
    if order.product == "tensorrt_rtx":
        name = "SM" + order.capability.replace(".", "")
        if not hasattr(trt.ComputeCapability, name):
            known = ", ".join(
                sorted(word[2:] for word in dir(trt.ComputeCapability) if word.startswith("SM"))
            )
            message = (
                f"tensorrt_rtx does not build for {order.capability} (it knows {known}, without the dot)"
            )
            raise ConfigurationError("engine-capability", message)
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, name), 0)
    return config
