"""The trainer of the small lung segmenter: its labels, the way files lie, and a folder that the product opens."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

from models.families.segmenting.folder import load_network, read_folder
from models.training import train_lungs


def test_air_inside_the_body_is_lung_and_bowel_and_room_are_not() -> None:
    values = np.full((20, 40, 40), -1000, np.float32)
    values[:, 5:35, 5:35] = 50
    values[:, 10:30, 8:16] = values[:, 10:30, 24:32] = -850
    values[2:4, 20:22, 18:20] = -900  # 0.1 l
    labels = train_lungs.lungs_by_threshold(values, (5.0, 5.0, 5.0))
    wanted = np.zeros(values.shape, bool)
    wanted[:, 10:30, 8:16] = wanted[:, 10:30, 24:32] = True
    assert (labels.astype(bool) == wanted).all()


@pytest.mark.parametrize("signs", [(-1, -1, 1), (1, 1, 1), (-1, 1, -1)])
def test_a_file_is_read_to_the_head_the_back_and_the_left(
    signs: tuple[int, int, int], tmp_path: Path
) -> None:
    """NIfTI-1: sform rows lead to right, front and head."""
    path = write_nifti(tmp_path / "ct.nii.gz", signs)
    values, spacing = train_lungs.read_lps(path)
    assert (values.shape, spacing) == ((6, 5, 4), (3.0, 2.0, 1.0))
    assert values[5, 4, 3] == 1000, "the voxel nearest to head, back and left"


def write_nifti(path: Path, signs: tuple[int, int, int], shape: tuple[int, int, int] = (4, 5, 6)) -> Path:
    header = np.zeros(352, np.uint8)
    header[40:56] = np.array([3, *shape, 1, 1, 1, 1], "<i2").view(np.uint8)
    header[70:74] = np.array([4, 16], "<i2").view(np.uint8)
    header[108:112] = np.array([352], "<f4").view(np.uint8)
    rows = np.zeros((3, 4), "<f4")
    rows[0, 0], rows[1, 1], rows[2, 2] = signs[0] * 1.0, signs[1] * 2.0, signs[2] * 3.0
    header[280:328] = rows.ravel().view(np.uint8)
    values = np.zeros(shape, "<i2")
    # left and back are against the axes of the file's world, the head is along it
    corner = tuple(-1 if sign == want else 0 for sign, want in zip(signs, (-1, -1, 1), strict=True))
    values[corner] = 1000
    path.write_bytes(gzip.compress(header.tobytes() + values.tobytes(order="F")))
    return path


def test_what_it_writes_is_a_folder_of_a_segmenter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nifti(tmp_path / "ct.nii.gz", (-1, -1, 1), (90, 80, 60))
    command = ["train_lungs", str(path), "--out", str(tmp_path / "out"), "--steps", "1"]
    monkeypatch.setattr(sys, "argv", command)
    assert train_lungs.main() == 0
    told = read_folder(tmp_path / "out")
    assert (dict(told.plan.names), told.plan.modality) == ({1: "lung"}, "CT")
    load_network(told.plan, told.folds[0])
