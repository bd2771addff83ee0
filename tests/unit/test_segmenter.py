"""Segmenters against nnU-Net's own predictor, and folders that are none.

``golden/nnunet.npz`` is what ``tests/upstream/theirs/run_nnunet.py`` wrote with nnunetv2 2.8.1 and torch 2.14.1: small
random networks, an image each, and the labels of ``nnUNetPredictor``, as it is and with its sums in single precision.
"""

import json
import pickle
import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from flows.commands.ask import _plain
from models.catalog import show
from models.convert_segmenter import convert
from models.families.registry import open_family
from models.families.segmenting.folder import load_network, read_folder, stu_net_strides
from models.families.segmenting.plans import Plan, read_plan
from models.families.segmenting.segmenter import findings_text, segment_volume
from models.families.segmenting.structures import structure
from models.families.segmenting.windows import Network, Running, segment, starts
from models.family import Features, Request, Task
from models.model_choice import ModelChoice
from models.networks.stu_net import STUNet
from models.networks.unet import UNet
from pipeline.errors import ConfigurationError, FailStudy, SkipStudy, StopRun
from pipeline.report import Language, Segment, Side, TaskAnswer
from pipeline.study import ImageSet, StudyVolume
from tests.taught_segmenter import ball_ct, taught, write_checkpoint, write_plans

GOLDEN = Path(__file__).with_name("golden") / "nnunet.npz"
CASES = ("plain", "residual", "coarse", "turned", "masked", "regions", "folds")


@pytest.fixture(scope="module")
def golden() -> Mapping[str, npt.NDArray[Any]]:
    with np.load(GOLDEN) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = taught(tmp_path_factory.mktemp("segmenter"))
    convert(folder)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_labels_are_those_of_nnu_net(
    case: str, golden: Mapping[str, npt.NDArray[Any]], tmp_path: Path
) -> None:
    held = {name.partition("/")[2]: value for name, value in golden.items() if name.startswith(f"{case}/")}
    (tmp_path / "plans.json").write_text(str(held["plans"]))
    (tmp_path / "dataset.json").write_text(str(held["dataset"]))
    plan = read_plan(tmp_path, "3d_fullres")
    folds = sorted({name.split("/")[0] for name in held if name.startswith("fold_")})
    networks = [_network(plan, held, fold) for fold in folds]
    mirrored = tuple(int(axis) for axis in held["mirror"])
    labels = segment(held["image"], held["spacing"].tolist(), plan, Running(networks, mirrored, 2))
    assert np.mean(labels == held["single"]) >= 0.9999
    assert np.mean(labels == held["labels"]) >= 0.99, "nnU-Net adds its windows in half precision"
    assert len(np.unique(labels)) > 1


def _network(plan: Plan, held: Mapping[str, npt.NDArray[Any]], fold: str) -> Network:
    module = UNet(plan.shape, 1, plan.outputs).eval()
    prefix = f"{fold}/"
    module.load_state_dict(
        {
            name[len(prefix) :]: torch.from_numpy(value)
            for name, value in held.items()
            if name.startswith(prefix)
        }
    )

    def run(windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(windows))[0].numpy())

    return run


def test_stu_net_gives_what_its_authors_network_gives() -> None:
    """``golden/stu_net.npz``: ``tests/upstream/theirs/run_stu_net.py``, their class with random weights."""
    with np.load(GOLDEN.with_name("stu_net.npz")) as stored:
        held = dict(stored)
    weights = {
        name.removeprefix("weights/"): torch.from_numpy(value)
        for name, value in held.items()
        if name.startswith("weights/")
    }
    strides = [(int(one), int(two), int(three)) for one, two, three in held["strides"]]
    network = STUNet(weights, strides).eval()
    network.load_state_dict(weights)
    with torch.inference_mode():
        (logits,) = network(torch.from_numpy(held["image"]))
    assert np.abs(logits.numpy() - held["logits"]).max() < 1e-5
    assert stu_net_strides([(1, 1, 1), *strides[:4]]) == strides
    with pytest.raises(StopRun, match="not those of STU-Net"):
        STUNet({name: one for name, one in weights.items() if "conv2" not in name}, strides)


def test_a_folder_of_stu_net_is_opened(tmp_path: Path) -> None:
    """Plans name the usual network; the checkpoint says by its names that another was trained."""
    with np.load(GOLDEN.with_name("stu_net.npz")) as stored:
        weights = {
            name.removeprefix("weights/"): torch.from_numpy(stored[name])
            for name in stored.files
            if name.startswith("weights/")
        }
    strides = [[1, 1, 1], [2, 2, 2], [2, 2, 2], [1, 2, 2], [1, 2, 2]]
    layers = {
        "n_stages": 5,
        "features_per_stage": [32, 64, 128, 256, 320],
        "kernel_sizes": [[3, 3, 3]] * 5,
        "strides": strides,
        "n_conv_per_stage": [2] * 5,
        "n_conv_per_stage_decoder": [2] * 4,
    }
    write_plans(tmp_path, layers=layers, patch=(8, 32, 16))
    (tmp_path / "fold_0").mkdir()
    checkpoint = {"network_weights": weights, "init_args": {"configuration": "3d_fullres"}}
    torch.save(checkpoint, tmp_path / "fold_0" / "checkpoint_final.pth")
    convert(tmp_path)
    with open_family(show("nnunet"), choice(tmp_path), tmp_path / "cache") as family:
        assert family.runner == "openvino-cpu"
        volume = StudyVolume(
            np.full((10, 40, 30), 50, np.int16), np.diag([4.0, 4.0, 4.0, 1.0])[::1], (), "CT"
        )
        (features,) = family.encode([ImageSet("1.2", (), chest=False, volume=volume)])
        assert features.arrays["labels"].shape == (10, 40, 30)


def test_windows_cover_and_overlap() -> None:
    for length in range(16, 60):
        found = starts(length, 16)
        assert found[0] == 0
        assert found[-1] == length - 16
        assert all(0 < after - before <= 8 for before, after in pairwise(found))


def test_a_taught_network_finds_what_it_was_taught(network: Path, tmp_path: Path) -> None:
    family = open_family(show("nnunet"), choice(network), tmp_path)
    with family:
        volume, truth = ball_volume()
        study = ImageSet("1.2", (), chest=False, volume=volume)
        (features,) = family.encode([study])
        (answer,) = family.answer([features], [Request(Task.SEGMENT)])
        assert answer.mask is not None
        found = answer.mask == 1
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9
        liver, spleen = answer.segments
        assert (liver.name, liver.code and liver.code.value) == ("liver", "10200004")
        assert liver.volume_ml == pytest.approx(found.sum() * 2 * 0.8 * 0.8 / 1000, abs=1e-3)
        assert (spleen.voxels, spleen.volume_ml) == (0, 0)
        assert answer.text.endswith("Not found: spleen.")
        (only,) = family.answer([features], [Request(Task.SEGMENT, target="Liver")])
        assert [one.label for one in only.segments] == ["liver"]
        with pytest.raises(FailStudy) as refused:
            family.answer([features], [Request(Task.SEGMENT, target="heart")])
        assert refused.value.code == "no-such-structure"
        with pytest.raises(SkipStudy):
            family.encode([ImageSet("1.2", (), chest=False)])
        with pytest.raises(SkipStudy, match="MR"):
            family.encode([ImageSet("1.2", (), volume=StudyVolume(volume.values, volume.affine, (), "MR"))])


def ball_volume() -> tuple[StudyVolume, npt.NDArray[np.bool_]]:
    """The made CT feet to head, with the truth of each voxel."""
    slices = ball_ct()[::-1]
    values = np.stack([one.pixels() for one in slices]).astype(np.int16)
    truth = np.stack([one.inside() for one in slices])  # type: ignore[attr-defined]
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 2.0, 0.8, 0.8, 1.0
    return StudyVolume(values, affine, (), "CT"), truth


@pytest.mark.parametrize(
    ("order", "flips"), [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (1, -1, 1)), ((1, 2, 0), (-1, 1, -1))]
)
@pytest.mark.parametrize("orientation", ["LPS", "RAS"])
def test_planes_of_any_direction_are_segmented_as_the_training_images_lay(
    order: tuple[int, int, int], flips: tuple[int, int, int], orientation: str, tmp_path: Path
) -> None:
    """A network that labels whatever is bright in the first half of its x axis: the patient's right or left."""
    write_plans(tmp_path, spacing=(2.0, 2.0, 2.0), patch=(8, 8, 8))
    plan = read_plan(tmp_path, "3d_fullres")

    def half(windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        logits = np.zeros((len(windows), 3, *windows.shape[2:]), np.float32)
        logits[:, 1, :, :, :4] = 1
        return logits

    values = np.ones((8, 8, 8), np.int16)  # z, y, x, each to the head, the back, the left
    values[0, 0, 0] = 2
    whole = np.zeros((4, 4))
    whole[2, 0], whole[1, 1], whole[0, 2], whole[3, 3] = 2, 2, 2, 1
    turned = values.transpose(order)[tuple(slice(None, None, flip) for flip in flips)]
    affine = whole[:, [*order, 3]] * np.array([*flips, 1])
    found = segment_volume(StudyVolume(turned, affine, (), "CT"), orientation, plan, Running([half]))
    wanted = np.zeros((8, 8, 8), int)
    wanted[:, :, :4] = 1
    if orientation == "RAS":
        wanted = wanted[:, :, ::-1]
    assert (found == wanted.transpose(order)[tuple(slice(None, None, flip) for flip in flips)]).all()


def choice(folder: Path) -> ModelChoice:
    return ModelChoice("nnunet", weights=folder, accept_use_limits=True, threads=1)


def test_a_pickle_is_never_opened_and_one_that_runs_something_never_converted(tmp_path: Path) -> None:
    write_plans(tmp_path)
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "fold_0" / "checkpoint_final.pth").write_bytes(
        pickle.dumps({"network_weights": Path("x")}, 2)
    )
    with pytest.raises(ConfigurationError, match=r"models\.convert_segmenter"):
        read_folder(tmp_path)
    with pytest.raises(StopRun, match="not a file of tensors and plain values"):
        convert(tmp_path)
    torch.save({"network_weights": Path("x")}, tmp_path / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(StopRun, match="not a file of tensors and plain values"):
        convert(tmp_path)


def test_weights_of_another_network_are_not_converted(tmp_path: Path) -> None:
    write_plans(tmp_path)
    plan = read_plan(tmp_path, "3d_fullres")
    write_checkpoint(tmp_path, UNet(plan.shape, 1, plan.outputs + 1))
    with pytest.raises(StopRun, match="another shape"):
        convert(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"previous_stage": "3d_lowres"}, "a cascade"),
        ({"patch_size": [32, 32]}, "single planes"),
        ({"patch_size": [15, 32, 32]}, "not as nnU-Net"),
        ({"normalization_schemes": ["RGBTo01Normalization"]}, "RGBTo01Normalization"),
        ({"resampling_fn_data": "resample_torch_fornnunet"}, "resample_torch_fornnunet"),
        ({"patch_size": [65536, 65536, 65536]}, "a patch of"),
        ({"architecture": {"network_class_name": "os.system", "arch_kwargs": {}}}, "class system"),
    ],
)
def test_plans_that_are_not_read_here_are_refused_by_name(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_plans(tmp_path, **changes)
    with pytest.raises(StopRun, match=message):
        read_plan(tmp_path, "3d_fullres")


def test_plans_that_promise_too_much_take_no_memory(network: Path, tmp_path: Path) -> None:
    """Features by the hundred thousand would be terabytes; the weights beside them say how many there are."""
    shutil.copytree(network, tmp_path / "folder")
    plans = tmp_path / "folder" / "plans.json"
    said = json.loads(plans.read_text())
    (values,) = said["configurations"].values()
    described = values["architecture"]["arch_kwargs"]
    described["features_per_stage"] = [200_000] * described["n_stages"]
    plans.write_text(json.dumps(said))
    read = read_folder(tmp_path / "folder")
    with pytest.raises(StopRun, match="another shape"):
        load_network(read.plan, read.folds[0])
    described["n_conv_per_stage"] = [10**9] * described["n_stages"]
    plans.write_text(json.dumps(said))
    with pytest.raises(StopRun, match="more than 64 layers"):
        read_folder(tmp_path / "folder")


def test_labels_of_total_segmentator_are_laid_out_as_its_images(network: Path, tmp_path: Path) -> None:
    assert read_folder(network).orientation == "LPS"
    write_plans(tmp_path, labels={"background": 0, "lung_upper_lobe_left": 1, "spleen": 2})
    write_checkpoint(tmp_path, UNet(read_plan(tmp_path, "3d_fullres").shape, 1, 3))
    convert(tmp_path)
    assert read_folder(tmp_path).orientation == "RAS"
    (tmp_path / "firstread.json").write_text(json.dumps({"orientation": "LPS"}))
    assert read_folder(tmp_path).orientation == "LPS"
    (tmp_path / "firstread.json").write_text(json.dumps({"orientation": "feet first"}))
    with pytest.raises(StopRun, match="orientation"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "code", "side", "english", "chinese"),
    [
        ("kidney_left", "64033007", Side.LEFT, "left kidney", "左肾"),
        ("Right kidney", "64033007", Side.RIGHT, "right kidney", "右肾"),
        ("vertebrae_L5", "49668003", None, "L5 vertebra", "第5腰椎"),
        ("lung_middle_lobe_right", "72481006", None, "middle lobe of the right lung", "右肺中叶"),
        ("something_new", None, None, "something new", "something new"),
    ],
)
def test_structures_have_codes_sides_and_words(
    name: str, code: str | None, side: Side | None, english: str, chinese: str
) -> None:
    found = structure(name)
    assert (found.code and found.code.value, found.side) == (code, side)
    assert (found.words[Language.ENGLISH], found.words[Language.CHINESE]) == (english, chinese)


def test_findings_in_fixed_words() -> None:
    liver, spleen = Segment(1, "liver", 1512.4, 100), Segment(2, "spleen", 0, 0)
    assert findings_text([liver, spleen], Language.ENGLISH) == (
        "Automatic segmentation of one series. liver 1512 ml. Not found: spleen."
    )
    assert "未发现该网络所识别的结构" in findings_text([spleen], Language.CHINESE)


def test_what_is_not_a_task_of_it_is_refused(network: Path, tmp_path: Path) -> None:
    with open_family(show("nnunet"), choice(network), tmp_path) as family, pytest.raises(ConfigurationError):
        family.answer([Features((), {})], [Request(Task.VQA, question="?")])


def test_ask_tells_the_volumes() -> None:
    known = structure("liver")
    liver = Segment(1, "liver", 53.244, 41597, "liver", known.code)
    told = _plain(
        TaskAnswer("segment", Language.ENGLISH, "", "liver 53 ml", segments=(liver,)), "nnunet", "v2"
    )
    assert told["segments"] == [
        {"name": "liver", "label": "liver", "snomed": "10200004", "volume_ml": 53.244}
    ]
