"""Train firstread-mini: ``python -m models.training.train --seed 0 --minutes 70 --shared DIR --cache DIR --out DIR``.

Studies that the cache lacks are rendered first (``render_shards``, ``real_films``); their content is fixed by their
numbers. ``--start FOLDER`` takes over the tower and the words of earlier weights and keeps the statistics of the
tower's normalisation. With ``--steps`` instead of ``--minutes`` the run is repeatable.
"""

import argparse
import copy
import logging
import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.heads import NUMBERS, number_embedding
from models.networks.mini import TOKENIZER_FILE, FirstreadMini, MiniConfig
from models.networks.tokenizer import build_tokenizer
from models.training import real_films, render_shards
from models.training.batches import BatchSource, number_token
from models.training.copying import begin_copying
from models.training.losses import Losses, batch_losses
from models.training.shards import Pool
from models.training.start import start_from

log = logging.getLogger(__name__)
WARM_UP_STEPS = 150
EMA_DECAY = 0.996
LOG_EVERY = 50
CHECKPOINT = "checkpoint.pt"
TOWER_RATE = 0.35
"""Rate of a tower that was taken over, of the others' rate."""
LATER_STUDIES, LATER_TEXTS = 8, 32
"""Batches once the tower is left as it is: reading is cheap then, and more is written about fewer studies."""
COPYING_BATCHES = 16
NUMBER_NORM = 0.5
"""Length of a whole number's embedding at the start."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast to train; ``steps`` 0 means by the clock."""

    seed: int
    minutes: float
    steps: int
    batch: int
    rate: float
    real_share: float
    texts: int
    tower_share: float
    half: bool
    checkpoint_minutes: float


class Trainer:
    """The network, its averaged copy and the optimiser; can be saved and taken up again."""

    def __init__(self, plan: Plan, start: Path | None = None) -> None:
        """Fresh weights from ``plan.seed``, or those of ``start`` where they fit."""
        torch.manual_seed(plan.seed)
        self.plan, self.tokenizer = plan, build_tokenizer()
        config = MiniConfig()
        language = replace(config.language, vocabulary=self.tokenizer.get_vocab_size())
        self.network = FirstreadMini(replace(config, language=language))
        self.started = start is not None
        if start is not None:
            log.info("%d tensors taken from %s", start_from(self.network, self.tokenizer, start), start)
        self._begin_numbers()
        self.network.vision.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval()
        groups = []
        for tower in (True, False):
            parts = [p for n, p in self.network.named_parameters() if n.startswith("vision.") == tower]
            rate = TOWER_RATE if tower and self.started else 1.0
            for decay, chosen in (
                (0.05, [p for p in parts if p.ndim > 1]),
                (0.0, [p for p in parts if p.ndim < 2]),
            ):
                groups.append({"params": chosen, "weight_decay": decay, "share": rate})
        self.optimizer = torch.optim.AdamW(groups, lr=plan.rate, betas=(0.9, 0.98), fused=True)
        self.step, self.seconds = 0, 0.0

    @torch.no_grad()
    def _begin_numbers(self) -> None:
        """Let near numbers begin alike, in the words and in the tables of the coordinates."""
        plain = number_embedding(self.network.config.language.width)
        first = number_token(self.tokenizer)
        table: Any = self.network.language.get_input_embeddings()
        words = table.weight
        words[first : first + NUMBERS] = plain * NUMBER_NORM
        turns = [torch.linalg.qr(torch.randn(len(plain[0]), len(plain[0])))[0] for _ in range(4)]
        self.network.joiner.numbers.tables.copy_(torch.stack([plain @ turn for turn in turns]) * 5)

    def begin_copying(self, source: BatchSource) -> None:
        """Let the last layer of the language model begin able to copy coordinates (``models/training/copying.py``)."""
        films = torch.cat([source.next().films.frontal for _ in range(COPYING_BATCHES)])
        near = begin_copying(self.network, films, number_token(self.tokenizer))
        log.info("coordinates read off the tokens within three hundredths: %s", near)
        self.average.load_state_dict(self.network.state_dict())

    def train_mode(self) -> None:
        """Everything learns; a tower that was taken over keeps the statistics of its normalisation."""
        self.network.train()
        if self.started:
            for module in self.network.vision.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    @property
    def progress(self) -> float:
        """0 at the start, 1 at the end of the plan."""
        return self.step / self.plan.steps if self.plan.steps else self.seconds / (60 * self.plan.minutes)

    def learn(self, source: BatchSource) -> Tensor:
        """One optimiser step; the losses in the order of ``Losses``."""
        rate = self.plan.rate * min(1, (self.step + 1) / WARM_UP_STEPS)
        rate *= max(0.01, 0.5 + 0.5 * math.cos(math.pi * min(1.0, self.progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        learns = self.progress < self.plan.tower_share
        if not learns:
            source.shape = (LATER_STUDIES, LATER_TEXTS)
        batch = source.next()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.plan.half):
            losses = torch.stack(list(batch_losses(self.network, batch, learns)))
        self.optimizer.zero_grad()
        torch.autograd.backward(losses.sum())
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._follow(min(EMA_DECAY, (1 + self.step) / (10 + self.step)))
        return losses.detach()

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        ours: list[Tensor] = list(self.average.parameters())
        theirs: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)
        for mean, value in zip(self.average.buffers(), self.network.buffers(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)

    def save(self, folder: Path) -> None:
        """Write the averaged model to ``folder`` as it would ship, and the checkpoint beside it."""
        self.average.save(folder)
        self.tokenizer.save(str(folder / TOKENIZER_FILE))
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, folder / "checkpoint.partial")
        os.replace(folder / "checkpoint.partial", folder / CHECKPOINT)

    def load(self, folder: Path) -> None:
        """Take up the checkpoint of ``folder``."""
        state = torch.load(folder / CHECKPOINT, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]


def train(trainer: Trainer, source: BatchSource, out: Path) -> None:
    """Learn until the plan is done, saving every few minutes."""
    mean, saved = torch.zeros(len(Losses._fields)), trainer.seconds
    trainer.train_mode()
    began, first = time.monotonic() - trainer.seconds, trainer.step
    started = trainer.seconds
    while trainer.progress < 1:
        mean = mean + max(0.02, 1 / (trainer.step - first + 1)) * (trainer.learn(source) - mean)
        trainer.seconds = time.monotonic() - began
        if trainer.step % LOG_EVERY == 0:
            parts = ", ".join(
                f"{name} {value:.4f}" for name, value in zip(Losses._fields, mean.tolist(), strict=True)
            )
            pace = (trainer.seconds - started) / (trainer.step - first)
            log.info("%.1f min, step %d, %s, %.2f s/step", trainer.seconds / 60, trainer.step, parts, pace)
        if trainer.seconds - saved > 60 * trainer.plan.checkpoint_minutes:
            trainer.save(out)
            saved = trainer.seconds
    trainer.save(out)


def main() -> None:
    """Read the options, then train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder that holds data/nih")
    parser.add_argument("--cache", type=Path, required=True, help="folder for ct/ and real/ shards")
    parser.add_argument("--ct-films", type=int, default=40_000, help="0: take the cache as it is")
    parser.add_argument("--real-films", type=int, default=10_000, help="0: take the cache as it is")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=70.0)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--real-share", type=float, default=0.2)
    parser.add_argument("--texts", type=int, default=12, help="texts per batch")
    parser.add_argument(
        "--tower-share", type=float, default=0.4, help="share of the run in which the tower learns"
    )
    parser.add_argument(
        "--half", action="store_true", help="bfloat16: only where the processor has it (AVX-512, AMX)"
    )
    parser.add_argument("--start", type=Path, default=None, help="weights folder to take over what fits from")
    parser.add_argument("--checkpoint-minutes", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--resume", action="store_true")
    chosen = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    cache, out, resume = chosen.pop("cache"), chosen.pop("out"), chosen.pop("resume")
    threads, shared, start = chosen.pop("threads"), chosen.pop("shared"), chosen.pop("start")
    size = MiniConfig().vision.image_size
    render_shards.render_missing(cache / "ct", chosen.pop("ct_films"), size, threads)
    real_films.render_missing(shared, cache / "real", chosen.pop("real_films"), size, threads)
    torch.set_num_threads(threads)
    trainer = Trainer(Plan(**chosen), start)
    if resume:
        trainer.load(out)
    pools = (Pool(cache / "ct", chosen["seed"]), Pool(cache / "real", chosen["seed"] + 1))
    source = BatchSource(
        pools,
        chosen["real_share"],
        chosen["batch"],
        chosen["texts"],
        trainer.tokenizer,
        chosen["seed"] + trainer.step,
    )
    if not resume:
        trainer.begin_copying(source)
    train(trainer, source, out)


if __name__ == "__main__":
    main()
