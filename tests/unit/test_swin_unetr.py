"""SwinUNETR built from plain values computes what MONAI's own does (``tests/upstream/theirs/run_swin_unetr.py``)."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from models.catalog import show
from models.convert_segmenter import convert
from models.families.registry import open_family
from models.families.segmenting.bundle import read_bundle
from models.model_choice import ModelChoice
from models.networks.monai_nets import MonaiNetwork, network_of_bundle
from models.networks.swin_unetr import without_places
from pipeline.errors import StopRun
from tests.engines import ENGINES
from tests.unit.test_bundle import changed, study_of, write_bundle

GOLDEN = Path(__file__).with_name("golden") / "swin_unetr.npz"


@pytest.fixture(scope="module")
def golden() -> Mapping[str, npt.NDArray[Any]]:
    with np.load(GOLDEN) as stored:
        return dict(stored)


def weight(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """A value of a network by its name alone, as MONAI's side makes it."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if len(shape) < 2:
        return (1 + values / 10 if name.endswith("weight") else values / 10).astype(np.float32)
    scaled: npt.NDArray[np.float32] = (values * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
    return scaled


def filled(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: torch.from_numpy(weight(name, tuple(value.shape)))
        for name, value in network.state_dict().items()
    }


def network_like(arguments: Any) -> torch.nn.Module:
    network = network_of_bundle(MonaiNetwork("SwinUNETR", 3, arguments))
    network.load_state_dict(filled(network))
    return network.eval()


@pytest.mark.parametrize("name", ["first", "second"])
def test_logits_are_those_of_monai(name: str, golden: Mapping[str, npt.NDArray[Any]]) -> None:
    """Windows that are padded, shifted and cut at the border of 64 x 32 x 96; MONAI 1.6.1."""
    network = network_like(json.loads(str(golden[f"{name}/arguments"])))
    names = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert names == without_places(json.loads(str(golden[f"{name}/names"])))
    given = np.random.default_rng(3).standard_normal((1, 1, 64, 32, 96)).astype(np.float32)
    with torch.inference_mode():
        (logits,) = network(torch.from_numpy(given))
    wanted = golden[f"{name}/logits"]
    assert np.abs(logits.numpy()[0, :, ::4, ::4, ::4] - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_labels_of_a_bundle_are_those_of_monai(
    golden: Mapping[str, npt.NDArray[Any]], tmp_path: Path
) -> None:
    configuration = json.loads(str(golden["bundle/configuration"]))
    arguments = {key: one for key, one in configuration["network_def"].items() if key != "_target_"}
    network = network_like(arguments)
    stored = {"swinViT.layers1.0.blocks.0.attn.relative_position_index": torch.zeros(343, 343).long()}
    folder = write_bundle(tmp_path, configuration, network.state_dict() | stored)
    convert(folder)
    choice = ModelChoice("nnunet", weights=folder, accept_use_limits=True, threads=1)
    with open_family(show("nnunet"), choice, ENGINES) as family:
        (features,) = family.encode([study_of(golden)])
    wanted = golden["bundle/labels"].transpose(2, 1, 0)
    assert float(np.mean(features.arrays["labels"] == wanted)) >= 0.9999
    assert len(np.unique(wanted)) == 3, "a picture of one label would prove nothing"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("network_def.use_hyena", True, "is given use_hyena"),
        ("network_def.feature_size", 10, "feature_size"),
        ("network_def.depths", [2, 2, 2], "do not fit together"),
        ("network_def.num_heads", [5, 2, 4, 4], "do not fit together"),
        ("network_def.downsample", "other", "do not fit together"),
        ("network_def.patch_size", 4, "do not fit together"),
        ("inferer.roi_size", [48, 32, 32], "no multiples of 32"),
    ],
)
def test_what_is_not_read_is_refused(
    path: str, value: Any, said: str, golden: Mapping[str, npt.NDArray[Any]], tmp_path: Path
) -> None:
    configuration = json.loads(str(golden["bundle/configuration"]))
    read_bundle(write_bundle(tmp_path / "sound", configuration))
    with pytest.raises(StopRun, match=said):
        read_bundle(write_bundle(tmp_path / "other", changed(configuration, path, value)))
