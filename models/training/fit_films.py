"""Fit what is said of real films: ``python -m models.training.fit_films --shared DIR --model FOLDER --cache DIR``.

A linear rule for each finding (``within``), learned from the training patients of every collection that has films with
and without it, its penalty chosen over five folds of patients. From the scores of each film by the folds without its
patient come the chance of the label (a logistic curve), the chance of the finding, and the three levels of
``models.families.mini.films``. Held-back patients take no part. Writes ``films.safetensors`` into the folder.

Labels are positive and unlabelled: text-mined ones miss most of what radiologists see. How much, and how often they are
right, was published for other films of the same collection (``QUALITY``); with it the share of films wrongly claimed is
told from the share claimed of unlabelled films, many of which have the finding.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch.nn import functional

from models.families.mini.films import ABNORMAL, FARTHEST, FILMS_FILE, RULED, FilmRule, feature_blocks
from models.training.film_readings import Readings, read_all
from models.training.fit_labels import read_folds
from models.training.real_sources import LABELS
from models.training.within import (
    FOLDS,
    Array,
    Bools,
    Chosen,
    Names,
    centre,
    fit_within,
    rank_within,
)

QUALITY = {
    "nodule": (0.52, 0.30),
    "pleural_effusion": (0.64, 0.37),
    "pneumothorax": (0.71, 0.54),
    "cardiomegaly": (0.63, 0.34),
}
"""Precision and recall of the text-mined labels against the majority of three radiologists. Of the wide label of
opacities and of "abnormal" none is known: they are taken as they are."""
POSSIBLE_FALSE, STATED_FALSE = 0.08, 0.04
"""Share of the films without a finding on which it may be called possible or more, and on which it may be stated."""
MOST_CLAIMED, OWN_MOST = 0.15, {"cardiomegaly": 0.10}
"""Share of the unlabelled films on which it may be claimed at all, whatever the correction says; of findings of which
half is told at fewer claims, fewer."""
DENIED_LABELLED = 0.2
"""Share of the labelled films on which it may be denied."""
NORMAL_ABNORMAL = 0.18
"""Share of the films labelled abnormal that may be called normal; of held-back patients it was a quarter more."""
WEIGHTS = (1.0, 0.3, 0.3, 0.3, 1.0, 0.0, 0.0)
"""How much each of the blocks of features weighs, chosen over the folds."""
OWN_WEIGHTS = {"cardiomegaly": (0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)}
"""The same of findings that something else tells better: of the heart's size what the outlines measure, alone."""
HALVED = frozenset({"consolidation"})
"""Findings of which the label networks say half: their logit and the linear rule's score, each in its own standard
deviations inside collections. Which ones, and half, were said before it was seen (docs/decisions/0061)."""
ALIKE = {"consolidation": 40.0, "pleural_effusion": 40.0, ABNORMAL: 40.0}
"""How strongly a finding's collections are held at one mean score (``fit_within``), so that one level serves them all:
of films of 64 pixels far more was claimed than of others."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """One finding: its rule over standardised features, the films it was learned from, and what is known of them.

    ``fine`` [n] is which films are not coarse. Levels are chosen on these, for an archive holds no films of 64 pixels.
    """

    finding: str
    chosen: Chosen
    rows: NDArray[np.int64]
    fine: Bools
    true: Bools
    slope: float
    offset: float
    gain: float
    levels: tuple[float, float, float]

    @property
    def unseen(self) -> Array:
        """Chance of the finding of each of the films by the folds without its patient."""
        return chance(self.chosen.unseen, self.slope, self.offset, self.gain)


def chance(scores: Array, slope: float, offset: float, gain: float) -> Array:
    """Chance of the finding of films with ``scores``."""
    labelled: Array = 1 / (1 + np.exp(-(slope * scores + offset)))
    return np.minimum(labelled * gain, 0.95)


def logistic_curve(scores: Array, true: Bools) -> tuple[float, float]:
    """Slope and offset of the chance of ``true`` [n] given ``scores`` [n], by maximum likelihood."""
    inputs, wanted = torch.from_numpy(scores / scores.std()), torch.from_numpy(true).double()
    line = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([line], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(line[0] * inputs + line[1], wanted)
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    slope, offset = line.detach().tolist()
    return slope / float(scores.std()), offset


def false_share(labelled: float, unlabelled: float, finding: str, rate: float) -> float:
    """Share wrongly claimed of the films without the finding, from the shares claimed of films with and without label.

    ``rate`` is the share of films labelled. Both are mixtures of films with and without the finding.
    """
    precision, recall = QUALITY.get(finding, (1.0, 1.0))
    missed = min(0.4, rate * precision * (1 / recall - 1) / (1 - rate))
    return (precision * unlabelled - missed * labelled) / (
        precision * (1 - missed) - missed * (1 - precision)
    )


def choose_levels(finding: str, chances: Array, true: Bools) -> tuple[float, float, float]:
    """The three levels, from chances of films by the folds without their patient."""
    labelled, others, rate = np.sort(chances[true]), np.sort(chances[~true]), float(true.mean())
    candidates = np.unique(chances)

    def above(films: Array) -> Array:
        shares: Array = 1 - np.searchsorted(films, candidates) / len(films)
        return shares

    unlabelled = above(others)
    pairs = zip(above(labelled).tolist(), unlabelled.tolist(), strict=True)
    false = np.array([false_share(hit, claimed, finding, rate) for hit, claimed in pairs])

    def least(most: float) -> float:
        failing = np.flatnonzero((false > most) | (unlabelled > OWN_MOST.get(finding, MOST_CLAIMED)))
        return float(candidates[min(int(failing.max(initial=-1)) + 1, len(candidates) - 1)])

    possible, stated = least(POSSIBLE_FALSE), least(STATED_FALSE)
    denied = min(float(np.quantile(labelled, DENIED_LABELLED)), possible)
    return denied, possible, max(stated, possible)


def standardised(readings: Readings, rows: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """Inputs of every film, their mean and scale by the films ``rows``."""
    features = readings.features.astype(np.float64)
    mean, scale = features[rows].mean(axis=0), features[rows].std(axis=0) + 1e-6
    return np.clip((features - mean) / scale, -FARTHEST, FARTHEST), mean, scale


def shown(readings: Readings, weights: Sequence[float]) -> Array:
    """The share [f] of each feature in the inputs of a rule, by the weights of the blocks."""
    sizes = [block.shape[1] for block in feature_blocks(readings.arrays)]
    return np.concatenate(
        [np.full(size, (weight / size) ** 0.5) for size, weight in zip(sizes, weights, strict=True)]
    )


def fit(readings: Readings) -> tuple[FilmRule, list[Fitted]]:
    """The rule of all training patients, and each finding's part."""
    learning = np.flatnonzero(
        ~readings.held_back & np.any([readings.truth(one)[1] for one in LABELS], axis=0)
    )
    inputs, mean, scale = standardised(readings, learning)
    folds = np.array([film.fold(FOLDS) for film in readings.films])
    fine = np.array([not film.coarse for film in readings.films])
    groups: dict[tuple[bytes, tuple[float, ...], float], list[str]] = {}
    for finding in RULED:
        known = (readings.truth(finding)[1] & ~readings.held_back).tobytes()
        how = (known, OWN_WEIGHTS.get(finding, WEIGHTS), ALIKE.get(finding, 0.0))
        groups.setdefault(how, []).append(finding)
    parts: dict[str, Fitted] = {}
    for (known, weights, alike), findings in groups.items():
        rows, share = np.flatnonzero(np.frombuffer(known, bool)), shown(readings, weights)
        targets = np.stack([readings.truth(finding)[0][rows] for finding in findings])
        rules = fit_within(inputs[rows] * share, targets, readings.collections[rows], folds[rows], alike)
        for finding, target, rule in zip(findings, targets, rules, strict=True):
            whole = replace(rule, weights=rule.weights * share)
            if finding in HALVED:
                column = inputs.shape[1] - len(RULED) + RULED.index(finding)
                whole = halved(whole, inputs[rows, column], readings.collections[rows], column)
            parts[finding] = fit_one(finding, whole, rows, fine[rows], target)
    fitted = [parts[finding] for finding in RULED]
    fitted = with_normal_level(fitted, len(readings.films))
    values = {
        "mean": mean,
        "scale": scale,
        "weight": np.stack([one.slope * one.chosen.weights for one in fitted]),
        "bias": [one.offset for one in fitted],
        "gain": [one.gain for one in fitted],
        "levels": [one.levels for one in fitted],
    }
    return FilmRule(**{name: np.asarray(value, np.float32) for name, value in values.items()}), fitted


def halved(rule: Chosen, labelled: Array, collections: Names, column: int) -> Chosen:
    """``rule`` and what the label networks say [n] of the same films in equal parts; that is the feature ``column``."""
    own, other = (float(centre(scores, collections).std()) + 1e-9 for scores in (rule.unseen, labelled))
    weights = rule.weights / own
    weights[column] = 1 / other
    return Chosen(weights, rule.penalty, rule.unseen / own + labelled / other)


def fit_one(finding: str, rule: Chosen, rows: NDArray[np.int64], fine: Bools, true: Bools) -> Fitted:
    """Chance and levels of one finding, of the films ``rows``."""
    curve = logistic_curve(rule.unseen, true)
    precision, recall = QUALITY.get(finding, (1.0, 1.0))
    part = Fitted(finding, rule, rows, fine, true, *curve, precision / recall, (0.0, 0.0, 0.0))
    return replace(part, levels=choose_levels(finding, part.unseen[fine], true[fine]))


def with_normal_level(fitted: list[Fitted], films: int) -> list[Fitted]:
    """``fitted`` with the level below which a film on which nothing else is claimed may be called normal."""
    claimed = np.zeros(films, bool)
    for one in fitted:
        if one.finding != ABNORMAL:
            claimed[one.rows] |= one.unseen >= one.levels[1]
    whole = next(one for one in fitted if one.finding == ABNORMAL)
    abnormal = whole.true & whole.fine
    free = np.sort(whole.unseen[abnormal & ~claimed[whole.rows]])
    most = int(NORMAL_ABNORMAL * abnormal.sum())
    level = float(free[most]) if most < len(free) else 1.0
    told = replace(whole, levels=(level, 2.0, 2.0))
    return [told if one is whole else one for one in fitted]


def over_folds(readings: Readings, cache: Path) -> Readings:
    """``readings`` with what the label networks of the folds without its patient say of every film that taught them.

    Of such a film those that ship know the answer. Raises OSError where ``fit_labels`` left nothing in ``cache``.
    """
    told = read_folds(cache, readings.films)
    scores = np.where(np.isnan(told), readings.arrays["labelled"], told)
    return Readings(readings.films, {**readings.arrays, "labelled": scores})


def describe(readings: Readings, fitted: list[Fitted]) -> list[dict[str, object]]:
    """What the folds told, a row for each finding."""
    told: list[dict[str, object]] = []
    for one in fitted:
        rate = float(one.true[one.fine].mean())
        row: dict[str, object] = {
            "finding": one.finding,
            "films": len(one.rows),
            "labelled": int(one.true.sum()),
        }
        area = rank_within(one.chosen.unseen, one.true, readings.collections[one.rows])
        row |= {"penalty": one.chosen.penalty, "auc": None if area is None else round(area, 3)}
        for name, level in zip(("denied", "possible", "stated"), one.levels, strict=True):
            sides = (one.true & one.fine, ~one.true & one.fine)
            labelled, others = (float((one.unseen[side] >= level).mean()) for side in sides)
            false = false_share(labelled, others, one.finding, rate)
            row[name] = [round(number, 3) for number in (level, labelled, others, false)]
        told.append(row)
    return told


def main() -> None:
    """Read the options, fit and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--shared", type=Path, required=True, help="folder that holds data/nih and the others"
    )
    parser.add_argument(
        "--model", type=Path, required=True, help="weights folder; the rule is written into it"
    )
    parser.add_argument(
        "--cache", type=Path, required=True, help="folder that keeps what was read of the films"
    )
    chosen = parser.parse_args()
    readings = over_folds(read_all(chosen.model, chosen.shared, chosen.cache), chosen.cache)
    rule, fitted = fit(readings)
    save_file(rule.arrays(), chosen.model / FILMS_FILE)
    (chosen.model / FILMS_FILE).chmod(0o644)
    for row in describe(readings, fitted):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
