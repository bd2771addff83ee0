"""Project the CT into organ maps, once per pose: ``python -m models.training.prepare_maps --shared DIR``.

``--lateral`` projects the same poses from the patient's right, with the left side at the detector, into the file of
the lateral maps; the front of the patient is on the left of that image.
"""

import argparse
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.simulation.maps import LATERAL_CHANNELS, LATERAL_PATH, MAPS_PATH, save_maps

SIZE = 256
FIELD_MM = 400.0
POSES = 24
RIGHT_LUNG, LEFT_LUNG, HEART, SPINE = (12, 13, 14), (10, 11), (51,), tuple(range(32, 44))
UPPER_LEFT_LOBE, LOWER_LEFT_LOBE = 10, 11
SPACING_MM = np.array([1.40625, 1.40625, 2.5])
"""Of the volume after its in-plane pixels are averaged two by two."""
STEPS, DEPTH_MM = 112, 300.0
LATERAL_STEPS, LATERAL_DEPTH_MM = 150, 420.0
_NIFTI_TYPES = {2: np.uint8, 4: np.int16, 8: np.int32, 16: np.float32, 64: np.float64, 512: np.uint16}


@dataclass(frozen=True, slots=True)
class Pose:
    """How the patient stands before the detector: rotation, size, shift in mm, source to detector in mm."""

    rotation: NDArray[np.float64]
    size: NDArray[np.float64]
    shift: NDArray[np.float64]
    source_mm: float


def read_nifti(path: Path) -> NDArray[np.float32]:
    """Voxels of a little-endian, gzipped NIfTI-1 file, scaled, in the file's own axis order (x, y, z)."""
    content = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(content, "<i2", 8, 40)[1:4]
    code, offset = int(np.frombuffer(content, "<i2", 1, 70)[0]), int(np.frombuffer(content, "<f4", 1, 108)[0])
    slope, intercept = np.frombuffer(content, "<f4", 2, 112)
    kind = np.dtype(_NIFTI_TYPES[code]).newbyteorder("<")
    voxels = (
        np.frombuffer(content, kind, int(np.prod(shape)), offset).reshape(shape, order="F").astype(np.float32)
    )
    return voxels * slope + intercept if slope not in (0.0, 1.0) or intercept else voxels


def _centre(labels: NDArray[np.int16], structures: tuple[int, ...]) -> NDArray[np.float64]:
    centre: NDArray[np.float64] = np.argwhere(np.isin(labels, structures)).mean(axis=0)
    return centre


def load_volume(folder: Path) -> tuple[torch.Tensor, NDArray[np.float64]]:
    """Attenuation and organ channels [1, 6, x, y, z], and the centre of the lungs in mm.

    The axes are turned so that x runs to the patient's left, y from the back to the front and z to the head.
    """
    hounsfield = np.clip(read_nifti(folder / "cxr.nii.gz"), -1024, 2000)
    labels = read_nifti(folder / "mask.nii.gz").astype(np.int16)
    x, y, z = hounsfield.shape
    hounsfield = hounsfield.reshape(x // 2, 2, y // 2, 2, z).mean(axis=(1, 3))
    labels = labels[::2, ::2]
    left, right = _centre(labels, LEFT_LUNG), _centre(labels, RIGHT_LUNG)
    heart, spine = _centre(labels, HEART), _centre(labels, SPINE)
    upright = _centre(labels, (UPPER_LEFT_LOBE,))[2] > _centre(labels, (LOWER_LEFT_LOBE,))[2]
    wrong = (left[0] < right[0], spine[1] > heart[1], not upright)
    turned = tuple(axis for axis in range(3) if wrong[axis])
    hounsfield, labels = np.flip(hounsfield, turned), np.flip(labels, turned)
    bone = np.where(hounsfield > 250, 1.35, 1.0)
    attenuation: NDArray[np.float32] = (np.clip(hounsfield / 1000 + 1, 0, None) * 0.02 * bone).astype(
        np.float32
    )
    masks: list[NDArray[np.float32]] = [
        np.isin(labels, organ).astype(np.float32) for organ in (RIGHT_LUNG, LEFT_LUNG, HEART)
    ]
    channels = [attenuation, *masks, attenuation * masks[0], attenuation * masks[1]]
    centre = np.argwhere(masks[0] + masks[1] > 0).mean(axis=0) * SPACING_MM
    return torch.from_numpy(np.stack(channels).astype(np.float32))[None].contiguous(), centre


def draw_pose(seed: int) -> Pose:
    """A pose within a few degrees and centimetres of upright, and a chest up to an eighth larger or smaller."""
    generator = np.random.default_rng(seed)
    (sx, sy, sz), (cx, cy, cz) = (
        f(np.deg2rad(generator.uniform(-1, 1, 3) * (5, 6, 4))) for f in (np.sin, np.cos)
    )
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return Pose(
        rotation=about_z @ about_y @ about_x,
        size=generator.uniform((0.88, 0.88, 0.88), (1.12, 1.12, 1.1)),
        shift=generator.uniform(-1, 1, 3) * (10, 0, 10),
        source_mm=float(generator.uniform(1600, 2000)),
    )


def project(
    volume: torch.Tensor, centre: NDArray[np.float64], pose: Pose, lateral: bool = False
) -> NDArray[np.float32]:
    """Sum every channel along the rays of one pose: [channel, SIZE, SIZE].

    Image right is the patient's left, or the patient's back with ``lateral``.
    """
    isocentre = pose.source_mm - 150
    steps, length = (LATERAL_STEPS, LATERAL_DEPTH_MM) if lateral else (STEPS, DEPTH_MM)
    step = length / steps
    depths = (np.arange(steps) + 0.5) * step - length / 2
    axis = (np.arange(SIZE) - SIZE / 2 + 0.5) * FIELD_MM / SIZE
    across, down = np.meshgrid(axis, -axis)
    shape = np.array(volume.shape[2:])
    total = torch.zeros(volume.shape[1], SIZE, SIZE)
    for depth in depths:
        magnification = (isocentre + depth) / pose.source_mm
        flat, plane = np.full_like(across, depth), across * magnification
        x, y = (flat, -plane) if lateral else (plane, flat)
        points = np.stack([x, y, down * magnification], -1)
        voxels = (((points + pose.shift) @ pose.rotation) / pose.size + centre) / SPACING_MM
        grid = torch.from_numpy(
            ((2 * voxels + 1) / shape - 1)[None, None, ..., ::-1].astype(np.float32).copy()
        )
        total += torch.nn.functional.grid_sample(volume, grid, align_corners=False)[0, :, 0] * step
    return total.numpy()


def main() -> None:
    """Project every pose and write the maps file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder that holds data/ct")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--poses", type=int, default=POSES)
    parser.add_argument("--lateral", action="store_true")
    chosen = parser.parse_args()
    volume, centre = load_volume(chosen.shared / "data" / "ct")
    if chosen.lateral:
        volume = volume[:, : len(LATERAL_CHANNELS)].contiguous()
    projected = np.stack(
        [project(volume, centre, draw_pose(seed), chosen.lateral) for seed in range(chosen.poses)]
    )
    out = chosen.out or (LATERAL_PATH if chosen.lateral else MAPS_PATH)
    save_maps(out, projected, FIELD_MM / SIZE * 1650 / 1800)


if __name__ == "__main__":
    main()
