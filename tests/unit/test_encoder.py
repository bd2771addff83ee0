"""Runners of the exported encoder: agreement with torch, independence of the batch, and no silent fall-back."""

import threading
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from models.catalog import show
from models.families.mini.export import OUTPUTS, encoder_source, load_network
from models.families.mini.mini_family import ensure_mini_graphs
from models.families.towers import halved
from models.runners.encoder import (
    TOLERANCE,
    OnnxEncoder,
    TorchEncoder,
    export_encoder,
    largest_error,
    open_encoder,
)
from models.runners.graph_cache import ENCODER_FILE, GraphFolder
from pipeline.errors import StopRun
from tests.tiny_model import tiny_cache, tiny_weights


@pytest.fixture(scope="module")
def graphs() -> GraphFolder:
    return ensure_mini_graphs(show("firstread-mini"), tiny_weights(), tiny_cache())


def batch_of(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    pixels = np.random.default_rng(seed).random((count, 1, 64, 64), dtype=np.float32)
    return {"pixels": pixels}


def test_onnx_runtime_agrees_with_torch(graphs: GraphFolder) -> None:
    inputs = batch_of(7)
    with (
        TorchEncoder(encoder_source(load_network(tiny_weights()))) as reference,
        OnnxEncoder(graphs.encoder) as encoder,
    ):
        expected, got = reference.encode(inputs), encoder.encode(inputs)
    assert set(got) == set(OUTPUTS)
    assert largest_error(got, expected) <= TOLERANCE
    assert graphs.manifest.exported.measured_error <= TOLERANCE


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_row_is_the_same_bits_in_any_batch(graphs: GraphFolder, threads: int) -> None:
    inputs = batch_of(16)
    with (
        OnnxEncoder(graphs.encoder, threads=1) as one,
        OnnxEncoder(graphs.encoder, threads=threads) as several,
    ):
        together = several.encode(inputs)
        for start, stop in ((0, 1), (3, 4), (5, 7), (8, 13)):
            part = one.encode({name: values[start:stop] for name, values in inputs.items()})
            for name, values in part.items():
                np.testing.assert_array_equal(values, together[name][start:stop], err_msg=name)


def test_threads_may_share_an_encoder(graphs: GraphFolder) -> None:
    results: dict[int, np.ndarray] = {}
    with OnnxEncoder(graphs.encoder, threads=2) as encoder:
        expected = [encoder.encode(batch_of(3, seed))["heat"] for seed in range(6)]

        def work(seed: int) -> None:
            results[seed] = encoder.encode(batch_of(3, seed))["heat"]

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for seed, heat in enumerate(expected):
        np.testing.assert_array_equal(results[seed], heat)


@pytest.mark.parametrize("runner", ["tensorrt", "onnxruntime-cuda"])
def test_a_runner_that_is_not_there_stops_the_run(graphs: GraphFolder, runner: str) -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this machine's ONNX Runtime has the CUDA provider")
    with pytest.raises(StopRun, match=rf"runs on onnxruntime-cpu, not on {runner}"):
        open_encoder(graphs.encoder, require_runner=runner)


def test_what_runs_is_asked_of_the_session(graphs: GraphFolder) -> None:
    with OnnxEncoder(graphs.encoder, provider="TensorrtExecutionProvider") as encoder:
        assert encoder.runner == "onnxruntime-cpu"
    with open_encoder(graphs.encoder, require_runner="onnxruntime-cpu") as encoder:
        assert encoder.runner == "onnxruntime-cpu"


def test_an_export_away_from_torch_is_refused(tmp_path: Path) -> None:
    network = load_network(tiny_weights())
    reference, half = encoder_source(network), halved(encoder_source(network))
    graph = tmp_path / ENCODER_FILE
    with pytest.raises(StopRun, match="away from torch"):
        export_encoder(half, graph, reference=reference, tolerance=1e-7)
    with OnnxEncoder(graph) as exported, TorchEncoder(reference) as torch_encoder:
        error = largest_error(exported.encode(reference.inputs), torch_encoder.encode(reference.inputs))
    assert TOLERANCE < error < 2e-2, "half precision is told from float32 by its error"


def test_the_graph_names_no_place_on_this_machine(graphs: GraphFolder) -> None:
    content = graphs.encoder.read_bytes()
    assert b".py" not in content
    assert str(Path(__file__).parents[2]).encode() not in content
