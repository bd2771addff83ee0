"""The second baseline: a small convolutional network that learns the labels of the training patients from nothing.

0.3 million parameters at 112 pixels, twelve rounds over the films. What it tells of a finding, a model that was taught
more should tell better.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.training.film_readings import Readings
from models.training.real_sources import LABELS

ROUNDS, TOGETHER, RATE = 12, 32, 2e-3
WIDTHS = (16, 32, 64, 128, 128)
UNLABELLED = 0.1
"""Target of a film without the label: most of these labels are missing more often than wrong."""


def _network() -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in zip((1, *WIDTHS), WIDTHS, strict=False):
        layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(WIDTHS[-1], len(LABELS))]
    return nn.Sequential(*layers)


def _shifted(films: Tensor, generator: torch.Generator) -> Tensor:
    """Films moved, scaled and lit a little differently."""
    count = len(films)
    change = torch.empty(count, 4).uniform_(-1, 1, generator=generator)
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = 1 + 0.1 * change[:, 0]
    affine[:, :, 2] = 0.08 * change[:, 1:3]
    grid = functional.affine_grid(affine, list(films.shape), align_corners=False)
    moved = functional.grid_sample(films, grid, padding_mode="border", align_corners=False)
    lit: Tensor = moved.clamp_min(1e-3) ** (1 + 0.3 * change[:, 3, None, None, None])
    return lit


def _standard(films: Tensor) -> Tensor:
    centred = films - films.mean(dim=(1, 2, 3), keepdim=True)
    standard: Tensor = centred / (centred.std(dim=(1, 2, 3), keepdim=True) + 1e-3)
    return standard


def small_network_scores(readings: Readings, cache: Path) -> NDArray[np.float64]:
    """Its logits [n, findings in the order of ``LABELS``] for every film; of no use but on held-back patients."""
    path = cache / "small-network.npy"
    if path.exists():
        kept: NDArray[np.float64] = np.load(path)
        if len(kept) == len(readings.films):
            return kept
    told = [readings.truth(finding) for finding in LABELS]
    true = torch.from_numpy(np.stack([one for one, _ in told], axis=1)).float()
    known = torch.from_numpy(np.stack([one & ~readings.held_back for _, one in told], axis=1)).float()
    films = torch.from_numpy(readings.arrays["small"])[:, None].float() / 255
    rows = known.any(dim=1).nonzero().flatten()
    torch.manual_seed(0)
    generator, network = torch.Generator().manual_seed(0), _network()
    steps = ROUNDS * (len(rows) // TOGETHER)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    wanted = torch.where(true > 0, 0.95, UNLABELLED)
    heavy = ((1 - true) * known).sum(dim=0).div((true * known).sum(dim=0).clamp_min(1)).sqrt().clamp(1, 5)
    network.train()
    for step in range(steps):
        if step % (len(rows) // TOGETHER) == 0:
            order = rows[torch.randperm(len(rows), generator=generator)]
        at = step % (len(rows) // TOGETHER) * TOGETHER
        some = order[at : at + TOGETHER]
        logits = network(_standard(_shifted(films[some], generator)))
        losses = functional.binary_cross_entropy_with_logits(
            logits, wanted[some], pos_weight=heavy, reduction="none"
        )
        optimizer.zero_grad()
        loss = (losses * known[some]).sum() / known[some].sum().clamp_min(1)
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.inference_mode():
        scores = torch.cat([network(_standard(films[at : at + 64])) for at in range(0, len(films), 64)])
    logits_of: NDArray[np.float64] = scores.double().numpy()
    np.save(path, logits_of)
    return logits_of
