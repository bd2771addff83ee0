"""Fit the scores of real labelled films: ``python -m models.training.fit_films --shared DIR --model FOLDER``.

A logistic rule over what the encoder gives, per label, on the films of the patients that are not held back; its
strength of regularisation is chosen by cross-validation over patients. The two collections differ in size and origin,
so features are centred and scaled within each of them: a label is learned within a source, never from the difference
between them. Prints the area under the curve on the held-back patients, per collection; writes ``films.safetensors``.
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
from torch.nn import functional

from models.families.mini_films import FILMS_FILE, LABELS, film_features
from models.networks.mini import FirstreadMini, load_mini
from models.training.real_films import held_back, load_film
from models.training.scoring import area_under_curve

COLLECTIONS = {"nih": "films512", "nih64": "films"}
PUBLISHED = {"pleural_effusion": "Effusion", "cardiomegaly": "Cardiomegaly", "normal": "No Finding"}
STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0)
FOLDS = 4
READ_TOGETHER = 32
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Collection:
    """The films of one source: ``features`` [n, f], ``labels`` [n, labels] 0 or 1, ``patients`` [n]."""

    features: Floats
    labels: Floats
    patients: NDArray[np.int64]

    @property
    def held(self) -> NDArray[np.bool_]:
        """Films that are for evaluation only."""
        return np.array([held_back(int(patient)) for patient in self.patients])


def read_labels(shared: Path, name: str) -> list[tuple[Path, int, tuple[str, ...]]]:
    """Film, patient and published labels of every film of a collection."""
    folder = shared / "data" / name
    with (folder / "labels.csv").open(newline="") as table:
        return [
            (
                folder / COLLECTIONS[name] / row["image"],
                int(row["patient_id"]),
                tuple(row["finding_labels"].split("|")),
            )
            for row in csv.DictReader(table)
        ]


@torch.inference_mode()
def read_films(network: FirstreadMini, films: list[Path]) -> Floats:
    """Features of films, as the drafting family computes them."""
    parts = []
    size, slots = network.config.vision.image_size, network.config.vision.slot_count
    for start in range(0, len(films), READ_TOGETHER):
        pixels = np.stack([load_film(path, size) for path in films[start : start + READ_TOGETHER]])
        seen = network.vision(torch.from_numpy(pixels)[:, None])
        arrays = {name: getattr(seen, name).numpy() for name in ("pooled", "presence", "tokens")}
        parts.append(film_features(arrays, slots))
    return np.concatenate(parts)


def load_collection(network: FirstreadMini, shared: Path, name: str) -> Collection:
    """Read every film of a collection."""
    rows = read_labels(shared, name)
    labels = [[PUBLISHED[label] in held for label in LABELS] for _, _, held in rows]
    patients = np.array([patient for _, patient, _ in rows], np.int64)
    return Collection(read_films(network, [row[0] for row in rows]), np.array(labels, np.float32), patients)


def fit_rule(features: Floats, target: Floats, strength: float) -> tuple[Floats, float]:
    """Weights and bias of a logistic rule over standardised ``features``; both classes weigh the same."""
    seen, wanted = torch.from_numpy(features), torch.from_numpy(target)
    weight, bias = torch.zeros(seen.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    balance = (1 - wanted).sum() / wanted.sum().clamp_min(1)
    search = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        value = functional.binary_cross_entropy_with_logits(seen @ weight + bias, wanted, pos_weight=balance)
        value = value + strength * weight.square().sum()
        torch.autograd.backward(value)
        return value

    search.step(loss)
    return weight.detach().numpy(), float(bias.detach())


def choose_strength(features: Floats, target: Floats, patients: NDArray[np.int64]) -> float:
    """The strength with the best area under the curve over folds of patients."""
    fold = patients % FOLDS
    best = {}
    for strength in STRENGTHS:
        areas = []
        for one in range(FOLDS):
            weight, bias = fit_rule(features[fold != one], target[fold != one], strength)
            scores = (features[fold == one] @ weight + bias).astype(np.float32)
            positive = target[fold == one] > 0
            areas.append(area_under_curve(scores[positive], scores[~positive]) or 0.5)
        best[strength] = float(np.mean(areas))
    return max(best, key=lambda strength: best[strength])


def fit(collections: dict[str, Collection]) -> tuple[Floats, Floats, dict[str, dict[str, float | None]]]:
    """Weights [labels, features], bias [labels], and the held-back area under the curve per collection and label."""
    scaled, spread = {}, {}
    for name, films in collections.items():
        taught = films.features[~films.held]
        middle, spread[name] = taught.mean(axis=0), taught.std(axis=0) + 1e-4
        scaled[name] = ((films.features - middle) / spread[name]).astype(np.float32)
    taught = {name: ~films.held for name, films in collections.items()}
    features = np.concatenate([scaled[name][taught[name]] for name in collections])
    labels = np.concatenate([films.labels[taught[name]] for name, films in collections.items()])
    patients = np.concatenate([films.patients[taught[name]] for name, films in collections.items()])
    weights, biases = [], []
    areas: dict[str, dict[str, float | None]] = {name: {} for name in collections}
    first = collections["nih"]
    middle = first.features[taught["nih"]].mean(axis=0)
    for column, label in enumerate(LABELS):
        strength = choose_strength(features, labels[:, column], patients)
        weight, bias = fit_rule(features, labels[:, column], strength)
        for name, films in collections.items():
            scores, positive = scaled[name][films.held] @ weight, films.labels[films.held, column] > 0
            areas[name][label] = area_under_curve(scores[positive], scores[~positive])
        weights.append(weight / spread["nih"])
        biases.append(bias - float(middle @ weights[-1]))
    return np.stack(weights).astype(np.float32), np.array(biases, np.float32), areas


def main() -> None:
    """Read the options, fit and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--shared", type=Path, default=Path("../shared"), help="folder with data/nih and data/nih64"
    )
    parser.add_argument(
        "--model", type=Path, required=True, help="weights folder; the rule is written into it"
    )
    chosen = parser.parse_args()
    torch.manual_seed(0)
    network = load_mini(chosen.model)
    weight, bias, areas = fit({name: load_collection(network, chosen.shared, name) for name in COLLECTIONS})
    save_file({"weight": weight, "bias": bias}, chosen.model / FILMS_FILE)
    (chosen.model / FILMS_FILE).chmod(0o644)
    print(json.dumps({"held_back_auc": areas}, indent=1))


if __name__ == "__main__":
    main()
