"""What real labelled films taught: scores read off the encoder's arrays by a linear rule that ships beside the weights.

The network learns its findings from simulation. ``films.safetensors`` holds, for the few labels of which there are
enough real films, a logistic rule over what the encoder gives and the film's greys (:func:`film_features`), fitted to
the published labels of the NIH films (``models/training/fit_films.py``). Its scores are of the film alone, never of the
drafted text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.families.mini.heat import sigmoid
from models.weight_loading.verified import read_weights
from pipeline.errors import StopRun

FILMS_FILE = "films.safetensors"
THUMBNAIL, BINS = 8, 32
LABELS = ("pleural_effusion", "cardiomegaly", "normal")
"""The labels scored, by the keys of ``models.vocabulary.task_words.NAMES``; in the order of the rows of the rule."""


@dataclass(frozen=True, slots=True)
class FilmRule:
    """``weight`` float32 [labels, features] and ``bias`` [labels]."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def scores(self, arrays: Mapping[str, NDArray[Any]]) -> list[dict[str, float]]:
        """Probability 0..1 of every label for every film of ``arrays`` (:func:`film_features`)."""
        logits = film_features(arrays) @ self.weight.T + self.bias
        return [dict(zip(LABELS, map(float, row), strict=True)) for row in sigmoid(logits.astype(np.float32))]


def film_features(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Features [n, f] of n films: what is pooled over the film, the presence logits, thumbnail and histogram."""
    parts = (arrays["pooled"], arrays["presence"], arrays["thumbnail"])
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1).astype(np.float32)


def thumbnail_and_histogram(films: NDArray[np.float32]) -> NDArray[np.float32]:
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
    weight, bias = held.get("weight"), held.get("bias")
    if (
        weight is None
        or bias is None
        or weight.ndim != 2
        or not bias.shape == weight.shape[:1] == (len(LABELS),)
    ):
        raise StopRun("weights", f"{FILMS_FILE} is not the rule of this model; install the model again")
    return FilmRule(weight, bias)
