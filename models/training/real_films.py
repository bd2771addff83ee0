"""Real normal films as chests to put simulated findings into.

A film labelled 'No Finding' is brought to the scale of the organ maps: its lungs are found by threshold and shape, and the lungs and
heart of one CT pose are stretched over them. Findings are then added as path lengths, as on the CT.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from models.simulation.lesions import LEFT, RIGHT
from models.simulation.maps import FloatMap, PoseMaps, bounding_box, edge_distance

Mask = NDArray[np.bool_]
Box = tuple[float, float, float, float]
MAP_SIZE = 256
SEARCH_SIZE = 128
LEAST_OVERLAP = 0.72
LUNG_WIDTH_MM = 115.0
"""Typical width of one lung on a film; sets the millimetres per pixel, which the files no longer hold."""
LUNG_ATTENUATION_PER_MM = 0.0042
HELD_BACK = 0.3


@dataclass(frozen=True, slots=True)
class RealFilm:
    """One labelled film of the collection; ``labels`` as published, ``source`` the folder it came from."""

    path: Path
    patient: int
    view: str
    labels: tuple[str, ...]
    source: str

    @property
    def normal(self) -> bool:
        """Labelled 'No Finding'."""
        return self.labels == ("No Finding",)


def held_back(patient: int) -> bool:
    """Whether a patient's films are for evaluation only: fixed by the patient's number, whatever the folder."""
    return (patient * 2654435761 % 2**32) / 2**32 < HELD_BACK


def read_collection(shared: Path) -> Iterator[RealFilm]:
    """The 512-pixel films of ``shared``/data/nih."""
    folder = shared / "data" / "nih"
    with (folder / "labels.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            labels = tuple(row["finding_labels"].split("|"))
            yield RealFilm(folder / "films512" / row["image"], int(row["patient_id"]), row["view"], labels, "nih")


def load_film(path: Path, size: int) -> FloatMap:
    """Grey levels 0..1 of a film resized to ``size`` x ``size``."""
    with Image.open(path) as film:
        resized = film.convert("L").resize((size, size), Image.Resampling.BOX if film.width % size == 0 else Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float32) / 255


def _joint(boxes: tuple[Box, Box]) -> Box:
    return boxes[0][0], min(boxes[0][1], boxes[1][1]), boxes[1][2], max(boxes[0][3], boxes[1][3])


def _attenuation(film: FloatMap, lungs: FloatMap, heart: FloatMap, pose: PoseMaps) -> FloatMap:
    """Grey levels on the attenuation scale of the pose: lung matched to lung, heart to heart."""
    aerated, cardiac = pose.depth.max(axis=0) > 8, (pose.heart > 40) & (pose.depth.max(axis=0) == 0)
    dark, bright = float(np.median(film[lungs > 8])), float(np.median(film[(heart > 40) & (lungs == 0)]))
    low, high = float(np.median(pose.total[aerated])), float(np.median(pose.total[cardiac]))
    return (low + (film - dark) * (high - low) / max(bright - dark, 0.12)).astype(np.float32)


def to_maps(film: FloatMap, masks: tuple[Mask, Mask], pose: PoseMaps) -> PoseMaps:
    """Maps of a real film [MAP_SIZE, MAP_SIZE] with its lung masks, borrowing thickness and heart from ``pose``."""
    scale = MAP_SIZE // SEARCH_SIZE
    lungs = [np.kron(mask, np.ones((scale, scale), bool)) for mask in masks]
    depth = np.stack([edge_distance(lung) for lung in lungs])
    extent = (bounding_box(lungs[RIGHT]), bounding_box(lungs[LEFT]))
    shape = (film.shape[0], film.shape[1])
    thickness = np.stack(
        [
            np.maximum(stretch(pose.thickness[side], pose.extent[side], extent[side], shape), 12) * lungs[side]
            for side in (RIGHT, LEFT)
        ]
    ).astype(np.float32)
    heart = stretch(pose.heart, _joint(pose.extent), _joint(extent), shape)
    attenuation = _attenuation(film, depth.max(axis=0), heart, pose)
    smooth = torch.nn.functional.avg_pool2d(torch.from_numpy(attenuation)[None, None], 9, 1, 4)[0, 0].numpy()
    markings = np.stack([thickness[s] * LUNG_ATTENUATION_PER_MM + 0.35 * (attenuation - smooth) * lungs[s] for s in (0, 1)])
    width = (extent[RIGHT][2] - extent[RIGHT][0] + extent[LEFT][2] - extent[LEFT][0]) / 2
    return PoseMaps(
        total=attenuation,
        thickness=thickness,
        heart=heart,
        lung_attenuation=markings.astype(np.float32),
        depth=depth,
        extent=extent,
        heart_extent=bounding_box(heart > 20),
        pixel_mm=LUNG_WIDTH_MM / width,
    )


def chest_of(path: Path, pose: PoseMaps) -> PoseMaps | None:
    """Maps of the film at ``path``, or None where its lungs were not found."""
    masks = find_lungs(load_film(path, SEARCH_SIZE), pose)
    return None if masks is None else to_maps(load_film(path, MAP_SIZE), masks, pose)
