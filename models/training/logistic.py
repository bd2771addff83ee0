"""Logistic regression on standardised features, its penalty chosen by cross-validation over patients."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.training.scoring import area_under_curve

Array = NDArray[np.float32]
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
FOLDS = 4


@dataclass(frozen=True, slots=True)
class Logistic:
    """``weight`` [d] and ``bias`` act on (x - mean) / scale."""

    mean: Array
    scale: Array
    weight: Array
    bias: float

    def logits(self, features: Array) -> Array:
        """One logit for each row of ``features`` [n, d]."""
        # not by @: on Sapphire Rapids OpenBLAS was seen to report an invalid value for finite ones
        scores: Array = np.einsum("nd,d->n", (features - self.mean) / self.scale, self.weight) + self.bias
        return scores.astype(np.float32)


def fit_logistic(features: Array, target: NDArray[np.bool_], penalty: float) -> Logistic:
    """Fit with L2 ``penalty``, positives weighed so that they count as much as negatives."""
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    inputs = torch.from_numpy(((features - mean) / scale).astype(np.float32))
    wanted = torch.from_numpy(target.astype(np.float32))
    heavy = (1 - wanted).sum() / wanted.sum().clamp_min(1)
    weight = torch.zeros(inputs.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(inputs @ weight + bias, wanted, pos_weight=heavy)
        loss = loss + penalty * weight.square().sum()
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return Logistic(mean, scale, weight.detach().numpy(), bias.item())


def choose_penalty(features: Array, target: NDArray[np.bool_], groups: Sequence[int]) -> float:
    """The penalty with the best area under the curve over folds that never split one of ``groups`` (patients)."""
    folds = np.array(groups) % FOLDS
    means = []
    for penalty in PENALTIES:
        areas = []
        for fold in range(FOLDS):
            inside, outside = folds != fold, folds == fold
            if not target[inside].any() or not target[outside].any() or target[outside].all():
                continue
            scores = fit_logistic(features[inside], target[inside], penalty).logits(features[outside])
            areas.append(area_under_curve(scores[target[outside]], scores[~target[outside]]) or 0.5)
        means.append(float(np.mean(areas)) if areas else 0.5)
    return PENALTIES[int(np.argmax(means))]


def fit_chosen(features: Array, target: NDArray[np.bool_], groups: Sequence[int]) -> Logistic:
    """Fit with the chosen penalty. Raises ValueError without positives or without negatives."""
    if not target.any() or target.all():
        raise ValueError("a logistic regression needs films with the label and films without it")
    return fit_logistic(features, target, choose_penalty(features, target, groups))
