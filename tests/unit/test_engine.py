"""Compiled engines: built for real through tensorrt_rtx on the CPU, described, and verified entry by entry."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.catalog import show
from models.compiling import CompileOptions, compile_encoder
from models.families.mini.mini_family import ensure_mini_graphs
from models.model_choice import ModelChoice
from models.runners.engine import (
    MANIFEST_FILE,
    PLAN_FILE,
    Device,
    EngineEncoder,
    EngineManifest,
    engine_folder,
    find_device,
    open_engine,
    read_manifest,
    verify_engine,
    write_manifest,
)
from models.runners.engine_building import EngineOrder, build_engine
from models.runners.graph_cache import ENCODER_FILE, GraphFolder
from models.weight_loading.verified import file_digest
from pipeline.errors import ConfigurationError, StopRun
from tests.tiny_model import tiny_cache, tiny_weights

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed: no engine can be built here")
ADA = Device("NVIDIA L4", "8.9")


@pytest.fixture(scope="module")
def graphs() -> GraphFolder:
    return ensure_mini_graphs(show("firstread-mini"), tiny_weights(), tiny_cache())


@pytest.fixture(scope="module")
def compiled(graphs: GraphFolder) -> tuple[Path, EngineManifest]:
    manifest = compile_tiny(CompileOptions("tensorrt_rtx", "8.9"))
    return engine_folder(graphs.folder, "tensorrt_rtx", "fp32", "8.9"), manifest


def compile_tiny(order: CompileOptions) -> EngineManifest:
    choice = ModelChoice("firstread-mini", tiny_weights())
    (manifest,) = compile_encoder(show("firstread-mini"), choice, tiny_cache(), order)
    return manifest


def verify(folder: Path, manifest: EngineManifest, device: Device = ADA) -> EngineManifest:
    return verify_engine(
        folder,
        weights=manifest.weights,
        onnx_sha256=manifest.onnx_sha256,
        product_version=manifest.product_version,
        library_sha256=manifest.library_sha256,
        device=device,
    )


def test_the_exported_encoder_builds(graphs: GraphFolder, compiled: tuple[Path, EngineManifest]) -> None:
    folder, manifest = compiled
    assert (folder / PLAN_FILE).stat().st_size > 10_000
    assert manifest.product == "tensorrt_rtx"
    assert manifest.onnx_sha256 == graphs.manifest.graphs[ENCODER_FILE]
    assert manifest.weights == graphs.manifest.weights
    assert manifest.shapes["pixels"] == ((1, 1, 64, 64), (8, 1, 64, 64), (64, 1, 64, 64))
    assert manifest.graph_error <= manifest.tolerance
    assert len(manifest.library_sha256) == 64
    assert read_manifest(folder) == manifest
    assert verify(folder, manifest) == manifest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("engine_sha256", "0" * 64),
        ("onnx_sha256", "0" * 64),
        ("weights", {"model.safetensors": "0" * 64}),
        ("product_version", "1.0"),
        ("library_sha256", "0" * 64),
        ("capability", "12.0"),
        ("gpu_name", "NVIDIA L40S"),
    ],
)
def test_every_entry_that_differs_stops_the_run(
    compiled: tuple[Path, EngineManifest], tmp_path: Path, name: str, value: Any
) -> None:
    folder, manifest = Path(shutil.copytree(compiled[0], tmp_path / "engine")), compiled[1]
    write_manifest(folder, replace(manifest, **{name: value}))
    with pytest.raises(StopRun, match=name):
        verify(folder, manifest)


def test_a_changed_plan_stops_the_run(compiled: tuple[Path, EngineManifest], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(compiled[0], tmp_path / "engine"))
    content = bytearray((folder / PLAN_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / PLAN_FILE).write_bytes(content)
    with pytest.raises(StopRun, match="engine_sha256"):
        verify(folder, compiled[1])


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"shapes": 3}'])
def test_a_broken_manifest_stops_the_run(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST_FILE).write_text(content)
    with pytest.raises(StopRun, match="cannot be read"):
        read_manifest(tmp_path)


def test_half_precision_has_a_graph_of_its_own(graphs: GraphFolder) -> None:
    manifest = compile_tiny(CompileOptions("tensorrt_rtx", "12.0", "fp16"))
    folder = engine_folder(graphs.folder, "tensorrt_rtx", "fp16", "12.0")
    assert manifest.onnx_sha256 == file_digest(folder / ENCODER_FILE) != graphs.manifest.graphs[ENCODER_FILE]
    assert 1e-5 < manifest.graph_error <= manifest.tolerance


def test_a_graph_that_does_not_parse_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / ENCODER_FILE).write_bytes(b"not a graph")
    order = EngineOrder("firstread-mini", "tensorrt_rtx", "8.9")
    with pytest.raises(StopRun, match="does not parse"):
        build_engine(tmp_path / ENCODER_FILE, tmp_path / "engine", order, {})


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (CompileOptions("tensorrt_rtx", "5.2"), "does not build for 5.2"),
        (CompileOptions("tensorrt_rtx", "8.9", "int3"), "int3"),
        (CompileOptions("openvino", "8.9"), "openvino"),
    ],
)
def test_what_cannot_be_built_is_a_configuration_error(order: CompileOptions, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        compile_tiny(order)


@pytest.mark.skipif(find_device() is not None, reason="this machine has a GPU")
class TestWithoutDevice:
    def test_a_capability_is_demanded(self) -> None:
        with pytest.raises(ConfigurationError, match="no GPU here"):
            compile_tiny(CompileOptions("tensorrt_rtx"))

    def test_no_engine_is_opened(self, graphs: GraphFolder, compiled: tuple[Path, EngineManifest]) -> None:
        assert open_engine(graphs.folder, graphs.manifest.weights, "tensorrt_rtx") is None

    def test_no_runtime_is_ever_made(self, compiled: tuple[Path, EngineManifest]) -> None:
        with pytest.raises(StopRun, match="no GPU"):
            EngineEncoder(object(), compiled[0] / PLAN_FILE, compiled[1])


def test_the_manifest_is_plain_json(compiled: tuple[Path, EngineManifest]) -> None:
    stored = json.loads((compiled[0] / MANIFEST_FILE).read_text())
    assert stored["capability"] == "8.9"
    assert stored["engine_error"] is None or stored["gpu_name"]
