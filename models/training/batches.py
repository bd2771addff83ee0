"""Batches: studies drawn from the pools, lit anew, with prompts and answers of several tasks."""

import random
import re
from dataclasses import dataclass
from queue import Queue
from threading import Thread

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from models.networks.mini import EOS_ID, LANGUAGES, PAD_ID, TASKS
from models.simulation.phrases import KINDS, SIDES
from models.simulation.task_texts import task_example
from models.training.shards import ABSENT, Pool, Sample, study_facts

TASK_SHARE = {
    "report": 0.26,
    "findings": 0.02,
    "impression": 0.06,
    "grounded_report": 0.08,
    "detect": 0.09,
    "identify": 0.10,
    "vqa": 0.17,
    "classify": 0.14,
    "landmark": 0.02,
    "summarize": 0.06,
}
REFRESH_EVERY = 20
_BOX = re.compile(r"\{<(\d+)><(\d+)><(\d+)><(\d+)>\}")


def number_token(tokenizer: Tokenizer) -> int:
    """The token of 0; those of 1 to 100 follow it. Raises ValueError for another model's tokenizer."""
    token = tokenizer.token_to_id("<0>")
    if token is None:
        raise ValueError("this tokenizer has no numbers")
    return int(token)


@dataclass(frozen=True, slots=True)
class Films:
    """What is on n studies.

    ``frontal``, ``lateral`` and ``prior`` float32 [., 1, size, size], with ``lateral_of`` and ``prior_of`` int64 the
    study of each. ``heat`` and ``presence`` float32 as in ``Sample`` with one row per study, ``lateral_heat`` and
    ``lateral_presence`` one per lateral film; ``boxes`` [n, slots, 4], ``organs``, ``landmarks`` as in ``Sample``;
    ``severity``, ``zone``, ``change`` int64 [n, slots], -1 where there is none.
    """

    frontal: Tensor
    lateral: Tensor
    lateral_of: Tensor
    prior: Tensor
    prior_of: Tensor
    heat: Tensor
    presence: Tensor
    lateral_heat: Tensor
    lateral_presence: Tensor
    boxes: Tensor
    organs: Tensor
    landmarks: Tensor
    severity: Tensor
    zone: Tensor
    change: Tensor


@dataclass(frozen=True, slots=True)
class Texts:
    """What is written about them, one row per text.

    ``study`` int64 [r]; ``task`` int64 [r]; ``box`` float32 [r, 4], the asked region; ``ids`` is prompt, answer and end
    of each row, ``prompt`` the length of its prompt; ``first_number`` is the token of 0.
    """

    study: Tensor
    task: Tensor
    box: Tensor
    ids: list[list[int]]
    prompt: list[int]
    first_number: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Studies and texts about them."""

    films: Films
    texts: Texts


def relight(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change gamma, add noise and blur a third of the films: [n, 1, size, size] in 0..1, same shape out."""
    count = len(images)
    gamma = torch.empty(count, 1, 1, 1).uniform_(0.75, 1.35, generator=generator)
    noise = torch.empty(count, 1, 1, 1).uniform_(0.0, 0.03, generator=generator)
    share = torch.empty(count, 1, 1, 1).uniform_(-1.0, 0.5, generator=generator).clamp_min(0)
    soft = torch.nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    images = torch.lerp(images, soft, share).clamp_min(1e-4) ** gamma
    return images + noise * torch.randn(images.shape, generator=generator)


def slot_codes(samples: list[Sample]) -> NDArray[np.int64]:
    """Severity, zone and change codes per slot, -1 where there is none: [3, n, slots]."""
    targets = np.full((3, len(samples), len(KINDS), len(SIDES)), ABSENT, np.int64)
    for row, sample in enumerate(samples):
        for kind, side, *codes, _ in sample.facts.tolist():
            if kind >= 0:
                sides = slice(None) if side < 0 else side
                for place, code in enumerate(codes):
                    targets[place, row, kind, sides] = code
    return targets.reshape(3, len(samples), -1)


class BatchSource:
    """Endless batches from a pool of simulated studies and a pool made from real films."""

    def __init__(
        self,
        pools: tuple[Pool, Pool],
        real_share: float,
        size: int,
        texts: int,
        tokenizer: Tokenizer,
        seed: int,
    ) -> None:
        """Batches of ``size`` studies, ``real_share`` of them from the second pool once it holds any, and ``texts``.

        ``shape`` may be changed while batches are drawn.
        """
        self._pools, self._real_share = pools, real_share
        self.shape = (size, texts)
        self._tokenizer = tokenizer
        self._chooser = random.Random(seed)  # noqa: S311 - order and wording, not secrets
        self._generator = torch.Generator().manual_seed(seed)
        self._queue: Queue[Batch] = Queue(maxsize=3)
        Thread(target=self._fill, daemon=True).start()

    def next(self) -> Batch:
        """The next batch; waits until it is ready."""
        return self._queue.get()

    def _fill(self) -> None:
        made = 0
        while True:
            if made % REFRESH_EVERY == 0:
                for pool in self._pools:
                    pool.refresh()
            self._queue.put(self._make())
            made += 1

    def _make(self) -> Batch:
        real, (size, texts) = 0, self.shape
        if len(self._pools[1]):
            whole, rest = divmod(size * self._real_share, 1)
            real = int(whole) + (self._chooser.random() < rest)
        samples = self._pools[0].draw(size - real) + (self._pools[1].draw(real) if real else [])
        return Batch(self._films(samples), self._write(samples, texts))

    def _light(self, images: list[NDArray[np.uint8]], like: NDArray[np.uint8]) -> Tensor:
        stacked = np.stack(images) if images else like[:0]
        lit = torch.from_numpy(stacked)[:, None].float() / 255
        return relight(lit, self._generator) if images else lit

    def _films(self, samples: list[Sample]) -> Films:
        lateral = [i for i, sample in enumerate(samples) if sample.given[1]]
        prior = [i for i, sample in enumerate(samples) if sample.given[2]]
        like = samples[0].images
        heat = torch.from_numpy(np.stack([s.heat for s in samples])).float()
        presence = torch.from_numpy(np.stack([s.presence for s in samples])).float()
        severity, zone, change = torch.from_numpy(slot_codes(samples))
        return Films(
            frontal=self._light([s.images[0] for s in samples], like),
            lateral=self._light([samples[i].images[1] for i in lateral], like),
            lateral_of=torch.tensor(lateral, dtype=torch.int64),
            prior=self._light([samples[i].images[2] for i in prior], like),
            prior_of=torch.tensor(prior, dtype=torch.int64),
            heat=heat[:, 0],
            presence=presence[:, 0],
            lateral_heat=heat[lateral, 1],
            lateral_presence=presence[lateral, 1],
            boxes=torch.from_numpy(np.stack([s.boxes for s in samples])).flatten(1, 2),
            organs=torch.from_numpy(np.stack([s.organs for s in samples])),
            landmarks=torch.from_numpy(np.stack([s.landmarks for s in samples])),
            severity=severity,
            zone=zone,
            change=change,
        )

    def _write(self, samples: list[Sample], count: int) -> Texts:
        facts = [study_facts(sample) for sample in samples]
        studies = list(range(len(samples)))
        rows: list[tuple[int, str, list[float], list[int], int]] = []
        names, shares = list(TASK_SHARE), list(TASK_SHARE.values())
        while len(rows) < count:
            study = studies[len(rows) % len(studies)]
            task, language = self._chooser.choices(names, shares)[0], self._chooser.choice(LANGUAGES)
            try:
                prompt, answer = task_example(facts[study], task, language, self._chooser)
            except ValueError:  # nothing on this study to ask for
                continue
            asked = _BOX.search(prompt) if task == "identify" else None
            box = [int(edge) / 100 for edge in asked.groups()] if asked else [0.0] * 4
            start = self._tokenizer.encode(prompt).ids
            rows.append((study, task, box, [*start, *self._tokenizer.encode(answer).ids, EOS_ID], len(start)))
        return Texts(
            study=torch.tensor([row[0] for row in rows]),
            task=torch.tensor([TASKS.index(row[1]) for row in rows]),
            box=torch.tensor([row[2] for row in rows]),
            ids=[row[3] for row in rows],
            prompt=[row[4] for row in rows],
            first_number=number_token(self._tokenizer),
        )


def pad_rows(rows: list[list[int]]) -> Tensor:
    """Ids of unequal length as [n, t]."""
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD_ID] * (longest - len(row)) for row in rows])
