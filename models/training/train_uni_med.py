"""Train a Uni-Med: ``python -m models.training.train_uni_med --model DIR --samples FILE --out DIR --steps N``.

``--model`` is a folder as ``models.networks.uni_med`` describes it, its tower loaded (``--tower`` takes one named as
transformers' ``Blip2VisionModel``). The tower and its norm stay as they are; connector and LoRA learn. The defaults
are the published ones: one stage, batch 4, 1e-5 to 1e-7 with a warm-up. Started again with the same ``--out``, a run
goes on from its last checkpoint, with the same numbers as if it had not been stopped.
"""

import argparse
import logging
import math
import os
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.families.uni_med.questions import AFTER_IMAGE, BEFORE_IMAGE, END, START
from models.families.uni_med.uni_med_family import normalise
from models.networks.uni_med import (
    ADAPTER_FOLDER,
    LANGUAGE_FOLDER,
    TASKS,
    load_encoder,
    load_tower,
)
from models.networks.uni_med_language import load_adapter, load_base, with_new_adapter
from models.training.uni_med_data import UniMedSample, choose_batch, read_samples
from pipeline.errors import ConfigurationError

CHECKPOINT = "training.pt"
IGNORED = -100
LOG_EVERY = 50

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UniMedTrainingPlan:
    """How to train; ``warm_up`` counts steps, ``checkpoint_every`` too."""

    steps: int
    batch: int = 4
    rate: float = 1e-5
    last_rate: float = 1e-7
    warm_up: int = 5000
    weight_decay: float = 0.05
    seed: int = 42
    checkpoint_every: int = 1000

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: straight up, then half a cosine down."""
        if step < self.warm_up:
            return self.rate * (step + 1) / self.warm_up
        share = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return self.last_rate + (self.rate - self.last_rate) * 0.5 * (1 + math.cos(math.pi * share))


class UniMedTrainer:
    """Encoder, language model with LoRA, and optimiser; takes up a checkpoint in ``out`` where there is one."""

    def __init__(
        self,
        model: Path,
        out: Path,
        plan: UniMedTrainingPlan,
        *,
        tower: Path | None = None,
        device: str = "cpu",
    ) -> None:
        """Load ``model``. Raises StopRun for unsound weights, ConfigurationError for a checkpoint of another plan."""
        self.plan, self.out, self._model, self.device = plan, out, model, device
        torch.manual_seed(plan.seed)
        self.encoder = load_encoder(model)
        if tower is not None:
            load_tower(self.encoder, tower)
        base, self._tokenizer = load_base(model)
        self.config = self.encoder.config
        if (model / ADAPTER_FOLDER).is_dir():
            self.language = load_adapter(base, model, trainable=True)
        else:
            self.language = with_new_adapter(base, self.config)
        self._positions: int = base.config.max_position_embeddings
        self.encoder.requires_grad_(False)
        self.encoder.connector.requires_grad_(True)
        self.encoder.to(device)
        self.language.to(device)
        self.optimiser = torch.optim.AdamW(
            self._learning(), lr=plan.rate, betas=(0.9, 0.999), weight_decay=plan.weight_decay
        )
        self.step = 0
        if (out / CHECKPOINT).is_file():
            self._take_up()

    def _learning(self) -> list[nn.Parameter]:
        parts = [*self.encoder.connector.parameters(), *self.language.parameters()]
        return [parameter for parameter in parts if parameter.requires_grad]

    def train(self, samples: Sequence[UniMedSample], *, until: int = 0) -> list[float]:
        """Train to the plan's last step, or ``until``; returns the loss of each step, in nats a token."""
        losses = []
        while self.step < (until or self.plan.steps):
            losses.append(self._learn(choose_batch(samples, self.plan.seed, self.step, self.plan.batch)))
            self.step += 1
            if self.step % LOG_EVERY == 0:
                log.info("step %d: loss %.4f", self.step, float(np.mean(losses[-LOG_EVERY:])))
            if self.step % self.plan.checkpoint_every == 0:
                self.checkpoint()
        return losses

    def _learn(self, batch: Sequence[UniMedSample]) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate_at(self.step)
        torch.manual_seed(
            self.plan.seed * 1_000_003 + self.step
        )  # the LoRA's dropout, the same after a restart
        self.language.train()
        loss = self.loss(batch)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return float(loss.detach())

    def loss(self, batch: Sequence[UniMedSample]) -> Tensor:
        """Mean loss of the answers' tokens, their end included."""
        rows = self._join(batch)
        width = self.language.get_input_embeddings().embedding_dim
        longest = max(len(embedded) for embedded, _ in rows)
        joined = torch.zeros(len(rows), longest, width, device=self.device)
        labels = torch.full((len(rows), longest), IGNORED, device=self.device)
        mask = torch.zeros(len(rows), longest, dtype=torch.int64, device=self.device)
        for row, (embedded, answer) in enumerate(rows):
            end = len(embedded)
            joined[row, :end] = embedded
            labels[row, end - len(answer) : end] = answer
            mask[row, :end] = 1
        loss: Tensor = self.language(inputs_embeds=joined, attention_mask=mask, labels=labels).loss
        return loss

    def _join(self, batch: Sequence[UniMedSample]) -> list[tuple[Tensor, Tensor]]:
        """Per sample the embeddings of the whole sequence, and the ids of its answer."""
        seen = self._see(batch)
        words = self.language.get_input_embeddings()
        chooser = random.Random(f"{self.plan.seed}/{self.step}")  # noqa: S311 - wordings, not secrets
        rows = []
        for place, sample in enumerate(batch):
            instruction = sample.instruction(chooser)
            answer = [*self._ids(sample.answer), int(self._tokenizer.eos_token_id)]
            start = [int(self._tokenizer.bos_token_id)]
            if sample.image is None:
                parts = [words(self._tensor([*start, *self._ids(f"{START}{instruction}{END}"), *answer]))]
            else:
                before, after = self._ids(BEFORE_IMAGE), self._ids(f"{AFTER_IMAGE}{instruction}{END}")
                parts = [
                    words(self._tensor([*start, *before])),
                    seen[place],
                    words(self._tensor([*after, *answer])),
                ]
            embedded = torch.cat(parts)
            if len(embedded) > self._positions:
                message = (
                    f"a sample of {len(embedded)} positions is longer than the model's {self._positions}"
                )
                raise ConfigurationError("training-data", f"{message}: shorten it, nothing is clipped")
            rows.append((embedded, self._tensor(answer)))
        return rows

    def _see(self, batch: Sequence[UniMedSample]) -> Tensor:
        """Visual tokens of every sample; those of a text-only one are not used."""
        grey = np.stack([sample.pixels(self.config.vision.image_size) for sample in batch])
        tasks = [TASKS.index(sample.task) if sample.task in TASKS else 0 for sample in batch]
        with torch.no_grad():
            tokens = self.encoder.tower(torch.from_numpy(normalise(grey)).to(self.device))
            tokens = self.encoder.aggregate(self.encoder.final_norm(tokens)[:, 1:])
        visual: Tensor = self.encoder.connector(tokens, self._tensor(tasks))
        return visual

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)

    def _tensor(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor(ids, dtype=torch.int64, device=self.device)

    def checkpoint(self) -> None:
        """Write all that a later start needs, whole or not at all."""
        self.out.mkdir(parents=True, exist_ok=True)
        stored = {
            "plan": asdict(self.plan),
            "step": self.step,
            "connector": self.encoder.connector.state_dict(),
            "adapter": self._adapter(),
            "optimiser": self.optimiser.state_dict(),
        }
        part = self.out / f"{CHECKPOINT}.part"
        with part.open("wb") as stream:
            torch.save(stored, stream)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(self.out / CHECKPOINT)

    def _adapter(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.language.state_dict().items() if "lora_" in name}

    def _take_up(self) -> None:
        stored: dict[str, Any] = torch.load(
            self.out / CHECKPOINT, map_location=self.device, weights_only=True
        )
        if stored["plan"] != asdict(self.plan):
            message = f"{self.out} holds a run with another plan: give the same options, or another --out"
            raise ConfigurationError("training-plan", message)
        self.encoder.connector.load_state_dict(stored["connector"])
        self.language.load_state_dict(stored["adapter"], strict=False)
        self.optimiser.load_state_dict(stored["optimiser"])
        self.step = stored["step"]
        log.info("going on from step %d", self.step)

    def save(self) -> None:
        """Write the trained folder into ``out``; the language model is linked, not copied."""
        self.encoder.save(self.out)
        self.language.save_pretrained(self.out / ADAPTER_FOLDER)
        link = self.out / LANGUAGE_FOLDER
        if not link.exists():
            link.symlink_to((self._model / LANGUAGE_FOLDER).resolve())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tower", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=50_000)
    for name in ("batch", "warm_up", "seed", "checkpoint_every"):
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=getattr(UniMedTrainingPlan(1), name)
        )
    for name in ("rate", "last_rate", "weight_decay"):
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=float, default=getattr(UniMedTrainingPlan(1), name)
        )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    plan = UniMedTrainingPlan(**{name: getattr(options, name) for name in UniMedTrainingPlan.__slots__})
    trainer = UniMedTrainer(options.model, options.out, plan, tower=options.tower, device=options.device)
    trainer.train(read_samples(options.samples))
    trainer.checkpoint()
    trainer.save()


if __name__ == "__main__":
    main()
