"""What the network is trained towards: the next word, where each finding is, whether it is there, and how it is."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models.networks.heads import NUMBERS, box_overlap
from models.networks.mini import FilmReading, FirstreadMini, Joined
from models.networks.vision import VisionOutput
from models.training.batches import Batch, FilmBatch, Texts
from models.training.shards import ABSENT
from models.vocabulary.task_words import TASKS

HEAT_WEIGHT, HEAT_POSITIVE = 4.0, 4.0
GRADE_WEIGHT, BOX_WEIGHT, PLACE_WEIGHT, CHANGE_WEIGHT = 0.6, 1.0, 6.0, 0.5
KIND_WEIGHT = (4.0, 1.5, 1.0, 1.5, 1.0, 1.5, 3.0)
"""Small and thin findings cover few cells; their heat maps weigh more. In the order of the kinds."""
PRESENCE_POSITIVE = (1.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.3)
"""Per kind, how much more a missed finding costs than a false one: the ones that are missed most cost more."""
KNOWN_SHARE, KNOWN_JITTER = 0.5, 0.004
"""How often the writer is given the true box instead of the one read, so that it learns to copy, and how exactly."""
TEXT_GROUPS = 4
NUMBER_WEIGHT, SHORT_WEIGHT = 0.3, 2.0
"""How much a number, and a word of a short answer, count beside a word of a report. Short answers are few words; the
numbers of an answer are taken from the heads in the end (models/families/mini/places.py)."""
SHORT_TASKS = tuple(
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
    weight = torch.tensor(KIND_WEIGHT, device=heat.device)[:, None, None]
    per_cell = functional.binary_cross_entropy_with_logits(
        heat.float(), target, pos_weight=torch.tensor(HEAT_POSITIVE, device=heat.device), reduction="none"
    )
    return (per_cell * weight).mean()


def presence_loss(presence: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy for present at all, and for each side of what is present."""
    counted = torch.cat([torch.ones_like(target[..., :1]), target[..., :1].expand(-1, -1, 2)], dim=-1)
    positive = torch.ones_like(target[0])
    positive[:, 0] = torch.tensor(PRESENCE_POSITIVE, device=target.device)
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
    drawn = torch.rand(*target.shape[:2], 1, device=target.device)
    taken = (target[..., :1] >= 0) & (drawn < KNOWN_SHARE)
    return torch.where(taken, target + KNOWN_JITTER * torch.randn_like(target), boxes.detach())


class How(NamedTuple):
    """``first_number`` is the token of 0; whether the tower learns too; ``half``: tower and words in bfloat16."""

    first_number: int
    tower_learns: bool = True
    half: bool = False


class FilmsRead(NamedTuple):
    """All films read: the frontal ones, then the lateral ones, together; and the prior ones."""

    shown: FilmReading
    prior: FilmReading


def _tower(network: FirstreadMini, pixels: Tensor, how: How) -> VisionOutput:
    """The tower's output; in float32 also where it computed in half precision, since coordinates need it."""
    with torch.set_grad_enabled(how.tower_learns), _precision(pixels, how):
        seen: VisionOutput = network.vision(pixels)
    return VisionOutput(*(values.float() for values in seen))


def _precision(like: Tensor, how: How) -> torch.autocast:
    return torch.autocast(like.device.type, torch.bfloat16, enabled=how.half)


def read_films(network: FirstreadMini, films: FilmBatch, how: How) -> FilmsRead:
    """Read all films; the tower does not learn from prior ones, which are frontal films like the others."""
    seen = _tower(network, torch.cat([films.frontal, films.lateral]), how)
    earlier = films.prior if len(films.prior) else films.frontal[:1]
    prior = _tower(network, earlier, How(how.first_number, False, how.half))
    return FilmsRead(FilmReading(seen, network.heads(seen)), FilmReading(prior, network.heads(prior)))


def _spread(values: Tensor, studies: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Rows of ``values`` at the place of their study among ``count``, and 1 where there is one, else 0."""
    rows = values.new_zeros(count, *values.shape[1:]).index_copy(0, studies, values[: len(studies)])
    return rows, values.new_zeros(count).index_fill(0, studies, 1.0)


def joined_rows(network: FirstreadMini, read: FilmsRead, films: FilmBatch, texts: Texts) -> Joined:
    """What is in front of each row's prompt."""
    out, count, study = read.shown.out, len(films.frontal), texts.study
    side, sided = _spread(out.presence[count:], films.lateral_of, count)
    before, compared = _spread(read.prior.heads.state, films.prior_of, count)
    known = known_boxes(out.boxes[:count], films.boxes)
    joined: Joined = network.joiner(
        out.rows(study),
        texts.task,
        *(values[study] for values in (side, sided, before, compared)),
        texts.box,
        known[study],
    )
    return joined


def _in_front(joined: Joined, texts: Texts) -> tuple[Tensor, Tensor]:
    """Embeddings [r, v, width] ending with the last one in front of the prompt, and which of them count [r, v].

    Where no region is asked about, the film's tokens move up to the prompt; a text without a film has none that count.
    """
    empty = torch.zeros_like(joined.region)
    asked = texts.box.any(dim=1)[:, None, None]
    front = torch.where(
        asked, torch.cat([joined.film, joined.region], dim=1), torch.cat([empty, joined.film], dim=1)
    )
    place = torch.arange(front.shape[1], device=front.device)
    counts = (place >= 1) | asked[:, :, 0]
    return front, counts & (texts.task != IMAGELESS)[:, None]


def _may_see(counts: Tensor) -> Tensor:
    """Which positions see which, [r, 1, t, t]: those before them that count, and always themselves."""
    length = counts.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=counts.device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=counts.device)
    return ((earlier & counts[:, None]) | itself)[:, None]


def answer_loss(network: FirstreadMini, joined: Joined, texts: Texts, how: How) -> Tensor:
    """Weighted sum of the cross-entropy of the answers' words, and the sum of the weights: [2]."""
    front, counts = _in_front(joined, texts)
    place = torch.arange(texts.ids.shape[1], device=front.device)
    words = network.language.get_input_embeddings()(texts.ids[:, :-1])
    written = place[None, :-1] < texts.length[:, None] - 1
    with _precision(front, how):
        states = network.language.model(
            inputs_embeds=torch.cat([front, words], dim=1),
            attention_mask=_may_see(torch.cat([counts, written], dim=1)),
            use_cache=False,
        ).last_hidden_state[:, front.shape[1] :]
    wanted = (place >= texts.prompt[:, None]) & (place < texts.length[:, None])
    rows, places = wanted.nonzero(as_tuple=True)
    target = texts.ids[rows, places]
    logits = network.language.lm_head(states[rows, places - 1].float())
    number = (target >= how.first_number) & (target < how.first_number + NUMBERS)
    short = torch.isin(texts.task, torch.tensor(SHORT_TASKS, device=front.device))[rows]
    weight = torch.where(number, NUMBER_WEIGHT, 1.0) * torch.where(short, SHORT_WEIGHT, 1.0)
    losses = weight * functional.cross_entropy(logits.float(), target, reduction="none")
    return torch.stack([losses.sum(), weight.sum()])


def word_losses(network: FirstreadMini, read: FilmsRead, batch: Batch, how: How) -> Tensor:
    """Weighted mean cross-entropy of the answers' words; rows of like length are read together."""
    groups = batch.texts.groups(TEXT_GROUPS)
    parts = [answer_loss(network, joined_rows(network, read, batch.films, g), g, how) for g in groups]
    total, counted = torch.stack(parts).sum(dim=0).unbind()
    mean: Tensor = total / counted
    return mean


def batch_losses(network: FirstreadMini, batch: Batch, how: How) -> Losses:
    """Every part of the loss of one batch."""
    films = batch.films
    read = read_films(network, films, how)
    seen, heads, count = read.shown.seen, read.shown.heads, len(films.frontal)
    logits = network.joiner.change(heads.state[films.prior_of], read.prior.heads.state[: len(films.prior_of)])
    grades = code_loss(heads.severity[:count], films.severity) + code_loss(heads.zone[:count], films.zone)
    places = place_loss(heads.organs[:count], films.organs)
    places = places + place_loss(heads.landmarks[:count], films.landmarks)
    return Losses(
        words=word_losses(network, read, batch, how),
        heat=HEAT_WEIGHT * heat_loss(seen.heat, torch.cat([films.heat, films.lateral_heat])),
        presence=presence_loss(seen.presence, torch.cat([films.presence, films.lateral_presence])),
        grade=GRADE_WEIGHT * grades,
        box=BOX_WEIGHT * box_loss(heads.boxes[:count], films.boxes),
        place=PLACE_WEIGHT * places,
        change=CHANGE_WEIGHT * code_loss(logits, films.change[films.prior_of]),
    )
