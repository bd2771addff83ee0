"""Batches: films drawn from the pools, lit anew, with the text of one task."""

import random
from dataclasses import dataclass
from queue import Queue
from threading import Thread

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from models.networks.mini import EOS_ID, PAD_ID, TASKS, prompt_ids
from models.simulation.phrases import (
    FINDINGS_HEADING,
    IMPRESSION_HEADING,
    KINDS,
    SIDES,
    join_sections,
    write_sections,
)
from models.training.shards import ABSENT, Pool, Sample, read_facts

TASK_SHARE = (0.86, 0.07, 0.07)
SORTED_BATCHES = 4
REFRESH_EVERY = 50


@dataclass(frozen=True, slots=True)
class Batch:
    """``images`` float32 [n, 1, size, size]; ``heat`` and ``presence`` float32 as in ``Sample``; ``task`` int64 [n];
    ``ids`` int64 [n, t], prompt, text, end and padding; ``zone`` and ``severity`` int64 [n, kinds, 2] per kind and
    side, -1 where there is none."""

    images: Tensor
    heat: Tensor
    presence: Tensor
    task: Tensor
    ids: Tensor
    zone: Tensor
    severity: Tensor


def task_text(sample: Sample, task: str, chooser: random.Random) -> str:
    """What the model should write about a film when asked for ``task``."""
    findings, impression = write_sections(read_facts(sample.facts), chooser)
    if task == "findings":
        return f"{FINDINGS_HEADING} {findings}"
    return (
        f"{IMPRESSION_HEADING} {impression}" if task == "impression" else join_sections(findings, impression)
    )


def relight(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change gamma, add noise and blur a third of the films: [n, 1, size, size] in 0..1, same shape out."""
    count = len(images)
    gamma = torch.empty(count, 1, 1, 1).uniform_(0.75, 1.35, generator=generator)
    noise = torch.empty(count, 1, 1, 1).uniform_(0.0, 0.03, generator=generator)
    share = torch.empty(count, 1, 1, 1).uniform_(-1.0, 0.5, generator=generator).clamp_min(0)
    soft = torch.nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    images = torch.lerp(images, soft, share).clamp_min(1e-4) ** gamma
    return images + noise * torch.randn(images.shape, generator=generator)


def grade_targets(samples: list[Sample]) -> NDArray[np.int64]:
    """Severity and zone codes per kind and side, -1 where there is none: [2, n, kinds, 2]."""
    targets = np.full((2, len(samples), len(KINDS), len(SIDES)), ABSENT, np.int64)
    for row, sample in enumerate(samples):
        for kind, side, severity, zone in sample.facts.tolist():
            if kind >= 0:
                sides = slice(None) if side < 0 else side
                targets[0, row, kind, sides], targets[1, row, kind, sides] = severity, zone
    return targets


class BatchSource:
    """Endless batches from a pool of simulated films and a pool made from real films."""

    def __init__(
        self, pools: tuple[Pool, Pool], real_share: float, size: int, tokenizer: Tokenizer, seed: int
    ) -> None:
        """Batches of ``size`` films; ``real_share`` of them from the second pool, once that holds any."""
        self._pools, self._real_share, self._size = pools, real_share, size
        self._tokenizer = tokenizer
        self._chooser = random.Random(seed)  # noqa: S311 - order and wording, not secrets
        self._generator = torch.Generator().manual_seed(seed)
        self._queue: Queue[Batch] = Queue(maxsize=6)
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
            for batch in self._group():
                self._queue.put(batch)
            made += SORTED_BATCHES

    def _group(self) -> list[Batch]:
        total = self._size * SORTED_BATCHES
        real = round(total * self._real_share) if len(self._pools[1]) else 0
        samples = (
            self._pools[0].draw(total - real) + self._pools[1].draw(real)
            if real
            else self._pools[0].draw(total)
        )
        tasks = self._chooser.choices(TASKS, TASK_SHARE, k=total)
        texts = [task_text(sample, task, self._chooser) for sample, task in zip(samples, tasks, strict=True)]
        ids = [
            [*prompt_ids(task), *self._tokenizer.encode(text).ids, EOS_ID]
            for task, text in zip(tasks, texts, strict=True)
        ]
        self._chooser.shuffle(order := list(range(total)))
        order.sort(key=lambda index: len(ids[index]))
        groups = [order[start : start + self._size] for start in range(0, total, self._size)]
        self._chooser.shuffle(groups)
        return [
            self._batch([samples[i] for i in g], [tasks[i] for i in g], [ids[i] for i in g]) for g in groups
        ]

    def _batch(self, samples: list[Sample], tasks: list[str], ids: list[list[int]]) -> Batch:
        longest = max(map(len, ids))
        severity, zone = torch.from_numpy(grade_targets(samples))
        images = torch.from_numpy(np.stack([s.image for s in samples]))[:, None].float() / 255
        return Batch(
            images=relight(images, self._generator),
            heat=torch.from_numpy(np.stack([s.heat for s in samples])).float(),
            presence=torch.from_numpy(np.stack([s.presence for s in samples])).float(),
            task=torch.tensor([TASKS.index(task) for task in tasks]),
            ids=torch.tensor([row + [PAD_ID] * (longest - len(row)) for row in ids]),
            zone=zone,
            severity=severity,
        )
