"""ONNX Runtime tells nobody that it was started: no identifier of the machine, no queue of events, no session file."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sites import environment


@pytest.mark.parametrize("module", ["models.runners.encoder", "models.families.towers"])
def test_a_process_with_our_models_leaves_no_file_of_telemetry(module: str, tmp_path: Path) -> None:
    variables = environment() | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    variables.pop("XDG_CACHE_HOME", None)
    variables.pop("ORT_DISABLE_TELEMETRY", None)
    root = Path(__file__).resolve().parents[2]
    code = f"import {module}; import onnxruntime; onnxruntime.SessionOptions()"
    subprocess.run([sys.executable, "-c", code], cwd=root, env=variables, check=True, timeout=120)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == []
