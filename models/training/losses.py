"""What the network is trained towards: the next word, where each finding is, and whether it is there."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.mini import PAD_ID, FirstreadMini, prompt_ids
from models.training.batches import Batch
from models.training.shards import ABSENT

HEAT_WEIGHT, HEAT_POSITIVE = 4.0, 4.0
GRADE_WEIGHT = 0.3
GRADES = 3
"""Zones, and severities, that a finding can have."""
KIND_WEIGHT = (4.0, 1.5, 1.0, 1.5, 1.0, 1.5, 3.0)
"""Small and thin findings cover few cells; their heat maps weigh more. In the order of the kinds."""


def heat_loss(heat: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy per cell, hot cells weighing more."""
    weight = torch.tensor(KIND_WEIGHT)[:, None, None]
    per_cell = functional.binary_cross_entropy_with_logits(
        heat.float(), target, pos_weight=torch.tensor(HEAT_POSITIVE), reduction="none"
    )
    return (per_cell * weight).mean()


def presence_loss(presence: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy for present at all, and for each side of what is present."""
    counted = torch.cat([torch.ones_like(target[..., :1]), target[..., :1].expand(-1, -1, 2)], dim=-1)
    per_score = functional.binary_cross_entropy_with_logits(presence.float(), target, reduction="none")
    return (per_score * counted).sum() / counted.sum()


class GradeHead(nn.Module):
    """Reads zone and severity off the slots; used in training only, so that the slots hold them."""

    def __init__(self, width: int) -> None:
        """Build for slots of ``width``."""
        super().__init__()
        self.zone, self.severity = nn.Linear(width, GRADES), nn.Linear(width, GRADES)

    def loss(self, slots: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy over the findings that have a zone or a severity."""
        pairs = ((self.zone(slots), batch.zone), (self.severity(slots), batch.severity))
        parts = [
            functional.cross_entropy(
                logits.float().flatten(0, -2), target.flatten(), ignore_index=ABSENT, reduction="sum"
            )
            / (target != ABSENT).sum().clamp_min(1)
            for logits, target in pairs
        ]
        return parts[0] + parts[1]


def batch_losses(
    network: FirstreadMini, grades: GradeHead, batch: Batch, text_share: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Text, heat, presence and grade loss.

    Only the first ``text_share`` of the films are written about: words are learned sooner than sights.
    """
    seen = network.vision(batch.images)
    written = max(1, round(len(batch.ids) * text_share))
    embeddings = network.connector(seen.tokens[:written], batch.task[:written])
    ids = batch.ids[:written]
    logits = network.text_logits(embeddings, ids[:, :-1]).float()
    first = len(prompt_ids()) - 1
    words = functional.cross_entropy(
        logits[:, first:].flatten(0, 1), ids[:, first + 1 :].flatten(), ignore_index=PAD_ID
    )
    slots = seen.tokens[:, : batch.zone[0].numel()].unflatten(1, batch.zone.shape[1:])
    return (
        words,
        HEAT_WEIGHT * heat_loss(seen.heat, batch.heat),
        presence_loss(seen.presence, batch.presence),
        GRADE_WEIGHT * grades.loss(slots, batch),
    )
