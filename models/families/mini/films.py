"""What real labelled films taught: how likely each finding is on a real film, and from which chance on it is written.

The network learns its findings from simulation. ``films.safetensors`` holds, for the findings of which there are enough
real films, a linear rule over what the encoder gives and the film's greys (:func:`film_features`), fitted to published
labels (``models/training/fit_films.py``), and three levels of chance for each finding. Below the first the draft denies
the finding, from the second on it calls it possible, from the third on it states it; between the first two it is silent
(``models/families/mini/certainty.py``). A film that looks simulated is read by what simulation taught.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.families.mini.heat import sigmoid
from models.weight_loading.verified import read_weights
from pipeline.errors import StopRun

FILMS_FILE = "films.safetensors"
THUMBNAIL, BINS = 8, 32
ABNORMAL = "abnormal"
RULED = ("nodule", "consolidation", "pleural_effusion", "pneumothorax", "cardiomegaly", ABNORMAL)
"""What the rule scores, in the order of its rows: findings of ``models.vocabulary.english.KINDS``, and anything at all.

Of devices there are no labels."""
FARTHEST = 4.0
"""Standard deviations beyond which a feature counts no further: a film of an odd scanner is not carried away by one."""
MOST_CERTAIN = 0.95
LEAST_CHEST = 0.1
"""Share of the film's width that a chest takes at least."""
Floats = NDArray[np.float32]


class Certainty(IntEnum):
    """How a draft speaks of a finding."""

    DENIED = 0
    UNSAID = 1
    POSSIBLE = 2
    STATED = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """What the rule says of one film: by finding, its ``chances`` 0..1 and how the draft speaks of it.

    ``normal`` says whether a draft that states nothing may call the film normal.
    """

    chances: Mapping[str, float]
    certainty: Mapping[str, Certainty]

    @property
    def normal(self) -> bool:
        """Whether the film may be called normal: nothing is stated or possible, and anything at all is unlikely."""
        return self.certainty[ABNORMAL] is Certainty.DENIED and not any(
            certainty >= Certainty.POSSIBLE for certainty in self.certainty.values()
        )


@dataclass(frozen=True, slots=True)
class FilmRule:
    """The rule of a weights folder, a row for each of ``RULED``.

    ``mean`` and ``scale`` [features] standardise; ``weight`` [rows, features] and ``bias`` [rows] give the logit of
    being labelled; ``gain`` [rows] is how many films have the finding for one that is labelled with it; ``levels``
    [rows, 3] are the chances from which it is no longer denied, is possible, is stated.
    """

    mean: Floats
    scale: Floats
    weight: Floats
    bias: Floats
    gain: Floats
    levels: Floats

    def logits(self, arrays: Mapping[str, NDArray[Any]]) -> Floats:
        """Logit of being labelled with each of ``RULED`` for n films of ``arrays``: [n, rows]."""
        inputs = np.clip((film_features(arrays) - self.mean) / self.scale, -FARTHEST, FARTHEST)
        # not by @: the sums of one film must not depend on how many are read together
        logits = np.einsum("nf,kf->nk", inputs, self.weight) + self.bias
        told: Floats = logits.astype(np.float32)
        return told

    def chances(self, arrays: Mapping[str, NDArray[Any]]) -> Floats:
        """Chance 0..1 of each of ``RULED`` for n films of ``arrays``: [n, rows]."""
        chances: Floats = np.minimum(sigmoid(self.logits(arrays)) * self.gain, np.float32(MOST_CERTAIN))
        return chances

    def read(self, arrays: Mapping[str, NDArray[Any]]) -> list[Reading]:
        """What is said of each film of ``arrays``."""
        readings = []
        for row in self.chances(arrays):
            passed = (row[:, None] >= self.levels).sum(axis=1)
            certainty = {name: Certainty(int(level)) for name, level in zip(RULED, passed, strict=True)}
            readings.append(Reading(dict(zip(RULED, map(float, row), strict=True)), certainty))
        return readings

    def arrays(self) -> dict[str, Floats]:
        """As ``films.safetensors`` holds it."""
        return {name: np.ascontiguousarray(getattr(self, name), np.float32) for name in self.__slots__}


BLOCKS = ("pooled", "presence", "thumbnail", "shape", "cells", "measures", "labelled")
"""The parts of the features, in their order."""


def feature_blocks(arrays: Mapping[str, NDArray[Any]]) -> list[Floats]:
    """The features of n films by ``BLOCKS``, each [n, .]: what is pooled over the film, the presence logits, thumbnail
    and histogram, organs and landmarks with the cardiothoracic ratio that they give, the greater of each pair of cells
    that mirror each other, for a disease is the same on either side, what the outlines measure, and the logits of the
    label networks.
    """
    count, organs = len(arrays["pooled"]), arrays["organs"]
    right_lung, left_lung, heart = organs[:, 0], organs[:, 1], organs[:, 2]
    chest = np.maximum(left_lung[:, 2] - right_lung[:, 0], LEAST_CHEST)
    ratio = np.clip((heart[:, 2] - heart[:, 0]) / chest, 0, 1)[:, None]
    shape = [organs.reshape(count, -1), arrays["landmarks"].reshape(count, -1), ratio]
    whole = [arrays[name].reshape(count, -1) for name in BLOCKS[:3]]
    cells = np.maximum(arrays["cells"], arrays["cells"][..., ::-1])[
        ..., : (arrays["cells"].shape[-1] + 1) // 2
    ]
    parts = (*whole, np.concatenate(shape, axis=1), cells.reshape(count, -1))
    parts = (*parts, *(arrays[name] for name in BLOCKS[5:]))
    return [part.astype(np.float32) for part in parts]


def film_features(arrays: Mapping[str, NDArray[Any]]) -> Floats:
    """All :func:`feature_blocks` of n films side by side: [n, f]."""
    return np.concatenate(feature_blocks(arrays), axis=1)


def thumbnail_and_histogram(films: NDArray[np.float32]) -> Floats:
    """An 8 x 8 thumbnail and a histogram of 32 grey levels, times ten, of films [n, s, s] in 0..1: [n, 96]."""
    count, size = len(films), films.shape[-1] // THUMBNAIL
    small = films.reshape(count, THUMBNAIL, size, THUMBNAIL, size).mean(axis=(2, 4)).reshape(count, -1)
    bins = [np.histogram(film, BINS, (0, 1))[0] / film.size for film in films]
    return np.concatenate([small, 10 * np.array(bins)], axis=1).astype(np.float32)


def read_film_rule(folder: Path) -> FilmRule | None:
    """The rule of a weights folder, or None where it has none. Raises StopRun when the file is not one."""
    path = folder / FILMS_FILE
    if not path.exists():
        return None
    held = read_weights(path)
    rows, features = len(RULED), held["mean"].size if "mean" in held else 0
    shapes = {
        "mean": (features,),
        "scale": (features,),
        "weight": (rows, features),
        "bias": (rows,),
        "gain": (rows,),
        "levels": (rows, len(Certainty) - 1),
    }
    if {name: values.shape for name, values in held.items()} != shapes:
        raise StopRun("weights", f"{FILMS_FILE} is not the rule of this model; install the model again")
    return FilmRule(**{name: held[name] for name in shapes})
