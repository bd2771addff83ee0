"""On a machine with a GPU: compiled engines and the CUDA provider run for real and agree with torch."""

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from models.catalog import show
from models.compiling import CompileOptions, compile_encoder
from models.families.mini.export import encoder_source, load_network
from models.families.mini.mini_family import ensure_mini_graphs
from models.model_choice import ModelChoice
from models.runners.encoder import OnnxEncoder, TorchEncoder, largest_error, open_encoder
from models.runners.engine import TOLERANCES, EngineEncoder, Product, find_device, open_engine
from models.runners.graph_cache import GraphFolder
from tests.tiny_model import tiny_cache, tiny_weights

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(find_device() is None, reason="this machine has no GPU"),
]


@pytest.fixture(scope="module")
def graphs() -> GraphFolder:
    return ensure_mini_graphs(show("firstread-mini"), tiny_weights(), tiny_cache())


def films(count: int) -> dict[str, np.ndarray]:
    pixels = np.random.default_rng(0).random((count, 1, 64, 64), dtype=np.float32)
    return {"pixels": pixels}


def error_of(encoder: EngineEncoder | OnnxEncoder, count: int) -> float:
    with TorchEncoder(encoder_source(load_network(tiny_weights()))) as reference:
        return largest_error(encoder.encode(films(count)), reference.encode(films(count)))


def test_the_cuda_provider_is_used_where_there_is_one(graphs: GraphFolder) -> None:
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.skip("onnxruntime-gpu is not installed")
    with open_encoder(graphs.encoder, require_runner="onnxruntime-cuda") as encoder:
        assert encoder.runner == "onnxruntime-cuda"
        assert isinstance(encoder, OnnxEncoder)
        assert error_of(encoder, 5) <= TOLERANCES["tf32"]


@pytest.mark.parametrize("product", ["tensorrt", "tensorrt_rtx"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_compiled_engine_runs_and_agrees(product: Product, precision: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(product) is None:
        pytest.skip(f"{product} is not installed")
    choice = ModelChoice("firstread-mini", tiny_weights())
    (manifest,) = compile_encoder(
        show("firstread-mini"), choice, tmp_path, CompileOptions(product, precision=precision)
    )
    assert manifest.engine_error is not None
    assert manifest.engine_error <= manifest.tolerance
    graphs = ensure_mini_graphs(show("firstread-mini"), tiny_weights(), tmp_path)
    engine = open_engine(graphs.folder, graphs.manifest.weights, product)
    assert engine is not None
    with engine:
        assert engine.manifest == manifest
        for count in (1, 7, 70):
            assert error_of(engine, count) <= TOLERANCES[precision]
