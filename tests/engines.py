"""Where tests keep exported graphs: between sessions, as a site does; their manifests are verified at each load."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

ENGINES = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "firstread-tests"
"""Shared by the workers of a session. A test that changes a graph or compiles one takes a copy of its own."""


def share_graphs(data_dir: Path) -> None:
    """Let a site find the exported graphs of all others, where a test is not about its first start."""
    ENGINES.mkdir(parents=True, exist_ok=True)
    if not (data_dir / "engines").exists():
        (data_dir / "engines").symlink_to(ENGINES)


def graphs_of(parts: Mapping[str, str]) -> list[Path]:
    """The encoder's graphs under ``ENGINES`` that a family's ``parts`` tell of: one for each version of our code."""
    found = [
        manifest.with_name("encoder.onnx")
        for manifest in ENGINES.glob("*/manifest.json")
        if json.loads(manifest.read_bytes())["graphs"].get("encoder.onnx") == parts["graph/encoder.onnx"]
    ]
    assert found, "no graph of this family was exported"
    return found
