"""What the network is trained towards: the next word, where each finding is, whether it is there, and how it is."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from models.networks.heads import NUMBERS, box_overlap
from models.networks.mini import TASKS, FirstreadMini, Reading
from models.networks.vision import VisionOutput
from models.training.batches import Batch, Films, Texts
from models.training.shards import ABSENT

HEAT_WEIGHT, HEAT_POSITIVE = 4.0, 4.0
GRADE_WEIGHT, BOX_WEIGHT, PLACE_WEIGHT, CHANGE_WEIGHT = 0.6, 1.0, 6.0, 0.5
KIND_WEIGHT = (4.0, 1.5, 1.0, 1.5, 1.0, 1.5, 3.0)
"""Small and thin findings cover few cells; their heat maps weigh more. In the order of the kinds."""
PRESENCE_POSITIVE = (1.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.3)
"""Per kind, how much more a missed finding costs than a false one: the ones that are missed most cost more."""
KNOWN_SHARE, KNOWN_JITTER = 0.5, 0.004
"""How often the writer is given the true box instead of the one read, so that it learns to copy, and how exactly."""
TEXT_GROUPS = 3
NUMBER_WEIGHT, SHORT_WEIGHT = 0.3, 2.0
"""How much a number, and a word of a short answer, count beside a word of a report. Short answers are few words; the
numbers of an answer are taken from the heads in the end (models/families/mini_places.py)."""
SHORT_TASKS = frozenset(
    TASKS.index(task)
    for task in ("detect", "identify", "vqa", "classify", "landmark", "summarize", "impression")
)
IMAGELESS = TASKS.index("summarize")


class Losses(NamedTuple):
    """The parts of the loss, each already weighted."""

    words: Tensor
    heat: Tensor
    presence: Tensor
    grade: Tensor
    box: Tensor
    place: Tensor
    change: Tensor


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
    positive = torch.ones_like(target[0])
    positive[:, 0] = torch.tensor(PRESENCE_POSITIVE)
    per_score = functional.binary_cross_entropy_with_logits(
        presence.float(), target, pos_weight=positive, reduction="none"
    )
    return (per_score * counted).sum() / counted.sum()


def code_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy over the slots [n, slots] that have a code."""
    summed = functional.cross_entropy(
        logits.flatten(0, 1), target.flatten(), ignore_index=ABSENT, reduction="sum"
    )
    return summed / (target != ABSENT).sum().clamp_min(1)


def box_loss(boxes: Tensor, target: Tensor) -> Tensor:
    """Distance of the edges, relative to the box's size, and lack of overlap, over the boxes that there are."""
    there = target[..., 0] >= 0
    count = there.sum().clamp_min(1)
    size = (target[..., 2:] - target[..., :2]).clamp_min(0.02).repeat(1, 1, 2)
    apart = functional.smooth_l1_loss(boxes / size, target / size, beta=0.1, reduction="none").mean(dim=-1)
    lack = 1 - box_overlap(boxes, target)
    return ((apart + lack) * there).sum() / count


def place_loss(places: Tensor, target: Tensor) -> Tensor:
    """Distance of organ edges or landmarks, over those that there are."""
    there = (target >= 0).all(dim=-1, keepdim=True)
    apart = functional.smooth_l1_loss(places, target, beta=0.02, reduction="none") * there
    return apart.sum() / (there.sum().clamp_min(1) * target.shape[-1])


def known_boxes(boxes: Tensor, target: Tensor) -> Tensor:
    """The boxes read, some of them replaced by the true ones."""
    taken = (target[..., :1] >= 0) & (torch.rand(*target.shape[:2], 1) < KNOWN_SHARE)
    return torch.where(taken, target + KNOWN_JITTER * torch.randn_like(target), boxes.detach())


class _Read(NamedTuple):
    """All films read: the frontal ones, then the lateral ones, together; and the prior ones."""

    shown: Reading
    prior: Reading


def _tower(network: FirstreadMini, pixels: Tensor, learns: bool) -> VisionOutput:
    with torch.set_grad_enabled(learns):
        seen: VisionOutput = network.vision(pixels)
    return seen


def _read(network: FirstreadMini, films: Films, learns: bool) -> _Read:
    """Read all films; the tower does not learn from prior ones, which are frontal films like the others."""
    seen = _tower(network, torch.cat([films.frontal, films.lateral]), learns)
    prior = _tower(network, films.prior if len(films.prior) else films.frontal[:1], False)
    return _Read(Reading(seen, network.heads(seen)), Reading(prior, network.heads(prior)))


def _spread(values: Tensor, studies: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Rows of ``values`` at the place of their study among ``count``, and 1 where there is one, else 0."""
    rows = values.new_zeros(count, *values.shape[1:]).index_copy(0, studies, values[: len(studies)])
    return rows, torch.zeros(count).index_fill(0, studies, 1.0)


def _embeddings(network: FirstreadMini, read: _Read, batch: Batch) -> list[Tensor]:
    """Everything in front of each row's prompt: [v, width] per row."""
    films, texts, out = batch.films, batch.texts, read.shown.out
    count = len(films.frontal)
    side, sided = _spread(out.presence[count:], films.lateral_of, count)
    before, compared = _spread(read.prior.heads.state, films.prior_of, count)
    known = known_boxes(out.boxes[:count], films.boxes)
    study = texts.study
    joined = network.joiner(
        out.rows(study),
        texts.task,
        *(values[study] for values in (side, sided, before, compared)),
        texts.box,
        known[study],
    )
    embeddings = []
    for row, (task, asked) in enumerate(zip(texts.task.tolist(), texts.box.any(dim=1).tolist(), strict=True)):
        film = joined.film[row, :0] if task == IMAGELESS else joined.film[row]
        embeddings.append(torch.cat([film, joined.region[row]]) if asked else film)
    return embeddings


def word_losses(network: FirstreadMini, embeddings: list[Tensor], texts: Texts) -> Tensor:
    """Weighted mean cross-entropy of the answers' words; rows of like length are read together."""
    order = sorted(range(len(texts.ids)), key=lambda row: len(embeddings[row]) + len(texts.ids[row]))
    size = -(-len(order) // TEXT_GROUPS)
    total = torch.zeros(())
    counted = torch.zeros(())
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        table = network.language.get_input_embeddings()
        joined = pad_sequence(
            [torch.cat([embeddings[row], table(torch.tensor(texts.ids[row][:-1]))]) for row in rows], True
        )
        states = network.language.model(inputs_embeds=joined, use_cache=False).last_hidden_state
        spoken = torch.cat(
            [
                states[place, len(embeddings[row]) + texts.prompt[row] - 1 :][
                    : len(texts.ids[row]) - texts.prompt[row]
                ]
                for place, row in enumerate(rows)
            ]
        )
        wanted = torch.tensor([token for row in rows for token in texts.ids[row][texts.prompt[row] :]])
        logits = network.language.lm_head(spoken)
        weight = torch.where(
            (wanted >= texts.first_number) & (wanted < texts.first_number + NUMBERS), NUMBER_WEIGHT, 1.0
        )
        short = [SHORT_WEIGHT if int(texts.task[row]) in SHORT_TASKS else 1.0 for row in rows]
        answers = torch.tensor([len(texts.ids[row]) - texts.prompt[row] for row in rows])
        weight = weight * torch.tensor(short).repeat_interleave(answers)
        total = total + (weight * functional.cross_entropy(logits.float(), wanted, reduction="none")).sum()
        counted = counted + weight.sum()
    return total / counted


def batch_losses(network: FirstreadMini, batch: Batch, learns: bool = True) -> Losses:
    """Every part of the loss of one batch; without ``learns`` the tower is left as it is."""
    films = batch.films
    read = _read(network, films, learns)
    seen, heads, count = read.shown.seen, read.shown.heads, len(films.frontal)
    logits = network.joiner.change(heads.state[films.prior_of], read.prior.heads.state[: len(films.prior_of)])
    grades = code_loss(heads.severity[:count], films.severity) + code_loss(heads.zone[:count], films.zone)
    places = place_loss(heads.organs[:count], films.organs)
    places = places + place_loss(heads.landmarks[:count], films.landmarks)
    return Losses(
        words=word_losses(network, _embeddings(network, read, batch), batch.texts),
        heat=HEAT_WEIGHT * heat_loss(seen.heat, torch.cat([films.heat, films.lateral_heat])),
        presence=presence_loss(seen.presence, torch.cat([films.presence, films.lateral_presence])),
        grade=GRADE_WEIGHT * grades,
        box=BOX_WEIGHT * box_loss(heads.boxes[:count], films.boxes),
        place=PLACE_WEIGHT * places,
        change=CHANGE_WEIGHT * code_loss(logits, films.change[films.prior_of]),
    )
