"""Compiled encoder engines: described by a manifest, verified and run (models/runners/engine_building.py builds them).

Written against the Python API that ``tensorrt`` and ``tensorrt_rtx`` share. They are different products whose
engines are not interchangeable, so the manifest names which. ``tensorrt_rtx`` builds ahead of time for a
stated compute capability, on a machine without a GPU; ``tensorrt`` builds for the GPU it finds.
"""

import ctypes
import importlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from types import ModuleType, TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from models.runners.encoder import Arrays, graph_digest
from models.runners.graph_cache import ENCODER_FILE
from models.weight_loading.verified import file_digest
from pipeline.errors import ConfigurationError, StopRun

Product = Literal["tensorrt", "tensorrt_rtx"]
Precision = Literal["fp32", "tf32", "fp16"]
TOLERANCES: Mapping[str, float] = {"fp32": 1e-3, "tf32": 1e-2, "fp16": 2e-2}
"""Largest accepted difference of an engine from torch in float32, relative to the largest value of an output.

The keys are in the order in which engines are looked for: the exactest first."""
PLAN_FILE, MANIFEST_FILE = "engine.plan", "engine.json"
MAIN_LIBRARY: Mapping[str, str] = {"tensorrt": "libnvinfer.so", "tensorrt_rtx": "libtensorrt_rtx.so"}
PRODUCTS: tuple[Product, ...] = ("tensorrt", "tensorrt_rtx")
"""The preferred one first."""
RUNNER: Mapping[str, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
CUDA_CAPABILITY_MAJOR, CUDA_CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU as the driver names it; ``capability`` as in "8.9"."""

    name: str
    capability: str


@dataclass(frozen=True, slots=True)
class EngineManifest:
    """What an engine was built from, by and for.

    ``shapes`` holds per input the smallest, best and largest shape. ``graph_error`` is that of the graph it
    was built from, in its precision, against torch in float32; ``engine_error`` that of the engine itself,
    None where no device could run it (the self-check at load stands in for it). ``gpu_name`` is empty for an
    engine built ahead of time.
    """

    model_id: str
    product: str
    product_version: str
    library_sha256: str
    capability: str
    gpu_name: str
    precision: str
    weights: Mapping[str, str]
    onnx_sha256: str
    engine_sha256: str
    shapes: Mapping[str, tuple[tuple[int, ...], ...]]
    graph_error: float
    tolerance: float
    engine_error: float | None = None


def find_device() -> Device | None:
    """The first GPU, asked of the driver itself; None where there is no driver or no device."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    handle, major, minor, name = (
        ctypes.c_int(),
        ctypes.c_int(),
        ctypes.c_int(),
        ctypes.create_string_buffer(128),
    )
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(handle), 0):
        return None
    cuda.cuDeviceGetName(name, len(name), handle)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), CUDA_CAPABILITY_MAJOR, handle)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), CUDA_CAPABILITY_MINOR, handle)
    return Device(name.value.decode("utf-8", "replace"), f"{major.value}.{minor.value}")


def find_product(product: Product) -> ModuleType:
    """The builder's module. Raises ConfigurationError when it is not installed or finds no libraries."""
    try:
        return importlib.import_module(product)
    except (ImportError, OSError) as error:
        message = (
            f"{product} cannot be imported ({type(error).__name__}): install it, or choose another product"
        )
        raise ConfigurationError("engine-product", message) from None


def engine_folder(graphs: Path, product: str, precision: str, capability: str) -> Path:
    """Where the engine for these lies, beside the graphs it was built from."""
    return graphs / f"{product}-{precision}-sm{capability.replace('.', '')}"


def write_whole(path: Path, content: bytes) -> None:
    """Whole or not at all, also when two processes write the same file."""
    number, part = tempfile.mkstemp(prefix=".making-", dir=path.parent)
    with os.fdopen(number, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    Path(part).replace(path)


def write_manifest(folder: Path, manifest: EngineManifest) -> None:
    """Write ``manifest`` beside its engine."""
    write_whole(folder / MANIFEST_FILE, (json.dumps(asdict(manifest), indent=1) + "\n").encode())


def read_manifest(folder: Path) -> EngineManifest:
    """The manifest of an engine's folder. Raises StopRun when it cannot be read."""
    try:
        stored: dict[str, Any] = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        stored["shapes"] = {name: tuple(map(tuple, shapes)) for name, shapes in stored["shapes"].items()}
        return EngineManifest(**stored)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        message = f"{folder / MANIFEST_FILE} cannot be read; compile again with `firstread models compile`"
        raise StopRun("engine-manifest", message) from None


def library_digest(product: str) -> str:
    """SHA-256 of the product's main library, as loaded into this process. Raises StopRun when it is not loaded."""
    stem = MAIN_LIBRARY[product]
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        path = Path(line.split(maxsplit=5)[5]) if line.count("/") else Path()
        if path.name.startswith(stem):
            return file_digest(path)
    raise StopRun("engine-library", f"{stem} is not loaded: import {product} first")


def verify_engine(
    folder: Path,
    *,
    weights: Mapping[str, str],
    onnx_sha256: str,
    product_version: str,
    library_sha256: str,
    device: Device,
) -> EngineManifest:
    """The manifest of the engine in ``folder``, every entry compared with what is here.

    Raises StopRun naming the first entry that differs: such an engine may give other numbers, or crash.
    """
    manifest = read_manifest(folder)
    found = {
        "engine_sha256": file_digest(folder / PLAN_FILE),
        "weights": dict(weights),
        "onnx_sha256": onnx_sha256,
        "product_version": product_version,
        "library_sha256": library_sha256,
        "capability": device.capability,
        "gpu_name": device.name if manifest.gpu_name else "",
    }
    for name, value in found.items():
        if getattr(manifest, name) != value:
            message = f"the engine's {name} is not what is here; {compile_again(manifest.model_id)}"
            raise StopRun("engine-mismatch", message)
    return manifest


def compile_again(model_id: str) -> str:
    """The command that replaces an engine."""
    return f"compile it again: firstread models compile {model_id}"


def refuse_earlier_engine(graphs: Path, weights: Mapping[str, str], product: str, capability: str) -> None:
    """Raises StopRun where these weights have an engine for this device beside another graph than today's.

    It was compiled by an earlier version, or with other libraries. Without a word the site would run without it, many
    times slower.
    """
    for stored in sorted(
        graphs.parent.glob(f"*/{product}-*-sm{capability.replace('.', '')}/{MANIFEST_FILE}")
    ):
        try:
            manifest = read_manifest(stored.parent)
        except StopRun:
            continue  # of another release, and unreadable: nobody can say whose it is
        if dict(manifest.weights) == dict(weights):
            message = (
                f"the engine in {stored.parent} was compiled by an earlier version, whose graph was another one; "
                f"{compile_again(manifest.model_id)} (or delete that folder to run without one)"
            )
            raise StopRun("engine-earlier", message)


def open_best_engine(graphs: Path, weights: Mapping[str, str], require_runner: str) -> "EngineEncoder | None":
    """The engine of the first product that has one here, of the named runner's alone. Raises as ``open_engine``."""
    for product in PRODUCTS:
        if require_runner in ("", RUNNER[product]):
            engine = open_engine(graphs, weights, product)
            if engine is not None:
                return engine
    return None


def open_engine(graphs: Path, weights: Mapping[str, str], product: Product) -> "EngineEncoder | None":
    """The exactest engine compiled for this machine's device, verified; None where there is none or no device.

    ``graphs`` is the folder that holds the encoder's graph. Raises StopRun when an engine is not what its
    manifest describes.
    """
    device = find_device()
    if device is None or importlib.util.find_spec(product) is None:
        return None
    for precision in TOLERANCES:
        folder = engine_folder(graphs, product, precision, device.capability)
        if folder.is_dir():
            break
    else:
        refuse_earlier_engine(graphs, weights, product, device.capability)
        return None
    own = folder / ENCODER_FILE
    trt = find_product(product)
    manifest = verify_engine(
        folder,
        weights=weights,
        onnx_sha256=graph_digest(own if own.is_file() else graphs / ENCODER_FILE),
        product_version=trt.__version__,
        library_sha256=library_digest(product),
        device=device,
    )
    return EngineEncoder(trt, folder / PLAN_FILE, manifest)


class EngineEncoder:
    """A compiled engine on the first GPU. Device memory is torch's; one batch runs at a time."""

    def __init__(self, trt: Any, plan: Path, manifest: EngineManifest) -> None:
        """Load ``plan``; only ever with a device present, for without one the runtime ends the process.

        Raises StopRun when the plan does not load.
        """
        if find_device() is None:
            raise StopRun("engine-device", "there is no GPU to run a compiled engine on")
        import torch  # only a GPU host comes here, and there torch holds the device memory

        self.runner = RUNNER[manifest.product]
        self.manifest = manifest
        self._trt, self._torch, self._lock = trt, torch, Lock()
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise StopRun("engine-load", "the compiled engine does not load; compile again")
        self._context = self._engine.create_execution_context()
        self._stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def encode(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """See ``models.runners.encoder.VisionEncoder``. Batches over the engine's largest are run in parts."""
        largest = min(shapes[-1][0] for shapes in self.manifest.shapes.values())
        count = len(next(iter(inputs.values())))
        with self._lock:
            parts = [
                self._run({name: values[start : start + largest] for name, values in inputs.items()})
                for start in range(0, count, largest)
            ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        torch, context = self._torch, self._context
        held: dict[str, Any] = {}
        with torch.cuda.stream(self._stream):
            for name, values in inputs.items():
                held[name] = torch.from_numpy(np.ascontiguousarray(values)).cuda(non_blocking=False)
                context.set_input_shape(name, tuple(values.shape))
            outputs = self._allocate_outputs()
            for name, memory in (held | outputs).items():
                context.set_tensor_address(name, memory.data_ptr())
            if not context.execute_async_v3(self._stream.cuda_stream):
                raise StopRun("engine-run", "the compiled engine refused to run; compile again")
        self._stream.synchronize()
        return {name: memory.cpu().numpy() for name, memory in outputs.items()}

    def _allocate_outputs(self) -> dict[str, Any]:
        engine, torch = self._engine, self._torch
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        return {
            name: torch.empty(
                tuple(self._context.get_tensor_shape(name)),
                dtype=torch.from_numpy(np.empty(0, self._trt.nptype(engine.get_tensor_dtype(name)))).dtype,
                device="cuda",
            )
            for name in names
            if engine.get_tensor_mode(name) == self._trt.TensorIOMode.OUTPUT
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            del self._context, self._engine, self._runtime
