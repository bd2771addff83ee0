"""An engine that an earlier version compiled is refused with the command that compiles it again; no GPU is needed."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from models.runners.engine import EngineManifest, engine_folder, refuse_earlier_engine, write_manifest
from pipeline.errors import StopRun

WEIGHTS = {"model.safetensors": "a" * 64}
MANIFEST = EngineManifest(
    model_id="firstread-mini",
    product="tensorrt",
    product_version="10.15",
    library_sha256="b" * 64,
    capability="8.9",
    gpu_name="",
    precision="fp32",
    weights=WEIGHTS,
    onnx_sha256="c" * 64,
    engine_sha256="d" * 64,
    shapes={"pixels": ((1, 1, 8, 8), (1, 1, 8, 8), (1, 1, 8, 8))},
    graph_error=0.0,
    tolerance=1e-3,
)


def engine(graphs: Path, manifest: EngineManifest, precision: str = "fp32") -> Path:
    """The folder of an engine beside a graph."""
    folder = engine_folder(graphs, manifest.product, precision, manifest.capability)
    folder.mkdir(parents=True)
    write_manifest(folder, manifest)
    return folder


def test_an_engine_beside_an_older_graph_is_refused(tmp_path: Path) -> None:
    now, before = tmp_path / "now", tmp_path / "before"
    now.mkdir()
    folder = engine(before, MANIFEST)
    with pytest.raises(StopRun, match="firstread models compile firstread-mini") as caught:
        refuse_earlier_engine(now, WEIGHTS, "tensorrt", "8.9")
    assert caught.value.code == "engine-earlier"
    assert str(folder) in caught.value.message


def test_engines_of_others_are_let_be(tmp_path: Path) -> None:
    now = tmp_path / "now"
    now.mkdir()
    engine(tmp_path / "other-weights", replace(MANIFEST, weights={"model.safetensors": "e" * 64}))
    folder = engine(tmp_path / "unreadable", MANIFEST)
    (folder / "engine.json").write_text(json.dumps({**asdict(MANIFEST), "unknown": 1}), encoding="utf-8")
    refuse_earlier_engine(now, WEIGHTS, "tensorrt", "8.9")
    engine(tmp_path / "same-weights", MANIFEST)
    refuse_earlier_engine(now, WEIGHTS, "tensorrt", "12.0")
    refuse_earlier_engine(now, WEIGHTS, "tensorrt_rtx", "8.9")
