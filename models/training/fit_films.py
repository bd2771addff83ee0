"""Fit the scores of real labelled films: ``python -m models.training.fit_films --shared DIR --model FOLDER``.

A logistic rule per label (``models/training/logistic.py``) on the films of both NIH collections, of the patients that
are not held back. Prints the area under the curve on the held-back patients, one collection at a time, because the
collections differ in size and origin; writes ``films.safetensors`` into the model's folder.
"""

import argparse
import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from models.families.mini.films import FILMS_FILE, LABELS, film_features, thumbnail_and_histogram
from models.networks.mini import FirstreadMini, load_mini
from models.training.logistic import fit_chosen
from models.training.real_films import SOURCES, held_back, load_film
from models.training.scoring import area_under_curve

PUBLISHED = {"pleural_effusion": "Effusion", "cardiomegaly": "Cardiomegaly", "normal": "No Finding"}
READ_TOGETHER = 32
Floats = NDArray[np.float32]
Areas = dict[str, dict[str, float | None]]


@dataclass(frozen=True, slots=True)
class Collection:
    """The films of one source: ``features`` [n, f], ``labels`` bool [n, labels], ``patients`` [n]."""

    features: Floats
    labels: NDArray[np.bool_]
    patients: NDArray[np.int64]

    @property
    def held(self) -> NDArray[np.bool_]:
        """Films that are for evaluation only."""
        return np.array([held_back(int(patient)) for patient in self.patients])


@torch.inference_mode()
def read_films(network: FirstreadMini, films: list[Path]) -> Floats:
    """Features of films, as the drafting family computes them."""
    parts, size = [], network.config.vision.image_size
    for start in range(0, len(films), READ_TOGETHER):
        pixels = np.stack([load_film(path, size) for path in films[start : start + READ_TOGETHER]])
        seen = network.vision(torch.from_numpy(pixels)[:, None])
        arrays = {"pooled": seen.pooled.numpy(), "presence": seen.presence.numpy()}
        parts.append(film_features({**arrays, "thumbnail": thumbnail_and_histogram(pixels)}))
    return np.concatenate(parts)


def load_collection(network: FirstreadMini, shared: Path, name: str) -> Collection:
    """Read every film of a collection with its published labels."""
    folder = shared / "data" / name
    with (folder / "labels.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    told = [row["finding_labels"].split("|") for row in rows]
    labels = np.array([[PUBLISHED[label] in one for label in LABELS] for one in told])
    patients = np.array([int(row["patient_id"]) for row in rows], np.int64)
    films = [folder / SOURCES[name] / row["image"] for row in rows]
    return Collection(read_films(network, films), labels, patients)


def fit(collections: dict[str, Collection]) -> tuple[Floats, Floats, Areas]:
    """Weights [labels, features], bias [labels], and the held-back area under the curve per collection and label."""
    features = np.concatenate([films.features[~films.held] for films in collections.values()])
    labels = np.concatenate([films.labels[~films.held] for films in collections.values()])
    patients = np.concatenate([films.patients[~films.held] for films in collections.values()])
    weights, biases = [], []
    areas: Areas = {name: {} for name in collections}
    for column, label in enumerate(LABELS):
        rule = fit_chosen(features, labels[:, column], patients.tolist())
        weights.append(rule.weight / rule.scale)
        biases.append(rule.bias - float(rule.mean @ weights[-1]))
        for name, films in collections.items():
            scores, positive = rule.logits(films.features[films.held]), films.labels[films.held, column]
            areas[name][label] = area_under_curve(scores[positive], scores[~positive])
    return np.stack(weights).astype(np.float32), np.array(biases, np.float32), areas


def main() -> None:
    """Read the options, fit and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--shared", type=Path, default=Path("../shared"), help="folder with data/nih and nih64"
    )
    parser.add_argument(
        "--model", type=Path, required=True, help="weights folder; the rule is written into it"
    )
    chosen = parser.parse_args()
    network = load_mini(chosen.model)
    weight, bias, areas = fit({name: load_collection(network, chosen.shared, name) for name in SOURCES})
    save_file({"weight": weight, "bias": bias}, chosen.model / FILMS_FILE)
    (chosen.model / FILMS_FILE).chmod(0o644)
    print(json.dumps({"held_back_auc": areas}, indent=1))


if __name__ == "__main__":
    main()
