"""A MONAI bundle read as data gives the labels that MONAI gives; what is not read of one is refused by name."""

import copy
import json
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
from models.families.segmenting.folder import read_folder
from models.family import Request, Task
from models.model_choice import ModelChoice
from pipeline.errors import ConfigurationError, StopRun
from pipeline.study import ImageSet, InstanceRef, StudyVolume
from tests.engines import ENGINES

GOLDEN = Path(__file__).with_name("golden") / "monai.npz"
METADATA = {
    "network_data_format": {
        "inputs": {"image": {"modality": "CT", "num_channels": 1}},
        "outputs": {
            "pred": {"num_channels": 3, "channel_def": {"0": "background", "1": "liver", "2": "spleen"}}
        },
    }
}
CASES = ("range-last", "range-first", "normal", "dyn", "nearest")


@pytest.fixture(scope="module")
def golden() -> Mapping[str, npt.NDArray[Any]]:
    """What ``tests/upstream/theirs/run_monai.py`` wrote."""
    with np.load(GOLDEN) as stored:
        return dict(stored)


def study_of(golden: Mapping[str, npt.NDArray[Any]]) -> ImageSet:
    """MONAI's image, whose axes are x, y, z in RAS, as a study of planes, rows and columns of DICOM."""
    values = np.ascontiguousarray(golden["image"].transpose(2, 1, 0))
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ golden["affine"]
    affine[:3, :3] = affine[:3, 2::-1]
    volume = StudyVolume(values, affine, ((InstanceRef("1", "2", "3"), 0),) * len(values), "CT")
    return ImageSet("1", (), chest=False, volume=volume)


def write_bundle(folder: Path, configuration: Any, weights: Mapping[str, Any] | None = None) -> Path:
    for name, content in (("inference.json", configuration), ("metadata.json", METADATA)):
        (folder / "configs").mkdir(parents=True, exist_ok=True)
        (folder / "configs" / name).write_text(json.dumps(content), encoding="utf-8")
    if weights is not None:
        (folder / "models").mkdir(exist_ok=True)
        torch.save(dict(weights), folder / "models" / "model.pt")
    return folder


def told(golden: Mapping[str, npt.NDArray[Any]], name: str) -> tuple[Any, dict[str, Any]]:
    mark = f"{name}/weights/"
    weights = {
        key.removeprefix(mark): torch.from_numpy(one) for key, one in golden.items() if key.startswith(mark)
    }
    return json.loads(str(golden[f"{name}/configuration"])), weights


@pytest.mark.parametrize("name", CASES)
def test_labels_are_those_of_monai(name: str, golden: Mapping[str, npt.NDArray[Any]], tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, *told(golden, name))
    with pytest.raises(ConfigurationError, match="convert"):
        read_folder(folder)
    convert(folder)
    choice = ModelChoice("nnunet", weights=folder, accept_use_limits=True, threads=1)
    with open_family(show("nnunet"), choice, ENGINES) as family:
        (features,) = family.encode([study_of(golden)])
        labels = features.arrays["labels"]
        (answer,) = family.answer([features], [Request(Task.SEGMENT)])
    assert [one.label for one in answer.segments] == ["liver", "spleen"]
    wanted = golden[f"{name}/labels"].transpose(2, 1, 0)
    assert float(np.mean(labels == wanted)) >= 0.9999
    assert len(np.unique(wanted)) == 3, "a picture of one label would prove nothing"


def changed(configuration: Any, path: str, value: Any) -> Any:
    found = copy.deepcopy(configuration)
    at = found
    *before, last = path.split(".")
    for one in before:
        at = at[int(one) if isinstance(at, list) else one]
    at[int(last) if isinstance(at, list) else last] = value
    return found


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("network_def._target_", "my_code.Network", "a Network"),
        ("network_def.channels", "$__import__('os').system('true')", "an expression in network_def"),
        ("network_def.channels", "$[4, 8] if len(@pixdim) else [4, 8]", "an expression in network_def"),
        ("network_def.channels", "@network_def#channels", "refers to itself"),
        ("fine", ["@fine"] * 9, "an expression in preprocessing|refers to itself"),
        ("network_def.channels", [4, 8, 10**9], "do not fit together"),
        ("network_def.norm", "layer", "normalise by layer"),
        ("preprocessing.transforms.0._target_", "Rotated", "prepared by Rotated"),
        ("preprocessing.transforms.0.axcodes", "PIR", "how its images lie"),
        ("preprocessing.transforms.1.mode", "nearest", "mode of Spacingd"),
        ("inferer._target_", "SimpleInferer", "a SimpleInferer"),
        ("inferer.padding_mode", "reflect", "padding_mode of SlidingWindowInferer"),
        ("postprocessing.transforms.0.sigmoid", True, "sigmoid of Activationsd"),
        (
            "postprocessing.transforms.1._target_",
            "KeepLargestConnectedComponentd",
            "KeepLargestConnectedComponentd",
        ),
    ],
)
def test_what_is_not_read_is_refused_by_name(
    path: str, value: Any, said: str, golden: Mapping[str, npt.NDArray[Any]], tmp_path: Path
) -> None:
    configuration, _ = told(golden, "range-last")
    read_bundle(write_bundle(tmp_path / "sound", configuration))
    with pytest.raises(StopRun, match=said):
        read_bundle(write_bundle(tmp_path / "other", changed(configuration, path, value)))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("network_def.strides", [1, 2], "do not fit together"),
        ("network_def.kernel_size", [3, [3, 3], 3], "do not fit together"),
        ("network_def.filters", [4, 6, 10**9], "do not fit together"),
        ("network_def.my_own", 1, "is given my_own"),
    ],
)
def test_a_dyn_unet_of_other_arguments_is_refused(
    path: str, value: Any, said: str, golden: Mapping[str, npt.NDArray[Any]], tmp_path: Path
) -> None:
    configuration, _ = told(golden, "dyn")
    read_bundle(write_bundle(tmp_path / "sound", configuration))
    with pytest.raises(StopRun, match=said):
        read_bundle(write_bundle(tmp_path / "other", changed(configuration, path, value)))


def test_weights_of_another_network_are_not_converted(
    golden: Mapping[str, npt.NDArray[Any]], tmp_path: Path
) -> None:
    configuration, _ = told(golden, "range-last")
    _, weights = told(golden, "normal")
    with pytest.raises(StopRun):
        convert(write_bundle(tmp_path, configuration, weights))
    assert not (tmp_path / "models" / "model.safetensors").exists()
