"""Every collection of real films, read alike: whose film it is, what its labels say, and what may be learned from it.

Collections are never set against each other: a finding is learned, and counted, from films with and without it inside
one collection (``Film.collection``), because the collections differ in scanner, size and the choice of their films. The
films of ``nih`` are two of them: those labelled 'No Finding' and those labelled 'Pneumonia' were gathered apart.
"""

import csv
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HELD_BACK = 0.3
Grey = NDArray[np.float32]
SOURCES = ("nih", "nih-more", "nih64", "wingspan", "hannover", "covid-ccby", "kermany")
"""Folders of ``data``; the first three are of NIH ChestX-ray14, ``kermany`` of children."""
CHILDREN = "kermany"
NORMAL_LABEL = "No Finding"
LABELS = {
    "nodule": ("Nodule", "Mass"),
    "consolidation": ("Consolidation", "Pneumonia", "Infiltration", "Edema", "Atelectasis"),
    "pleural_effusion": ("Effusion",),
    "pneumothorax": ("Pneumothorax",),
    "cardiomegaly": ("Cardiomegaly",),
    "abnormal": (),
}
"""The published labels of each finding; "abnormal" is everything but 'No Finding'. Consolidation is meant widely: any
opacity of the air spaces."""
ENLARGED, NOT_ENLARGED = 0.53, 0.50
"""Cardiothoracic ratio from which a heart of ``wingspan`` counts as enlarged, and up to which as not; between them as
unread."""
LEARNED_FROM = {
    "nih pneumonia": ("nodule", "pleural_effusion", "pneumothorax", "cardiomegaly"),
    "nih-more": tuple(LABELS),
    "nih64": tuple(LABELS),
    "wingspan": ("cardiomegaly",),
}
"""The findings for which a collection has films with and without, gathered alike."""


@dataclass(frozen=True, slots=True)
class Film:
    """One film. ``labels`` as published; ``ratio`` is the cardiothoracic ratio by the outlines, nan where not drawn."""

    source: str
    path: Path
    patient: str
    view: str
    labels: tuple[str, ...]
    ratio: float = float("nan")

    @property
    def collection(self) -> str:
        """Films gathered in one way."""
        if self.source == "nih":
            return "nih none" if NORMAL_LABEL in self.labels else "nih pneumonia"
        return self.source

    @property
    def normal(self) -> bool:
        """Labelled 'No Finding' and nothing else."""
        return self.labels == (NORMAL_LABEL,)

    @property
    def coarse(self) -> bool:
        """64 pixels a side."""
        return self.source == "nih64"

    @property
    def held_back(self) -> bool:
        """Whether the patient's films are for the last measurement only."""
        if self.patient.isdigit():
            return held_back(int(self.patient))
        return zlib.crc32(self.patient.encode()) / 2**32 < HELD_BACK

    def fold(self, count: int) -> int:
        """Which of ``count`` folds the patient is in; it does not depend on being held back."""
        return zlib.crc32(f"fold {self.patient}".encode()) % count

    def truth(self, finding: str) -> bool | None:
        """What the labels say of ``finding``, None where this film's collection says nothing of it."""
        if finding not in LEARNED_FROM.get(self.collection, ()):
            return None
        if self.source == "wingspan":
            return None if NOT_ENLARGED < self.ratio < ENLARGED else self.ratio >= ENLARGED
        return (
            NORMAL_LABEL not in self.labels
            if finding == "abnormal"
            else bool({*LABELS[finding]} & {*self.labels})
        )


def held_back(patient: int) -> bool:
    """Whether an NIH patient's films are for evaluation only: fixed by the number, whatever the folder."""
    return (patient * 2654435761 % 2**32) / 2**32 < HELD_BACK


def load_film(path: Path, size: int) -> Grey:
    """Grey levels 0..1 of a whole film resized to ``size`` x ``size``: box averages where it divides evenly."""
    with Image.open(path) as film:
        even = film.width % size == 0 and film.height % size == 0
        resampling = Image.Resampling.BOX if even else Image.Resampling.BILINEAR
        resized = film.convert("L").resize((size, size), resampling)
    grey: Grey = np.asarray(resized, dtype=np.float32) / np.float32(255)
    return grey


def read_source(shared: Path, name: str) -> Iterator[Film]:
    """The films of one folder of ``shared``/data. Raises OSError and KeyError where it is not as described."""
    folder = shared / "data" / name
    inside = {"nih": "films512", "nih64": "films"}.get(name, "")
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as table:
        for row in csv.DictReader(table):
            said = (row.get("finding_labels") or row.get("findings") or "").split("|")
            path = folder / inside / (row.get("image") or row["file"])
            ratio = float(row.get("ctr_from_masks") or "nan")
            yield Film(name, path, row["patient_id"], row["view"], tuple(said), ratio)


def read_films(shared: Path, sources: Sequence[str] = SOURCES) -> list[Film]:
    """The films of all ``sources`` that are there, one that is in ``nih-more`` and in ``nih64`` once, in the larger."""
    films = [
        film for name in sources if (shared / "data" / name).is_dir() for film in read_source(shared, name)
    ]
    larger = {film.path.stem for film in films if film.source == "nih-more"}
    return [film for film in films if film.source != "nih64" or film.path.stem not in larger]
