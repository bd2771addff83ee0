"""Linear rules learned, and ranked, inside collections only.

A rule is fitted to films of several collections after the mean of each collection is taken away from its features and
from its targets: what tells one collection from another teaches nothing. Ridge regression in its dual form, which for a
two-valued target is a regularised linear discriminant; one decomposition serves every penalty.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
Names = NDArray[np.str_]
PENALTIES = (1.0, 5.0, 20.0, 60.0)
FOLDS = 5
FEWEST = 3
"""Films with, and without, below which a collection is not ranked."""
RESAMPLES = 300


def centre(values: Array, collections: Names) -> Array:
    """``values`` [n, ...] less the mean of each collection."""
    centred = values.astype(np.float64)
    for name in np.unique(collections):
        rows = collections == name
        centred[rows] -= centred[rows].mean(axis=0)
    return centred


@dataclass(frozen=True, slots=True)
class Design:
    """Decomposed inputs of some films; :meth:`weights` is cheap for any target and penalty.

    Behind the films ``inputs`` may hold what is to score nought.
    """

    inputs: Array
    collections: Names
    values: Array
    vectors: Array

    @classmethod
    def of(cls, inputs: Array, collections: Names, alike: float = 0.0) -> "Design":
        """Of ``inputs`` [n, f], on one scale; ``alike`` as :func:`fit_within`."""
        centred = centre(inputs, collections)
        if alike:
            names = np.unique(collections)
            apart = np.stack([inputs[collections == name].mean(axis=0) for name in names])
            centred = np.concatenate([centred, alike * (apart - apart.mean(axis=0))])
        values, vectors = np.linalg.eigh(np.einsum("nf,mf->nm", centred, centred, optimize=True))
        return cls(centred, collections, np.maximum(values, 0), vectors)

    def weights(self, target: Bools, penalty: float) -> Array:
        """[f], for ``target`` [n]."""
        wanted = np.zeros(len(self.inputs))
        wanted[: len(target)] = centre(target.astype(np.float64), self.collections)
        along = self.vectors.T @ wanted
        weights: Array = self.inputs.T @ (self.vectors @ (along / (self.values + penalty)))
        return weights


@dataclass(frozen=True, slots=True)
class Chosen:
    """A rule: ``weights`` [f] by ``penalty``; ``unseen`` [n] scores each film by the folds without its patient."""

    weights: Array
    penalty: float
    unseen: Array


def fit_within(
    inputs: Array, targets: Bools, collections: Names, folds: NDArray[np.int64], alike: float = 0.0
) -> list[Chosen]:
    """For each of ``targets`` [k, n] the rule whose penalty ranks best over ``folds`` [n], which split no patient.

    ``alike`` holds the mean score of each collection near that of the others: it is how much further apart the means
    are shown, as films that are to score nought. One level then means the same in all of them.
    """
    scores = {penalty: np.zeros(targets.shape) for penalty in PENALTIES}
    for fold in np.unique(folds):
        inside, outside = folds != fold, folds == fold
        design = Design.of(inputs[inside], collections[inside], alike)
        for penalty, unseen in scores.items():
            weights = np.stack([design.weights(target[inside], penalty) for target in targets])
            unseen[:, outside] = weights @ inputs[outside].T
    whole, chosen = Design.of(inputs, collections, alike), []
    for row, target in enumerate(targets):
        areas = {
            penalty: rank_within(scores[penalty][row], target, collections) or 0.0 for penalty in PENALTIES
        }
        best = max(PENALTIES, key=areas.__getitem__)
        chosen.append(Chosen(whole.weights(target, best), best, scores[best][row]))
    return chosen


def _area(scores: Array, target: Bools) -> float:
    order = np.sort(scores)
    ranks = (np.searchsorted(order, scores) + np.searchsorted(order, scores, "right") - 1) / 2
    count = int(target.sum())
    return float((ranks[target].sum() - count * (count - 1) / 2) / (count * (len(target) - count)))


def rank_within(scores: Array, target: Bools, collections: Names) -> float | None:
    """Area under the curve inside each collection, averaged by the root of its pairs; None where none can be ranked."""
    areas, shares = [], []
    for name in np.unique(collections):
        rows = collections == name
        with_it = int(target[rows].sum())
        if min(with_it, int(rows.sum()) - with_it) >= FEWEST:
            areas.append(_area(scores[rows], target[rows]))
            shares.append((with_it * (int(rows.sum()) - with_it)) ** 0.5)
    return float(np.average(areas, weights=shares)) if areas else None


def rank_interval(
    scores: Sequence[Array], target: Bools, collections: Names, patients: Names, seed: int = 0
) -> list[tuple[float, float]]:
    """95 % intervals of :func:`rank_within` of each of ``scores``, and of the first less each other one after them.

    By drawing patients anew, the same ones for all.
    """
    generator, names = np.random.default_rng(seed), np.unique(patients)
    rows_of = {name: np.flatnonzero(patients == name) for name in names}
    drawn = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([rows_of[name] for name in generator.choice(names, len(names))])
        areas = [rank_within(one[rows], target[rows], collections[rows]) for one in scores]
        if all(area is not None for area in areas):
            known = [area or 0.0 for area in areas]
            drawn.append([*known, *(known[0] - other for other in known[1:])])
    if not drawn:
        return []
    return [(float(low), float(high)) for low, high in np.percentile(drawn, [2.5, 97.5], axis=0).T]


def share_interval(said: Bools, patients: Names, seed: int = 0) -> tuple[float, float] | None:
    """95 % interval of the share of films ``said`` [n] holds for, by drawing patients anew; None of fewer than two.

    Films of one patient are alike, so patients are drawn and not films.
    """
    names, places = np.unique(patients, return_inverse=True)
    if len(names) < FEWEST - 1:
        return None
    films = np.bincount(places, minlength=len(names))
    holding = np.bincount(places, weights=said.astype(np.float64), minlength=len(names))
    drawn = np.random.default_rng(seed).integers(0, len(names), (RESAMPLES, len(names)))
    low, high = np.percentile(holding[drawn].sum(axis=1) / films[drawn].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)
