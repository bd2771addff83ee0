"""What ``firstread models compile`` must do for every family that sees images: graph, engine, and their use.

Small random networks in the published layouts; engines are built for real through ``tensorrt_rtx``, which needs no GPU.
"""

import shutil
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.catalog import CatalogEntry, list_models, show
from models.compiling import MINI, TOWERS, CompileOptions, compile_encoder
from models.families import towers
from models.families.registry import find_opener
from models.family import Family
from models.model_choice import ModelChoice
from models.runners import encoder as encoders
from models.runners.encoder import TOLERANCE, graph_digest
from models.runners.engine import (
    PLAN_FILE,
    TOLERANCES,
    Device,
    EngineManifest,
    engine_folder,
    read_manifest,
    verify_engine,
)
from models.runners.graph_cache import ENCODER_FILE
from models.runners.graph_file import WEIGHTS_SUFFIX
from models.runners.openvino_encoder import RUNNER as OPENVINO
from pipeline.errors import ConfigurationError, StopRun
from pipeline.study import ImageSet
from tests.engines import ENGINES, graphs_of
from tests.tiny_chat import chat_study
from tests.tiny_families import TINY
from tests.tiny_model import film_study, tiny_cache
from tests.tiny_qwen import write_qwen

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed: no engine can be built here")
ORDER = CompileOptions("tensorrt_rtx", "8.9")
NAMES = (
    "firstread-mini",
    "uni-med",
    "medrega",
    "lingshu-i-8b",
    "radvlm",
    "llava-med",
    "medgemma-1.5-4b-it",
    "biomedclip",
    "umit",
    "chexone",
    "qwen3-vl",
)
"""A family of each adapter that has a tower."""
ALLOWED = {"onnxruntime-cpu": TOLERANCE, OPENVINO: 2 * TOLERANCE}
"""From torch, of the largest value. The small MedGemma here is ill-conditioned: of its features in float64 torch is
3e-5 away, ONNX Runtime 6e-5, OpenVINO 8e-5 on the other side. The other ten are within TOLERANCE on both."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A family's weights, the cache they were compiled into, and the one manifest."""

    entry: CatalogEntry
    choice: ModelChoice
    cache: Path
    manifest: EngineManifest

    @property
    def graph(self) -> Path:
        """The graph of the engine."""
        found = [
            path
            for path in self.cache.glob(f"*/{ENCODER_FILE}")
            if _engine_of(path).is_dir() and graph_digest(path) == self.manifest.onnx_sha256
        ]
        return found[0]

    @property
    def engine(self) -> Path:
        """The folder of the engine."""
        return _engine_of(self.graph)

    def study(self, number: int) -> ImageSet:
        """A study that the family reads."""
        return film_study(number) if self.entry.adapter in (MINI, "uni-med") else chat_study(number)

    def open(self, runner: str = "") -> Family:
        """The family over the same cache."""
        return find_opener(self.entry, self.entry.adapter)(
            self.entry, replace(self.choice, require_runner=runner), self.cache
        )


def _engine_of(graph: Path) -> Path:
    return engine_folder(graph.parent, "tensorrt_rtx", "fp32", "8.9")


def choose(model_id: str, root: Path) -> tuple[CatalogEntry, ModelChoice, Path]:
    """A family and how to open it, its weights written under ``root``."""
    cache = tiny_cache() if model_id == MINI else root / "cache"
    weights = TINY[model_id].write(root / "weights")
    return show(model_id), ModelChoice(model_id, weights, threads=1, accept_use_limits=True), cache


def exported(model_id: str, root: Path) -> tuple[CatalogEntry, ModelChoice, Path]:
    """The same over the graph that the session has exported for this family; other tests here export their own."""
    entry, choice, cache = choose(model_id, root)
    if model_id != MINI:
        with find_opener(entry, entry.adapter)(entry, choice, ENGINES) as family:
            for graph in graphs_of(family.parts):
                shutil.copytree(graph.parent, cache / graph.parent.name)
    return entry, choice, cache


@pytest.fixture(scope="module", params=NAMES)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    entry, choice, cache = exported(request.param, tmp_path_factory.mktemp("compiled"))
    (manifest,) = compile_encoder(entry, choice, cache, ORDER)
    return Compiled(entry, choice, cache, manifest)


def test_every_adapter_with_a_tower_is_here() -> None:
    assert {show(model_id).adapter for model_id in NAMES} == {MINI, *TOWERS}


def test_the_engine_is_described_and_verified(compiled: Compiled) -> None:
    manifest = compiled.manifest
    assert read_manifest(compiled.engine) == manifest
    assert manifest.graph_error <= TOLERANCE
    assert set(manifest.shapes) >= {"pixels"}
    assert all(shapes[0][0] == 1 < shapes[-1][0] for shapes in manifest.shapes.values())
    assert manifest.weights
    given: dict[str, Any] = {
        "weights": manifest.weights,
        "onnx_sha256": graph_digest(compiled.graph),
        "product_version": manifest.product_version,
        "library_sha256": manifest.library_sha256,
        "device": Device("NVIDIA L4", "8.9"),
    }
    assert verify_engine(compiled.engine, **given) == manifest
    with pytest.raises(StopRun, match="onnx_sha256"):
        verify_engine(compiled.engine, **{**given, "onnx_sha256": "0" * 64})


def test_the_family_finds_what_was_compiled(compiled: Compiled) -> None:
    before = sorted(compiled.cache.glob("*/manifest.json"))
    with compiled.open() as family:
        assert family.runner == "onnxruntime-cpu"
        assert family.parts[f"graph/{ENCODER_FILE}"]
    assert sorted(compiled.cache.glob("*/manifest.json")) == before  # no second export
    assert (compiled.engine / PLAN_FILE).is_file()


def test_every_runner_sees_what_torch_sees(compiled: Compiled) -> None:
    """firstread-mini starts without torch; tests/unit/test_encoder.py compares its graph with it."""
    studies = [compiled.study(number) for number in range(3)]
    reference = "onnxruntime-cpu" if compiled.entry.adapter == MINI else "torch"
    with compiled.open(reference) as family:
        assert family.runner == reference
        wanted = family.encode(studies)
    for runner in {"onnxruntime-cpu", OPENVINO} - {reference}:
        with compiled.open(runner) as family:
            assert family.runner == runner
            assert family.parts.get("openvino") == (version("openvino") if runner == OPENVINO else None)
            got = family.encode(studies)
            (alone,) = family.encode(studies[1:2])
        for name, values in alone.arrays.items():
            np.testing.assert_array_equal(values, got[1].arrays[name], err_msg=name)
        for one, other in zip(wanted, got, strict=True):
            seen = [name for name, values in one.arrays.items() if values.dtype == np.float32]
            assert seen
            for name in seen:
                expected = one.arrays[name]
                away = np.abs(other.arrays[name] - expected).max()
                assert away <= ALLOWED[runner] * np.abs(expected).max(), (runner, name)


def test_an_engine_that_cannot_run_here_is_not_replaced(compiled: Compiled) -> None:
    for runner in ("tensorrt", "tensorrt-rtx"):
        with pytest.raises(StopRun, match="not on tensorrt"):
            compiled.open(runner)


@pytest.mark.parametrize("model_id", ["llava-med", "chexone", "uni-med"])
def test_half_precision_has_a_graph_of_its_own(model_id: str, tmp_path: Path) -> None:
    entry, choice, cache = exported(model_id, tmp_path)
    (manifest,) = compile_encoder(entry, choice, cache, replace(ORDER, precision="fp16"))
    (graph,) = cache.glob(f"*/tensorrt_rtx-fp16-sm89/{ENCODER_FILE}")
    assert manifest.onnx_sha256 == graph_digest(graph) != graph_digest(graph.parents[1] / ENCODER_FILE)
    assert 1e-5 < manifest.graph_error <= TOLERANCES["fp16"]


def test_weights_over_one_file_lie_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "APART_BYTES", 10_000)
    monkeypatch.setattr(towers, "LARGE_BYTES", 10_000)
    entry, choice, cache = choose("llava-med", tmp_path)
    opener = find_opener(entry, entry.adapter)
    with opener(entry, choice, cache) as family:
        assert family.runner == "torch", "a large tower is not exported unasked"
        wanted = family.encode([chat_study(0)])[0].arrays["features"]
    (manifest,) = compile_encoder(entry, choice, cache, ORDER)
    (graph,) = cache.glob(f"*/{ENCODER_FILE}")
    weights = graph.with_name(graph.name + WEIGHTS_SUFFIX)
    assert weights.stat().st_size > 10_000 > graph.stat().st_size / 20
    assert manifest.onnx_sha256 == graph_digest(graph)
    with opener(entry, choice, cache) as family:
        assert family.runner == "onnxruntime-cpu"
        assert family.parts[f"graph/{weights.name}"]
        got = family.encode([chat_study(0)])[0].arrays["features"]
    assert np.abs(got - wanted).max() <= TOLERANCE * np.abs(wanted).max()
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    assert manifest.onnx_sha256 != graph_digest(graph)
    with pytest.raises(StopRun, match="not what its manifest describes"):
        opener(entry, choice, cache)


def test_a_folder_per_task_has_an_engine_per_checkpoint(tmp_path: Path) -> None:
    entry = show("umit")
    first = write_qwen(tmp_path / "weights" / "report", "qwen2-vl")
    shutil.copytree(first, tmp_path / "weights" / "vqa")
    write_qwen(tmp_path / "weights" / "vqa", "qwen2-vl", most_pixels=10_000)
    choice = ModelChoice(entry.id, tmp_path / "weights", accept_use_limits=True)
    cache = tmp_path / "cache"
    manifests = compile_encoder(entry, choice, cache, ORDER)
    assert len(manifests) == 2


def test_what_has_no_tower_here_is_refused(tmp_path: Path) -> None:
    for entry in list_models():
        if entry.adapter in ("causal-lm", "openai-endpoint"):
            with pytest.raises(ConfigurationError, match=r"no vision encoder|not run here"):
                compile_encoder(entry, ModelChoice(entry.id, accept_use_limits=True), tmp_path, ORDER)


def test_limits_of_use_hold_for_compiling_too(tmp_path: Path) -> None:
    entry, choice, cache = choose("uni-med", tmp_path)
    assert entry.acknowledge
    with pytest.raises(ConfigurationError, match="limits of use"):
        compile_encoder(entry, replace(choice, accept_use_limits=False), cache, ORDER)
