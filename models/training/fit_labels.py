"""Teach the label networks: ``python -m models.training.fit_labels --shared DIR --model FOLDER --cache DIR``.

From the labels of the NIH films of patients that are not held back, each network from nothing with a seed of its own.
Collections are never set against each other: each has an offset of its own for every label, which does not ship. Once
for each fold of patients, whose films are then scored by networks that never saw their patient (``read_folds``; the
rule and its levels are fitted to these scores), and once on all, which is written into the weights: eighteen networks,
each about a minute of one core. Every round leaves a checkpoint in the cache, and a run goes on from it. The rule and
the self-check come after it (``fit_films``, ``selfcheck``).
"""

import argparse
import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.families.mini.films import RULED
from models.networks.label_net import MEMBERS, LabelMember, LabelNet, on_one_scale
from models.training.fit_outlines import load_beside
from models.training.real_sources import LABELS, LEARNED_FROM, Film, load_film, read_films
from models.training.varied_films import varied
from models.training.within import FOLDS

FURTHER = (
    "Atelectasis",
    "Infiltration",
    "Edema",
    "Consolidation",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Mass",
)
"""Labels taught beside the findings that are ruled: their answers are not kept, but they teach the filters."""
TARGETS = (*RULED, *FURTHER)
LABELLED, UNLABELLED = 0.95, (0.08, 0.15, 0.10, 0.03, 0.05, 0.2, *(0.05 for _ in FURTHER))
"""Targets of a film with a label and without: more of these labels are missing than are wrong."""
COLLECTIONS = ("nih pneumonia", "nih-more", "nih64")
CHOSEN_BY = frozenset({"Infiltration", "Consolidation", "Edema", "Atelectasis"})
"""Labels of opacities: films gathered as 'Pneumonia' say nothing of these."""
WEIGHTS = (*(1.0 for _ in RULED), *(0.5 for _ in FURTHER))
MOST_WEIGHT = 5.0
ROUNDS, TOGETHER, RATE, DECAY, DROPPED, AVERAGED = 20, 32, 2e-3, 0.05, 0.3, 0.99
ALL = "all"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Labels:
    """Of n films: ``true`` and ``known`` float32 [n, targets], 0 or 1, and ``collection`` int64 [n]."""

    true: Tensor
    known: Tensor
    collection: Tensor

    @classmethod
    def of(cls, films: Sequence[Film]) -> "Labels":
        """What the published labels say; of films of other collections nothing."""
        places = [COLLECTIONS.index(one.collection) if one.collection in COLLECTIONS else 0 for one in films]
        said = [[_said(film, target) for target in TARGETS] for film in films]
        known = torch.tensor([[float(one is not None) for one in row] for row in said])
        return cls(
            torch.tensor([[float(bool(one)) for one in row] for row in said]), known, torch.tensor(places)
        )

    def rows(self, rows: Tensor | NDArray[np.int64]) -> "Labels":
        """Those of some films."""
        return Labels(self.true[rows], self.known[rows], self.collection[rows])

    @property
    def rare(self) -> Tensor:
        """How much more a labelled film weighs than another, [targets]."""
        labelled, all_known = (self.true * self.known).sum(dim=0), self.known.sum(dim=0)
        return ((all_known - labelled) / labelled.clamp_min(1)).sqrt().clamp(1, MOST_WEIGHT)


def _said(film: Film, target: str) -> bool | None:
    """What the label of ``film`` says of ``target``, None where its collection was gathered by it or says nothing."""
    if film.collection not in COLLECTIONS:
        return None
    if target in LABELS:
        return film.truth(target) if target in LEARNED_FROM[film.collection] else None
    return None if film.source == "nih" and target in CHOSEN_BY else target in film.labels


def taught_films(films: Sequence[Film]) -> NDArray[np.int64]:
    """Which of ``films`` teach: those of ``COLLECTIONS`` whose patients are not held back."""
    return np.flatnonzero([film.collection in COLLECTIONS and not film.held_back for film in films])


@dataclass
class LabelTraining:
    """One network in training: ``network``, its running average, an offset for each collection and target."""

    network: LabelMember
    average: LabelMember
    offsets: nn.Parameter
    optimizer: torch.optim.AdamW
    schedule: torch.optim.lr_scheduler.OneCycleLR
    generator: torch.Generator
    rounds: int = 0
    steps: int = 0

    @classmethod
    def begin(cls, seed: int, steps: int) -> "LabelTraining":
        """A run of ``steps`` steps from nothing."""
        torch.manual_seed(seed)
        network = LabelMember(len(TARGETS), training=True)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        offsets = nn.Parameter(torch.zeros(len(COLLECTIONS), len(TARGETS)))
        learned: list[dict[str, Any]] = [
            {"params": list(network.parameters())},
            {"params": [offsets], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(learned, RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
        generator = torch.Generator().manual_seed(seed)
        return cls(network, copy.deepcopy(network).eval(), offsets, optimizer, schedule, generator)

    def _parts(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "average": self.average,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
        }

    def save(self, path: Path) -> None:
        """Write a checkpoint; a reader never sees half of it."""
        held = {name: part.state_dict() for name, part in self._parts().items()}
        held |= {
            "offsets": self.offsets.data,
            "generator": self.generator.get_state(),
            "noise": torch.get_rng_state(),
        }
        held |= {"rounds": self.rounds, "steps": self.steps}
        torch.save(held, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint."""
        held = torch.load(path, weights_only=True)
        for name, part in self._parts().items():
            part.load_state_dict(held[name])
        self.offsets.data.copy_(held["offsets"])
        self.generator.set_state(held["generator"])
        torch.set_rng_state(held["noise"])
        self.rounds, self.steps = held["rounds"], held["steps"]

    def step(self, films: Tensor, labels: Labels, rare: Tensor) -> float:
        """Learn from ``films`` [n, 1, s, s] with their ``labels``; the loss."""
        shown = on_one_scale(films).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            read = self.network.read(shown)
        read = functional.dropout(read.float(), DROPPED)
        wanted = torch.where(labels.true > 0, torch.tensor(LABELLED), torch.tensor(UNLABELLED))
        losses = functional.binary_cross_entropy_with_logits(
            self.network.answer(read) + self.offsets[labels.collection],
            wanted,
            pos_weight=rare,
            reduction="none",
        )
        weight = torch.tensor(WEIGHTS) * labels.known
        loss = (losses * weight).sum() / weight.sum()
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.schedule.step()
        self.steps += 1
        kept = min(AVERAGED, self.steps / (self.steps + 10))
        with torch.no_grad():
            pairs = zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True)
            for mean, new in pairs:
                if mean.is_floating_point():
                    mean.lerp_(new, 1 - kept)
        return loss.item()


def train(
    films: Tensor, labels: Labels, seed: int, kept: Path, rounds: int, stop: int | None = None
) -> LabelMember:
    """The network that ships after ``rounds`` rounds over ``films`` uint8 [n, s, s] with their ``labels``.

    Checkpoints are ``kept``; ``stop`` leaves after so many rounds.
    """
    torch.set_num_threads(1)
    run, rare = LabelTraining.begin(seed, rounds * (len(films) // TOGETHER)), labels.rare
    if kept.exists():
        run.resume(kept)
    while run.rounds < (rounds if stop is None else stop):
        run.network.train()
        order, losses = torch.randperm(len(films), generator=run.generator), []
        for start in range(0, len(films) - TOGETHER + 1, TOGETHER):
            some = order[start : start + TOGETHER]
            seen = varied(films[some][:, None].float() / 255, run.generator)
            losses.append(run.step(seen, labels.rows(some), rare))
        run.rounds += 1
        run.save(kept)
        log.info("%s: round %d, loss %.3f", kept.stem, run.rounds, float(np.mean(losses)))
    return run.average.folded(len(RULED))


@torch.inference_mode()
def score(members: Sequence[LabelMember], films: Tensor) -> NDArray[np.float32]:
    """Mean logits [n, ruled] of films uint8 [n, s, s]."""
    parts = []
    for start in range(0, len(films), TOGETHER):
        seen = on_one_scale(films[start : start + TOGETHER, None].float() / 255)
        parts.append(torch.stack([member(seen) for member in members]).mean(dim=0))
    told: NDArray[np.float32] = torch.cat(parts).numpy()
    return told


def folds_path(cache: Path) -> Path:
    """Where the scores over folds are kept."""
    return cache / "label-folds.npy"


def read_folds(cache: Path, films: Sequence[Film]) -> NDArray[np.float32]:
    """Logits [n, ruled] of every film that teaches by the networks of the folds without its patient, else nan.

    Raises OSError where there are none, ValueError where they are of other films.
    """
    told: NDArray[np.float32] = np.load(folds_path(cache))
    if len(told) != len(films):
        raise ValueError(f"{folds_path(cache)} is of other films; fit the label networks again")
    return told


@torch.inference_mode()
def small_films(films: Sequence[Film], labels: LabelNet, size: int) -> Tensor:
    """Films as the label networks see them: uint8 [n, SIZE, SIZE]."""
    parts = [labels.smaller(torch.from_numpy(load_film(film.path, size))[None]) for film in films]
    return (torch.cat(parts) * 255).round().clamp(0, 255).to(torch.uint8)


def fit(
    films: Sequence[Film], pixels: Tensor, seed: int, cache: Path, rounds: int
) -> tuple[list[LabelMember], NDArray[np.float32]]:
    """The networks of all training patients, and the scores over folds [n, ruled]; ``pixels`` uint8 [n, s, s]."""
    rows, told = taught_films(films), np.full((len(films), len(RULED)), np.nan, np.float32)
    labels, fold = Labels.of(films), np.array([film.fold(FOLDS) for film in films])
    for name in (*range(FOLDS), ALL):
        inside = rows if name == ALL else rows[fold[rows] != name]
        members = [
            train(
                pixels[inside],
                labels.rows(inside),
                seed + place,
                cache / f"labels-{seed + place}-{name}.pt",
                rounds,
            )
            for place in range(MEMBERS)
        ]
        outside = rows[fold[rows] == name]
        if len(outside):
            told[outside] = score(members, pixels[outside])
    return members, told


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--shared", type=Path, required=True, help="folder that holds data/nih and the others"
    )
    parser.add_argument("--model", type=Path, required=True, help="weights folder; it is written anew")
    parser.add_argument("--cache", type=Path, required=True, help="folder of checkpoints and scores")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    chosen.cache.mkdir(parents=True, exist_ok=True)
    network, films = load_beside(chosen.model), read_films(chosen.shared)
    pixels = small_films(films, network.labels, network.config.vision.image_size)
    members, told = fit(films, pixels, chosen.seed, chosen.cache, chosen.rounds)
    np.save(folds_path(chosen.cache), told)
    network.labels.members = nn.ModuleList(members)
    network.save(chosen.model)


if __name__ == "__main__":
    main()
