"""Where tests keep exported graphs: between sessions, as a site does; their manifests are verified at each load."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

ENGINES = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "firstread-tests"
"""Shared by the workers of a session. A test that changes a graph or compiles one takes a copy of its own."""


def graph_of(parts: Mapping[str, str]) -> Path:
    """The encoder's graph under ``ENGINES`` that a family's ``parts`` tell of."""
    for manifest in ENGINES.glob("*/manifest.json"):
        if json.loads(manifest.read_bytes())["graphs"].get("encoder.onnx") == parts["graph/encoder.onnx"]:
            return manifest.with_name("encoder.onnx")
    raise AssertionError("no graph of this family was exported")
