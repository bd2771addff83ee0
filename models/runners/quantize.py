"""An encoder graph in 8-bit integers: faster on a CPU. No runner takes it unasked.

Weights are int8 per output channel. Products with a constant matrix measure their activations in every run, row block
by row block (dynamic quantisation of ONNX Runtime). Convolutions need to know theirs beforehand: they are measured
once on examples, and stay in float32 where there are none. So do the convolutions that read the image itself,
attention scores and norms, and what a family names. On a CPU without VNNI instructions weights use 7 bits: the 8-bit
products of such CPUs saturate.
"""

import hashlib
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx.checker import ValidationError, check_model

from models.weight_loading.verified import file_digest
from pipeline.errors import StopRun

INT8_FILE = "encoder.int8.onnx"
DIGEST_SUFFIX = ".sha256"
INT8_TOLERANCE = 0.4
"""Largest accepted difference from float32 where the encoder is quantised, relative to the largest value of an output.

What the encoder gives is within 0.06 for the pattern of the self-check; the embeddings that tell its boxes in
hundredths are 0.26 off (firstread-mini, AMD EPYC with VNNI, 2026-11-30). A wrong graph is off by its whole range.
"""
PRODUCTS = ("MatMul", "Gemm")
_CPU_FLAGS = Path("/proc/cpuinfo")
Examples = Callable[[], Iterable[Mapping[str, NDArray[Any]]]]
Exact = Callable[[onnx.GraphProto], frozenset[str]]
"""The names of the nodes of a graph that stay in float32."""


def quantised_graph(graph: Path, examples: Examples | None = None, exact: Exact | None = None) -> Path:
    """The quantised copy of ``graph`` beside it, made where it is not there yet; whole or not at all.

    ``examples`` gives batches of inputs like those that the encoder will see, ``exact`` what is left as it is. The copy
    belongs to the folder of ``graph``, whose name is a digest over weights, sources and libraries, and its own name to
    this file and what is left, so it is never stale. Raises StopRun where the graph cannot be quantised, or the copy is
    not the one that was made.
    """
    kept = frozenset[str]() if exact is None else exact(onnx.load(graph, load_external_data=False).graph)
    stated = [ort.__version__, "8" if has_vnni() else "7", file_digest(Path(__file__)), examples is not None]
    stated += sorted(kept)
    key = hashlib.sha256(str(stated).encode()).hexdigest()[:16]
    made = graph.with_name(f"{key}-{INT8_FILE}")
    digest = made.with_name(made.name + DIGEST_SUFFIX)
    if not (made.is_file() and digest.is_file()):
        _make(graph, made, examples, kept)
        digest.write_text(file_digest(made), encoding="ascii")
    elif digest.read_text(encoding="ascii") != file_digest(made):
        raise StopRun("graphs", f"{made} is not the one that was made here; delete it")
    return made


def _make(graph: Path, made: Path, examples: Examples | None, kept: Collection[str]) -> None:
    try:
        check_model(graph)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=graph.parent) as folder, _quiet():
            source = graph if examples is None else _with_convolutions(graph, Path(folder), examples, kept)
            part = Path(folder) / INT8_FILE
            _with_products(source, part, kept)
            part.replace(made)
    except (OSError, ValueError, RuntimeError, ValidationError) as error:
        raise StopRun(
            "quantise",
            f"the encoder cannot be run in 8 bits ({type(error).__name__}): run it in fp32",
        ) from None


def _with_convolutions(graph: Path, folder: Path, examples: Examples, kept: Collection[str]) -> Path:
    """A copy of ``graph`` in ``folder`` whose convolutions but ``kept`` and those that read the image are quantised."""
    from onnxruntime.quantization import (  # slow to import, and only this choice needs it
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[Mapping[str, NDArray[Any]]] = iter(examples())

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            batch = next(self.batches, None)
            return None if batch is None else dict(batch)

    found = [name for name in behind_another(onnx.load(graph).graph.node) if name not in kept]
    if not found:
        return graph
    made = folder / "convolutions.onnx"
    quantize_static(
        graph,
        made,
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=not has_vnni(),
        nodes_to_quantize=found,
    )
    return made


def behind_another(nodes: Iterable[onnx.NodeProto]) -> list[str]:
    """The convolutions among ``nodes``, sorted as a graph has them, that take what another one gave."""
    given, found = set[str](), []
    for node in nodes:
        fed = not given.isdisjoint(node.input)
        if fed and node.op_type == "Conv":
            found.append(node.name)
        if fed or node.op_type == "Conv":
            given.update(node.output)
    return found


def _with_products(graph: Path, made: Path, kept: Collection[str]) -> None:
    """Write a copy of ``graph`` whose products with a constant matrix are quantised, but ``kept``."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(graph).graph
    matrices = {constant.name for constant in model.initializer if len(constant.dims) == 2}
    products = [
        node
        for node in model.node
        if node.op_type in PRODUCTS and node.input[1] in matrices and node.name not in kept
    ]
    # the quantiser splits every Gemm first, and looks for the product by the name that it gives it
    found = [f"{node.name}_MatMul" if node.op_type == "Gemm" else node.name for node in products]
    if not found:  # no names would mean every node
        shutil.copyfile(graph, made)
        return
    quantize_dynamic(
        graph,
        made,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=not has_vnni(),
        op_types_to_quantize=list(PRODUCTS),
        nodes_to_quantize=found,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop the quantiser's advice: its pre-processing changes nothing for these graphs, whose products come second."""
    root = logging.getLogger()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root.addFilter(_no_advice)
        try:
            yield
        finally:
            root.removeFilter(_no_advice)


def _no_advice(record: logging.LogRecord) -> bool:
    said = record.getMessage()
    return "pre-processing before quantization" not in said and "already quantized" not in said


def has_vnni(flags: str = "") -> bool:
    """Whether this CPU multiplies 8-bit integers without saturating (AVX-VNNI, AVX512-VNNI or ARM dot products)."""
    known = flags or (
        _CPU_FLAGS.read_text(encoding="utf-8", errors="replace") if _CPU_FLAGS.is_file() else ""
    )
    return any(flag in known for flag in ("avx512_vnni", "avx_vnni", "asimddp"))
