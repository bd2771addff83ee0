"""What firstread-mini reads off its vision tower before it writes: boxes, sizes, organs, landmarks, change, regions."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.vision import SIDES, VisionConfig, VisionOutput

ORGANS, LANDMARKS, GRADES, CHANGES = 3, 8, 3, 4
STATE, REGION_CHANNELS, HIDDEN = 48, 12, 192
SIZES, SIZE_HIDDEN = 12, 32
GROUP = 16
"""Elements that a processor computes at once, or a multiple of that."""
NUMBERS = 101
"""Whole numbers 0..100 that write a coordinate."""


class HeadsOutput(NamedTuple):
    """Readings of n films; coordinates are shares of the film's width and height, boxes (x1, y1, x2, y2).

    ``boxes`` [n, slots, 4]; ``organs`` [n, 3, 4]; ``landmarks`` [n, 8, 2]; ``severity`` and ``zone`` logits
    [n, slots, 3]; ``state`` [n, slots, STATE], what a later film is compared with; ``region``
    [n, kinds + REGION_CHANNELS, g, g], what a box is looked up in.
    """

    boxes: Tensor
    organs: Tensor
    landmarks: Tensor
    severity: Tensor
    zone: Tensor
    state: Tensor
    region: Tensor


def _log(values: Tensor) -> Tensor:
    """Natural logarithm of values [n, ...], the same bits in any batch.

    A runtime computes it in groups of elements and the rest of a row differently: so every row is filled up to whole
    groups.
    """
    flat = values.flatten(1)
    filled = functional.pad(flat, (0, -flat.shape[1] % GROUP), value=1.0)
    logarithm: Tensor = torch.log(filled)[:, : flat.shape[1]].reshape(values.shape)
    return logarithm


class SizeHead(nn.Module):
    """How severe a finding is by its size beside the chest's: a small network for every kind."""

    def __init__(self, kinds: int) -> None:
        """Build so that it says nothing at first."""
        super().__init__()
        self.first = nn.Parameter(torch.randn(kinds, SIZES, SIZE_HIDDEN) * SIZES**-0.5)
        self.bias = nn.Parameter(torch.zeros(kinds, 1, SIZE_HIDDEN))
        self.second = nn.Parameter(torch.zeros(kinds, SIZE_HIDDEN, GRADES))

    def forward(self, boxes: Tensor, area: Tensor, organs: Tensor) -> Tensor:
        """Severity logits [n, slots, 3] from boxes [n, slots, 4], hot area [n, slots] and organ boxes [n, 3, 4]."""
        size = _log((boxes[..., 2:] - boxes[..., :2]).clamp_min(0) + 0.01)
        centre = (boxes[..., 2:] + boxes[..., :2]) / 2
        frame = (organs[..., 2:] - organs[..., :2]).flatten(1)
        span = organs[:, 1, 2:3] - organs[:, 0, 0:1]
        chest = _log(torch.cat([frame, span], dim=-1).clamp_min(0) + 0.01)
        chest = chest[:, None].expand(-1, boxes.shape[1], -1)
        seen = torch.cat([size + 2, centre * 2 - 1, _log(area + 1e-3)[..., None] + 3, chest + 1], dim=-1)
        kinds: Tensor = seen.unflatten(1, (-1, len(SIDES)))  # type: ignore[no-untyped-call]
        logits: Tensor = torch.relu(kinds @ self.first + self.bias) @ self.second
        return logits.flatten(1, 2)


class ReadingHeads(nn.Module):
    """Boxes and grades of the finding slots, organ boxes, landmarks, and the maps for asking about a region."""

    side_masks: Tensor
    axis: Tensor

    def __init__(self, config: VisionConfig) -> None:
        """Build over a tower of ``config``."""
        super().__init__()
        width, grid = config.widths[2], config.heat_size
        self.places = nn.Sequential(
            nn.Conv2d(width, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 4 * ORGANS + LANDMARKS, 1)
        )
        self.place_shift = nn.Linear(config.token_width, 4 * ORGANS + 2 * LANDMARKS)
        nn.init.zeros_(self.place_shift.weight)
        nn.init.zeros_(self.place_shift.bias)
        seen = config.token_width + 5 + 2 * grid + 4 * ORGANS + 3
        self.trunk = nn.Sequential(nn.Linear(seen, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU())
        self.box = nn.Linear(HIDDEN, 4)
        nn.init.zeros_(self.box.weight)
        nn.init.zeros_(self.box.bias)
        self.severity, self.zone = nn.Linear(HIDDEN + 2, GRADES), nn.Linear(HIDDEN, GRADES)
        self.state = nn.Linear(HIDDEN + 2, STATE)
        self.size = SizeHead(config.kinds)
        self.region = nn.Conv2d(width, REGION_CHANNELS, 1)
        axis = (torch.arange(grid) + 0.5) / grid
        right = torch.sigmoid((0.5 - axis) * 40)
        self.register_buffer("side_masks", torch.stack([right, 1 - right]), persistent=False)
        self.register_buffer("axis", axis, persistent=False)

    def forward(self, seen: VisionOutput) -> HeadsOutput:
        """Read the tower's output."""
        organs, landmarks = self._places(seen)
        chance = torch.sigmoid(seen.heat)[:, :, None] * self.side_masks[None, None, :, None, :]
        profiles = torch.cat([chance.amax(dim=-2), chance.amax(dim=-1)], dim=-1).flatten(1, 2)
        geometry = seen.geometry.flatten(1, 2)
        slots = seen.tokens[:, : geometry.shape[1]]
        presence = seen.presence[:, :, None].expand(-1, -1, len(SIDES), -1).flatten(1, 2)
        frame = organs.flatten(1).detach()[:, None].expand(-1, geometry.shape[1], -1)
        hidden = self.trunk(torch.cat([slots, geometry, profiles, frame, presence * 0.2], dim=-1))
        change = self.box(hidden)
        centre = geometry[..., :2] / 2 + 0.5 + 0.2 * change[..., :2]
        size = geometry[..., 2:4] * 2 * torch.exp(change[..., 2:].clamp(-3, 2))
        boxes = torch.cat([centre - size / 2, centre + size / 2], dim=-1).clamp(0, 1)
        sized = torch.cat([hidden, _log(size + 0.01)], dim=-1)
        area = chance.mean(dim=(-2, -1)).flatten(1)
        severity = self.severity(sized) + self.size(boxes.detach(), area, organs.detach())
        region = torch.cat([torch.sigmoid(seen.heat), torch.tanh(self.region(seen.features))], dim=1)
        return HeadsOutput(boxes, organs, landmarks, severity, self.zone(hidden), self.state(sized), region)

    def _places(self, seen: VisionOutput) -> tuple[Tensor, Tensor]:
        """Organ boxes and landmarks: where a map is hot on average, plus a shift read off the whole film."""
        grid = len(self.axis)
        share = torch.softmax(self.places(seen.features).flatten(2), dim=-1)
        share = share.reshape(-1, share.shape[1], grid, grid)
        x, y = share.sum(dim=-2) @ self.axis, share.sum(dim=-1) @ self.axis
        slots = seen.geometry.shape[1] * seen.geometry.shape[2]
        grid_tokens = seen.tokens[:, slots:]
        share_each = grid_tokens.new_full((1, grid_tokens.shape[1]), 1 / grid_tokens.shape[1])
        shift = (0.2 * self.place_shift(share_each @ grid_tokens)).flatten(1)
        edges = torch.stack([x[:, :12:4], y[:, 1:12:4], x[:, 2:12:4], y[:, 3:12:4]], dim=-1)
        points = torch.stack([x[:, 12:], y[:, 12:]], dim=-1)
        organs = edges + shift[:, :12].unflatten(1, (ORGANS, 4))
        return organs, points + shift[:, 12:].unflatten(1, (LANDMARKS, 2))


class ChangeHead(nn.Module):
    """How a finding changed, from its states on the film and on the prior film."""

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3 * STATE, 96), nn.ReLU(), nn.Linear(96, CHANGES))

    def forward(self, now: Tensor, before: Tensor) -> Tensor:
        """Logits [n, slots, 4] for new, unchanged, increased, decreased from two states [n, slots, STATE]."""
        logits: Tensor = self.layers(torch.cat([now, before, now - before], dim=-1))
        return logits


class RegionToken(nn.Module):
    """One token for what lies in a box."""

    edges: Tensor

    def __init__(self, kinds: int, grid: int, width: int) -> None:
        """Build for maps of ``kinds`` heat channels and REGION_CHANNELS others on ``grid`` cells."""
        super().__init__()
        seen = 2 * (kinds + REGION_CHANNELS) + 4 + 4 * ORGANS + 2 * kinds
        self.layers = nn.Sequential(nn.Linear(seen, 192), nn.ReLU(), nn.Linear(192, width))
        self.register_buffer("edges", torch.arange(grid + 1) / grid, persistent=False)

    def forward(self, region: Tensor, box: Tensor, organs: Tensor, boxes: Tensor) -> Tensor:
        """A token [n, 1, width] from maps [n, c, g, g], the asked box [n, 4], organ boxes and finding boxes."""
        low, high = self.edges[:-1], self.edges[1:]
        cell = high[0] - low[0]

        def cover(start: Tensor, end: Tensor) -> Tensor:
            inside = torch.minimum(high, end[:, None]) - torch.maximum(low, start[:, None])
            return (inside / cell).clamp(0, 1)

        weight = cover(box[:, 1], box[:, 3])[:, :, None] * cover(box[:, 0], box[:, 2])[:, None]
        weight = weight.flatten(1)[:, None]
        flat = region.flatten(2)
        mean = (flat * weight).sum(dim=-1) / (weight.sum(dim=-1) + 1e-3)
        most = (flat * (weight > 0.25)).amax(dim=-1)
        frame = (organs - box[:, None]).flatten(1)
        overlap = box_overlap(boxes, box[:, None])
        token: Tensor = self.layers(torch.cat([mean, most, box, frame * 4, overlap], dim=-1))
        return token[:, None]


def box_overlap(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes [..., 4]."""
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    shared = (high - low).clamp_min(0).prod(dim=-1)
    areas = [(box[..., 2:] - box[..., :2]).clamp_min(0).prod(dim=-1) for box in (first, second)]
    overlap: Tensor = shared / (areas[0] + areas[1] - shared + 1e-6)
    return overlap


class NumberTables(nn.Module):
    """Coordinates as embeddings, one table per coordinate, linear between whole hundredths."""

    steps: Tensor

    def __init__(self, width: int) -> None:
        """Build for embeddings of ``width``; see :func:`number_embedding`."""
        super().__init__()
        plain = number_embedding(width)
        turns = torch.stack([torch.linalg.qr(torch.randn(width, width))[0] for _ in range(4)])
        self.tables = nn.Parameter(plain @ turns)
        self.register_buffer("steps", torch.arange(NUMBERS).float(), persistent=False)

    def forward(self, shares: Tensor) -> Tensor:
        """Sum over the coordinates of ``shares`` [..., 2 or 4], each 0..1, as [..., width]."""
        near = functional.relu(1 - (shares.clamp(0, 1)[..., None] * (NUMBERS - 1) - self.steps).abs())
        used = self.tables[: shares.shape[-1]]
        summed: Tensor = near.flatten(-2) @ used.flatten(0, 1)
        return summed


def number_embedding(width: int, norm: float = 1.0) -> Tensor:
    """Embeddings [NUMBERS, width] of whole numbers, near ones alike: waves of several lengths, mixed at random."""
    numbers = torch.arange(NUMBERS).float()[:, None]
    waves = torch.tensor([4.0, 7.0, 12.0, 21.0, 37.0, 65.0, 120.0, 240.0])
    phases = numbers / waves * 2 * torch.pi
    plain = torch.cat([phases.sin(), phases.cos()], dim=-1)
    mixed = plain @ torch.linalg.qr(torch.randn(width, plain.shape[1]))[0].T
    embedding: Tensor = mixed * (norm / mixed.norm(dim=-1, keepdim=True))
    return embedding
