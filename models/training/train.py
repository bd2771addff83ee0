"""Train firstread-mini: ``python -m models.training.train --seed 0 --minutes 70 --shared DIR --cache DIR --out DIR``.

Films that the cache lacks are rendered first (``render_shards``, ``real_films``); their content is fixed by their
numbers. With ``--steps`` instead of ``--minutes`` the run is repeatable. On a busy machine one thread learns faster
than two that wait for each other.
"""

import argparse
import copy
import logging
import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from models.networks.mini import TOKENIZER_FILE, FirstreadMini, MiniConfig
from models.networks.tokenizer import build_tokenizer
from models.training import real_films, render_shards
from models.training.batches import BatchSource
from models.training.losses import GradeHead, batch_losses
from models.training.shards import Pool

log = logging.getLogger(__name__)
WARM_UP_STEPS = 300
EMA_DECAY = 0.997
LOG_EVERY = 100
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast to train; ``steps`` 0 means by the clock."""

    seed: int
    minutes: float
    steps: int
    batch: int
    rate: float
    real_share: float
    text_share: float
    checkpoint_minutes: float


class Trainer:
    """The network, its averaged copy and the optimiser; can be saved and taken up again."""

    def __init__(self, plan: Plan) -> None:
        """Fresh weights from ``plan.seed``."""
        torch.manual_seed(plan.seed)
        self.plan, self.tokenizer = plan, build_tokenizer()
        config = MiniConfig()
        language = replace(config.language, vocabulary=self.tokenizer.get_vocab_size())
        self.network = FirstreadMini(replace(config, language=language))
        self.network.vision.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval()
        self.grades = GradeHead(config.vision.token_width)
        learned = [*self.network.parameters(), *self.grades.parameters()]
        decayed = [p for p in learned if p.ndim > 1]
        plain = [p for p in learned if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=plan.rate, betas=(0.9, 0.97), fused=True)
        self.step, self.seconds = 0, 0.0

    @property
    def progress(self) -> float:
        """0 at the start, 1 at the end of the plan."""
        return self.step / self.plan.steps if self.plan.steps else self.seconds / (60 * self.plan.minutes)

    def learn(self, source: BatchSource) -> Tensor:
        """One optimiser step; the three losses."""
        rate = self.plan.rate * min(1, (self.step + 1) / WARM_UP_STEPS)
        rate *= max(0.01, 0.5 + 0.5 * math.cos(math.pi * min(1.0, self.progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = source.next()
        with torch.autocast("cpu", torch.bfloat16):
            losses = torch.stack(batch_losses(self.network, self.grades, batch, self.plan.text_share))
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
            "grades": self.grades.state_dict(),
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
        self.grades.load_state_dict(state["grades"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]


def train(trainer: Trainer, source: BatchSource, out: Path) -> None:
    """Learn until the plan is done, saving every few minutes."""
    mean, saved = torch.zeros(4), trainer.seconds
    trainer.network.train()
    began, first = time.monotonic() - trainer.seconds, trainer.step
    started = trainer.seconds
    while trainer.progress < 1:
        mean = 0.98 * mean + 0.02 * trainer.learn(source)
        trainer.seconds = time.monotonic() - began
        if trainer.step % LOG_EVERY == 0:
            words, heat, presence, grade = mean.tolist()
            log.info(
                "%.1f min, step %d, text %.4f, heat %.4f, presence %.4f, grade %.4f, %.1f films/s",
                trainer.seconds / 60, trainer.step, words, heat, presence, grade,
                (trainer.step - first) * trainer.plan.batch / (trainer.seconds - started),
            )  # fmt: skip
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
    parser.add_argument("--ct-films", type=int, default=90_000, help="0: take the cache as it is")
    parser.add_argument("--real-films", type=int, default=34_000, help="0: take the cache as it is")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=70.0)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--real-share", type=float, default=0.3)
    parser.add_argument("--text-share", type=float, default=0.4)
    parser.add_argument("--checkpoint-minutes", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--resume", action="store_true")
    chosen = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    cache, out, resume = chosen.pop("cache"), chosen.pop("out"), chosen.pop("resume")
    threads, shared = chosen.pop("threads"), chosen.pop("shared")
    size = MiniConfig().vision.image_size
    render_shards.render_missing(cache / "ct", chosen.pop("ct_films"), size, threads)
    real_films.render_missing(shared, cache / "real", chosen.pop("real_films"), size, threads)
    torch.set_num_threads(threads)
    trainer = Trainer(Plan(**chosen))
    if resume:
        trainer.load(out)
    pools = (Pool(cache / "ct", chosen["seed"]), Pool(cache / "real", chosen["seed"] + 1))
    source = BatchSource(
        pools, chosen["real_share"], chosen["batch"], trainer.tokenizer, chosen["seed"] + trainer.step
    )
    train(trainer, source, out)


if __name__ == "__main__":
    main()
