"""Train firstread-mini: ``python -m models.training.train --seed 0 --minutes 70 --shared DIR --cache DIR --out DIR``.

Studies that the cache lacks are rendered first (``render_shards``, ``real_films``); their content is fixed by their
numbers. Shards that are added meanwhile are taken up: a machine with many cores renders beside the training
(``--ct-films 0 --real-films 0`` takes the cache as it is). ``--start FOLDER`` goes on from earlier weights of the same
shape. With ``--steps`` instead of ``--minutes``, one writer and a full cache the run is repeatable.
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
from models.networks.mini import TOKENIZER_FILE, FirstreadMini, MiniConfig, load_mini, load_tokenizer
from models.training import real_films, render_shards
from models.training.batches import Batch, Texts
from models.training.copying import begin_copying
from models.training.losses import How, Losses, batch_losses
from models.training.store import FilmStore
from models.training.tokenizer import build_tokenizer
from models.training.writing import Writers, WritingOrder, number_token

log = logging.getLogger(__name__)
WARM_UP_STEPS = 150
EMA_DECAY = 0.998
LOG_EVERY = 50
CHECKPOINT = "checkpoint.pt"
COPYING_BATCHES = 16
NUMBER_NORM = 0.5
"""Length of a whole number's embedding at the start."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How long and how fast to train; ``steps`` 0 means by the clock."""

    seed: int
    minutes: float
    steps: int
    rate: float
    tower_share: float
    half: bool
    device: str
    checkpoint_minutes: float


class BatchSource:
    """Batches on the device: studies as the writers drew them, with their texts."""

    def __init__(self, store: FilmStore, writers: Writers, device: str) -> None:
        """Join ``store`` and ``writers``."""
        self._store, self._writers, self._device = store, writers, device

    def next(self) -> Batch:
        """The next batch; waits until it is ready."""
        drawn = self._writers.next()
        return Batch(self._store.films(drawn.studies), Texts.from_arrays(drawn.texts, self._device))


class Trainer:
    """The network, its averaged copy and the optimiser; can be saved and taken up again."""

    def __init__(self, plan: TrainingPlan, start: Path | None = None) -> None:
        """Fresh weights from ``plan.seed``, or those of ``start``. Raises RuntimeError where these do not fit."""
        torch.manual_seed(plan.seed)
        self.plan, self.started = plan, start is not None
        self.tokenizer = build_tokenizer() if start is None else load_tokenizer(start)
        self.first_number = number_token(self.tokenizer)
        self.network = self._fresh() if start is None else load_mini(start)
        self.network.to(plan.device)
        self.network.vision.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval()
        named = list(self.network.parameters())
        groups = [
            {"params": [p for p in named if p.ndim > 1], "weight_decay": 0.05},
            {"params": [p for p in named if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=plan.rate, betas=(0.9, 0.98), fused=True)
        self.step, self.seconds = 0, 0.0

    def _fresh(self) -> FirstreadMini:
        config = MiniConfig()
        language = replace(config.language, vocabulary=self.tokenizer.get_vocab_size())
        network = FirstreadMini(replace(config, language=language))
        _begin_numbers(network, self.first_number)
        return network

    def begin_copying(self, source: BatchSource) -> None:
        """Let the last layer of the language model begin able to copy coordinates (``models/training/copying.py``)."""
        films = torch.cat([source.next().films.frontal for _ in range(COPYING_BATCHES)])
        near = begin_copying(self.network, films, self.first_number)
        log.info("coordinates read off the tokens within three hundredths: %s", near)
        self.average.load_state_dict(self.network.state_dict())

    @property
    def progress(self) -> float:
        """0 at the start, 1 at the end of the plan."""
        return self.step / self.plan.steps if self.plan.steps else self.seconds / (60 * self.plan.minutes)

    def learn(self, source: BatchSource) -> Tensor:
        """One optimiser step; the losses in the order of ``Losses``."""
        rate = self.plan.rate * min(1, (self.step + 1) / WARM_UP_STEPS)
        rate *= max(0.01, 0.5 + 0.5 * math.cos(math.pi * min(1.0, self.progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        learns = self.progress < self.plan.tower_share
        how = How(self.first_number, learns, self.plan.half)
        if not learns:
            self.network.vision.eval()
        losses = torch.stack(list(batch_losses(self.network, source.next(), how)))
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
        state = torch.load(folder / CHECKPOINT, weights_only=True, map_location=self.plan.device)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]


@torch.no_grad()
def _begin_numbers(network: FirstreadMini, first: int) -> None:
    """Let near numbers begin alike, in the words and in the tables of the coordinates."""
    plain = number_embedding(network.config.language.width)
    table: Any = network.language.get_input_embeddings()
    table.weight[first : first + NUMBERS] = plain * NUMBER_NORM
    turns = [torch.linalg.qr(torch.randn(len(plain[0]), len(plain[0])))[0] for _ in range(4)]
    network.joiner.numbers.tables.copy_(torch.stack([plain @ turn for turn in turns]) * 5)


def train(trainer: Trainer, source: BatchSource, out: Path) -> None:
    """Learn until the plan is done, saving every few minutes."""
    mean, saved = torch.zeros(len(Losses._fields), device=trainer.plan.device), trainer.seconds
    trainer.network.train()
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
    parser.add_argument("--batch", type=int, default=10, help="studies per step")
    parser.add_argument("--texts", type=int, default=24, help="texts per step")
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--real-share", type=float, default=0.2)
    parser.add_argument("--tower-share", type=float, default=1.0, help="share of the run in which it learns")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--half", action="store_true", help="bfloat16: only where the processor has it (AMX, a GPU)"
    )
    parser.add_argument("--start", type=Path, default=None, help="weights folder to go on from")
    parser.add_argument("--checkpoint-minutes", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--writers", type=int, default=1, help="processes that write the texts")
    parser.add_argument("--resume", action="store_true")
    chosen = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    cache, out, resume = chosen.pop("cache"), chosen.pop("out"), chosen.pop("resume")
    threads, shared, start = chosen.pop("threads"), chosen.pop("shared"), chosen.pop("start")
    folders = (cache / "ct", cache / "real")
    size = MiniConfig().vision.image_size
    render_shards.render_missing(folders[0], chosen.pop("ct_films"), size, threads)
    real_films.render_missing(shared, folders[1], chosen.pop("real_films"), size, threads)
    torch.set_num_threads(threads)
    writers = chosen.pop("writers")
    shape = chosen.pop("batch"), chosen.pop("real_share"), chosen.pop("texts")
    trainer = Trainer(TrainingPlan(**chosen), start)
    if resume:
        trainer.load(out)
    seed = chosen["seed"] + trainer.step
    store = FilmStore(folders, chosen["device"], seed)
    with Writers(WritingOrder(folders, *shape, seed), trainer.tokenizer, writers) as at_work:
        source = BatchSource(store, at_work, chosen["device"])
        if not resume and not trainer.started:
            trainer.begin_copying(source)
        train(trainer, source, out)


if __name__ == "__main__":
    main()
