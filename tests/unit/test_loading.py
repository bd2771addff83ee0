"""Weights are what they are said to be, or the run stops."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from models.families.mini.export import JOINED, OUTPUTS, load_network, record_self_check
from models.networks.mini import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE
from models.weight_loading.verified import (
    SELF_CHECK_FILE,
    SelfCheck,
    check_keys,
    fixed_pixels,
    read_self_check,
    read_weights,
    sample_outputs,
    verify_files,
    verify_outputs,
)
from pipeline.errors import StopRun
from tests.tiny_model import tiny_weights


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_weights(), tmp_path / "weights"))


def change_tensor(change: Callable[[dict[str, np.ndarray]], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS_FILE)
        change(tensors)
        save_file(tensors, folder / WEIGHTS_FILE)

    return apply


def test_sound_weights_pass(weights: Path) -> None:
    check = read_self_check(weights)
    verify_files(weights, check)
    assert record_self_check(weights) == check


@pytest.mark.parametrize("name", [WEIGHTS_FILE, CONFIG_FILE, TOKENIZER_FILE])
def test_a_changed_byte_stops_the_run(weights: Path, name: str) -> None:
    content = bytearray((weights / name).read_bytes())
    content[-3] ^= 1
    (weights / name).write_bytes(content)
    with pytest.raises(StopRun, match=name):
        verify_files(weights, read_self_check(weights))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            change_tensor(lambda tensors: tensors.pop("joiner.connector.task_tokens").sum()),
            "1 tensors missing",
        ),
        (
            change_tensor(lambda tensors: tensors.update(extra=np.zeros(2, np.float32))),
            "1 tensors unexpected",
        ),
        (
            change_tensor(lambda tensors: tensors.update({"vision.position": np.zeros((1, 2), np.float32)})),
            "another shape",
        ),
        (lambda folder: (folder / CONFIG_FILE).write_text("{}"), "not of this network"),
        (lambda folder: (folder / WEIGHTS_FILE).unlink(), "not a readable safetensors"),
        (
            lambda folder: (folder / WEIGHTS_FILE).write_bytes(pickle.dumps({"a": 1})),
            "not a readable safetensors",
        ),
    ],
)
def test_weights_of_another_network_stop_the_run(
    weights: Path, change: Callable[[Path], None], message: str
) -> None:
    change(weights)
    with pytest.raises(StopRun, match=message):
        load_network(weights)


@pytest.mark.parametrize(
    "content", [None, "", "[]", '{"files": {}}', '{"files": 1, "expected": {"a": ["x"]}}']
)
def test_a_missing_or_broken_self_check_stops_the_run(weights: Path, content: str | None) -> None:
    if content is None:
        (weights / SELF_CHECK_FILE).unlink()
    else:
        (weights / SELF_CHECK_FILE).write_text(content)
    with pytest.raises(StopRun, match=SELF_CHECK_FILE):
        read_self_check(weights)


def test_another_answer_to_the_fixed_input_stops_the_run() -> None:
    outputs = {"heat": np.linspace(-3, 3, 60, dtype=np.float32).reshape(3, 20)}
    check = SelfCheck({}, sample_outputs(outputs), tolerance=1e-3)
    verify_outputs(check, {"heat": outputs["heat"] + 1e-3})
    for wrong in (outputs["heat"] + 1e-2, outputs["heat"] * np.nan, outputs["heat"][:, :5]):
        with pytest.raises(StopRun, match="heat"):
            verify_outputs(check, {"heat": wrong})
    with pytest.raises(StopRun, match="heat"):
        verify_outputs(check, {})
    verify_outputs(check, {"heat": outputs["heat"] + 1e-2}, tolerance=1e-2)


def test_the_self_check_survives_its_file(weights: Path) -> None:
    check = read_self_check(weights)
    assert json.loads(check.to_json())["files"] == check.files
    assert set(check.expected) == {*OUTPUTS, *JOINED, "logits"}


def test_the_fixed_input_never_changes() -> None:
    pixels = fixed_pixels((2, 1, 8, 8))
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(
        pixels.ravel()[[0, 1, 64, 127]], [0.375, 0.529892, 0.538091, 0.546188], atol=1e-6
    )


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_as_weights(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("weights") / WEIGHTS_FILE
    path.write_bytes(content)
    with pytest.raises(StopRun):
        check_keys({"a"}, read_weights(path))
